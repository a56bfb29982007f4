from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from gateway.task import Handle, Task
from gateway.testing import AdapterConformance, ConformanceCase, Sample
from pydantic import SecretStr
from queue_service import TOKEN, QueueService

from gateway_queue import QueueAdapter, QueueConfig
from gateway_queue.wire import FAILURE, STATUS, State


@pytest.fixture
def service() -> Iterator[QueueService]:
    service = QueueService()
    yield service
    service.stop()


def make_adapter(service: QueueService) -> QueueAdapter:
    return QueueAdapter("my-queue", QueueConfig(url=service.url, token=SecretStr(TOKEN)))


class TestQueueAdapter(AdapterConformance):
    @pytest.fixture
    async def adapter(self, service: QueueService) -> AsyncIterator[QueueAdapter]:
        adapter = make_adapter(service)
        yield adapter
        await adapter.aclose()

    @pytest.fixture
    def case(self, service: QueueService) -> ConformanceCase:
        def sample(app: str) -> Sample:
            return Sample(task=Task(input={"text": "hello"}), target={"app": app})

        return ConformanceCase(
            good=sample("upper"),
            expected={"text": "HELLO"},
            failing=sample("broken"),
            slow=sample("slow"),
            refused=sample("no-such-app"),
            bad_target={"app": ""},
            unknown=Handle("my-queue", "a-job-that-never-was"),
            accepted=lambda: len(service.accepted),
            go_down=service.stop,
            come_back=service.start,
            lose_answer=service.lose_answer,
            make_adapter=lambda: make_adapter(service),
            secrets=(TOKEN,),
        )


def test_every_state_is_translated() -> None:
    assert set(STATUS) == set(State)
    assert set(FAILURE) == {state for state in State if STATUS[state].phase == "failed"}
