"""Calls of a session, on a mocked wire: what they wait for was paid for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import respx

from gateway.testing.clock import FakeClock
from gateway_inferencesh import InferenceshAdapter, InferenceshConfig, KeyRefused

pytestmark = pytest.mark.anyio


@pytest.fixture
async def adapter() -> AsyncIterator[InferenceshAdapter]:
    config = InferenceshConfig.model_validate({"api_key": "inf_secret"})
    adapter = InferenceshAdapter("hosted", config, clock=FakeClock())
    yield adapter
    await adapter.aclose()


@pytest.fixture
def wire() -> Any:
    with respx.mock(base_url="https://api.inference.sh") as router:
        yield router


def ok(**task: Any) -> httpx2.Response:
    return httpx2.Response(200, json=task)


@pytest.mark.parametrize(
    "trouble",
    [
        httpx2.Response(503, headers={"retry-after": "7"}),
        httpx2.Response(429),
        httpx2.Response(502),
        httpx2.Response(200, text="<html>"),
        httpx2.ReadTimeout("slow"),
    ],
)
async def test_a_look_that_fails_does_not_end_a_call_of_a_session(
    adapter: InferenceshAdapter, wire: Any, trouble: Any
) -> None:
    """The call was paid for and runs: an error would lead to a second one, and to the session's end."""
    good = [ok(status=7), ok(status=10)]
    wire.get("/tasks/t1/status").mock(side_effect=[good[0], trouble, good[1]])
    wire.get("/tasks/t1").mock(return_value=ok(status=10, output=42))
    run = wire.post("/apps/run").mock(return_value=ok(id="t1", session_id="s1"))
    ended = wire.delete("/sessions/s1").mock(return_value=httpx2.Response(204))
    began = adapter.clock.monotonic()
    async with adapter.session({"app": "acme/chat"}) as session:
        assert (await session.run({})).output == 42
        assert not ended.called
    assert (run.call_count, ended.call_count) == (1, 1)
    has_asked = isinstance(trouble, httpx2.Response) and "retry-after" in trouble.headers
    assert (adapter.clock.monotonic() - began >= 7) is has_asked


async def test_a_look_that_is_refused_ends_the_waiting(adapter: InferenceshAdapter, wire: Any) -> None:
    wire.get("/tasks/t1/status").mock(return_value=httpx2.Response(401))
    wire.post("/apps/run").mock(return_value=ok(id="t1"))
    with pytest.raises(KeyRefused) as caught:
        await adapter.session({"app": "acme/chat"}).run({})
    assert caught.value.job_id == "t1"
