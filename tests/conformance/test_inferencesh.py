"""The inference.sh adapter keeps the promises of the seam, in all generations of the API's answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.devnet.faults import Fault, Operation
from gateway.devnet.inferencesh import InferenceshApi
from gateway.task import Handle, Task
from gateway.testing.case import ConformanceCase, Sample
from gateway.testing.conformance import AdapterConformance
from gateway_inferencesh import InferenceshAdapter, InferenceshConfig

NAME = "hosted"
KEY = "inf_secret_of_the_test"


@pytest.fixture(params=["v1", "v2", "v3", "superset"])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[InferenceshApi]:
    api = InferenceshApi(NAME, api_key=KEY, envelope=request.param)
    await api.start()
    yield api
    await api.stop()


class TestInferenceshAdapter(AdapterConformance):
    @pytest.fixture
    def case(self, api: InferenceshApi) -> ConformanceCase:
        def sample(app: str, input: object) -> Sample:
            return Sample(task=Task(input=input), target={"app": f"demo/{app}"})

        return ConformanceCase(
            good=sample("echo", {"text": "hello"}),
            expected={"text": "hello"},
            bad_target={"app": "no-namespace"},
            accepted=lambda: len(api.journal),
            failing=sample("fail", {"message": "oh"}),
            slow=sample("sleep", {"seconds": 0.3}),
            refused=sample("needs-secret", {}),
            unknown=Handle(NAME, "task_that_never_was"),
            go_down=api.stop,
            come_back=api.start,
            lose_answer=lambda: api.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT),
            make_adapter=lambda: make_adapter(api),
            secrets=(KEY,),
        )

    @pytest.fixture
    async def adapter(self, api: InferenceshApi) -> AsyncIterator[InferenceshAdapter]:
        adapter = make_adapter(api)
        yield adapter
        await adapter.aclose()


def make_adapter(api: InferenceshApi) -> InferenceshAdapter:
    return InferenceshAdapter(NAME, InferenceshConfig.model_validate({"url": api.url, "api_key": KEY}))
