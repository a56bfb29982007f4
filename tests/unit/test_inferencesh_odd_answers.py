"""Answers that are JSON, and that a strict reader or our own stores can't take: their tasks were paid for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import respx

from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle, Task
from gateway.testing.clock import FakeClock
from gateway.types import AttemptId, Money
from gateway_inferencesh import InferenceshAdapter, InferenceshConfig

pytestmark = pytest.mark.anyio

JOB = Handle("hosted", "t1")
TOO_DEEP = b"[" * 300 + b"]" * 300


@pytest.fixture
async def adapter() -> AsyncIterator[InferenceshAdapter]:
    config = InferenceshConfig.model_validate({"api_key": "inf_secret"})
    adapter = InferenceshAdapter("hosted", config, clock=FakeClock())
    yield adapter
    await adapter.aclose()


@pytest.fixture
def wire() -> Any:
    with respx.mock(base_url="https://api.inference.sh", assert_all_called=False) as router:
        router.get("/tasks/t1/status").mock(return_value=say(b'{"id": "t1", "status": 10}'))
        yield router


def say(body: bytes) -> httpx2.Response:
    return httpx2.Response(200, content=body, headers={"content-type": "application/json"})


@pytest.mark.parametrize("half", [b'"\\ud83d!"', b'"\xf0\x9f!"'])
async def test_half_a_character_costs_no_result(adapter: InferenceshAdapter, wire: Any, half: bytes) -> None:
    body = b'{"data": {"id": "t1", "status": 10, "output": {"text": %b}}, "messages": []}' % half
    wire.get("/tasks/t1").mock(return_value=say(body))
    snapshot = (await adapter.poll([JOB]))[JOB]
    assert (snapshot.status, snapshot.output) == (Status.COMPLETED, {"text": "\ufffd!"})


@pytest.mark.parametrize("output", [TOO_DEEP, b"1" * 5000])
async def test_an_output_that_cannot_be_kept_is_an_end(
    adapter: InferenceshAdapter, wire: Any, output: bytes
) -> None:
    body = b'{"id": "t1", "status": 10, "usage_events": [{"microcents": 7}], "output": %b}' % output
    wire.get("/tasks/t1").mock(return_value=say(body))
    snapshot = (await adapter.poll([JOB]))[JOB]
    assert snapshot.failure is not None
    assert snapshot.cost is not None
    assert (snapshot.status, snapshot.failure.kind) == (Status.FAILED, FailureKind.MISBEHAVED)
    assert snapshot.cost.settled == Money(7, "USD")
    assert snapshot.model_dump_json()


async def test_a_log_that_cannot_be_kept_costs_no_result(adapter: InferenceshAdapter, wire: Any) -> None:
    wire.get("/tasks/t1").mock(return_value=say(b'{"status": 10, "output": 1, "logs": %b}' % TOO_DEEP))
    snapshot = (await adapter.poll([JOB]))[JOB]
    assert (snapshot.status, snapshot.output, snapshot.detail) == (Status.COMPLETED, 1, {})


async def test_an_echo_that_cannot_be_kept_leaves_no_doubt(adapter: InferenceshAdapter, wire: Any) -> None:
    wire.post("/apps/run").mock(return_value=say(b'{"id": "t1", "status": 1, "input": %b}' % TOO_DEEP))
    envelope = await adapter.prepare(Task(input={}), {"app": "acme/chat"}, attempt_id=AttemptId("a1"))
    assert (await adapter.submit(envelope)).job_id == "t1"
