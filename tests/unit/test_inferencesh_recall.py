"""Finding a task whose answer was lost: only where the list leaves no choice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest
import respx

from gateway.adapter import Landed, Unknown
from gateway.errors import InDoubt
from gateway.task import Envelope, Handle, Task
from gateway.testing.clock import FakeClock
from gateway.types import AttemptId
from gateway_inferencesh import InferenceshAdapter, InferenceshConfig

pytestmark = pytest.mark.anyio

API = "https://api.inference.sh"
BODY = {"app": "acme/chat@1a2b:answer", "setup": {"m": 1}, "infra": "cloud"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def adapter(clock: FakeClock) -> AsyncIterator[InferenceshAdapter]:
    config = InferenceshConfig.model_validate({"api_key": "k"})
    adapter = InferenceshAdapter("hosted", config, clock=clock)
    yield adapter
    await adapter.aclose()


@pytest.fixture
def wire() -> Any:
    with respx.mock(base_url=API, assert_all_called=False) as router:
        yield router


async def prepare(adapter: InferenceshAdapter, attempt: str = "a1", **target: Any) -> Envelope:
    return await adapter.prepare(
        Task(input={"text": "hi"}), {**BODY, **target}, attempt_id=AttemptId(attempt)
    )


def task(clock: FakeClock, job_id: str = "t1", *, seconds: float = 1.0, **changes: Any) -> dict[str, Any]:
    whole = {
        "id": job_id,
        "status": 7,
        "created_at": (clock.now() + timedelta(seconds=seconds)).isoformat(),
        "app_id": "app_1",
        "app": {"id": "app_1", "namespace": "acme", "name": "chat"},
        "app_version_id": "v1",
        "function": "answer",
        "input": {"text": "hi"},
        "setup": {"m": 1},
        "session_id": None,
        "infra": "cloud",
        "workers": [],
        "webhook": "",
        "run_at": None,
    }
    return {**whole, **changes}


def give(wire: Any, *pages: list[Any], date: datetime | None = None) -> Any:
    headers = {"date": format_datetime(date, usegmt=True)} if date else {}
    answers = [
        httpx2.Response(
            200,
            json={
                "data": {"items": items, "next_cursor": f"c{n}", "has_next": n + 1 < len(pages)},
                "messages": [],
            },
            headers=headers,
        )
        for n, items in enumerate(pages)
    ]
    return wire.post("/tasks/list").mock(side_effect=answers)


async def test_exactly_one(adapter: Any, wire: Any, clock: FakeClock) -> None:
    envelope = await prepare(adapter)
    other = task(clock, "t2", input={"text": "ho"})
    route = give(wire, [other, task(clock)])
    found = await adapter.recover(envelope)
    assert found == Landed(Handle("hosted", "t1"))
    asked = json.loads(route.calls[0].request.content)
    assert asked == {"limit": 100, "sort": [{"field": "created_at", "dir": "desc"}]}


@pytest.mark.parametrize(
    "changes",
    [
        {"input": {"text": "hi", "n": 1}},
        {"input": {"text": True}},
        {"function": "other"},
        {"app": {"namespace": "acme", "name": "draw"}},
        {"app": {"namespace": "other", "name": "chat"}},
        {"app": None},
        {"setup": {"m": 2}},
        {"setup": None},
        {"infra": "private"},
        {"workers": ["w1"]},
        {"webhook": "https://me.example"},
        {"session_id": "sess_1"},
        {"run_at": "2030-01-01T00:00:00Z"},
        {"created_at": None},
        {"id": None},
        {"seconds": -3600},
    ],
)
async def test_what_differs_is_not_it(
    adapter: Any, wire: Any, clock: FakeClock, changes: dict[str, Any]
) -> None:
    envelope = await prepare(adapter)
    give(wire, [task(clock, **changes)])
    assert isinstance(await adapter.recover(envelope), Unknown)


@pytest.mark.parametrize(
    ("target", "changes"),
    [
        ({"session": "new"}, {"session_id": "sess_1"}),
        ({"session": "sess_1"}, {"session_id": "sess_1"}),
        ({"run_at": "2031-01-01T00:00:00+01:00"}, {"run_at": "2030-12-31T23:00:00.000Z"}),
        ({"webhook": "https://me.example/"}, {"webhook": "https://me.example/"}),
        ({"workers": ["w1"]}, {"workers": ["w1"]}),
        ({}, {"app": "acme/chat@1a2b"}),
    ],
)
async def test_what_was_asked_for_is_found(
    adapter: Any, wire: Any, clock: FakeClock, target: Any, changes: Any
) -> None:
    envelope = await prepare(adapter, **target)
    give(wire, [task(clock, **changes)])
    assert isinstance(await adapter.recover(envelope), Landed)


async def test_by_app_id(adapter: Any, wire: Any, clock: FakeClock) -> None:
    target = {"app_id": "app_1", "function": "answer", "setup": {"m": 1}}
    envelope = await adapter.prepare(Task(input={"text": "hi"}), target, attempt_id=AttemptId("a1"))
    give(wire, [task(clock), task(clock, "t2", app_id="app_2")])
    assert await adapter.recover(envelope) == Landed(Handle("hosted", "t1"))


async def test_two_are_no_proof(adapter: Any, wire: Any, clock: FakeClock) -> None:
    envelope = await prepare(adapter)
    give(wire, [task(clock), task(clock, "t2")])
    found = await adapter.recover(envelope)
    assert isinstance(found, Unknown)
    assert "t1, t2" in found.reason


async def test_absence_is_no_proof(adapter: Any, wire: Any) -> None:
    envelope = await prepare(adapter)
    give(wire, [])
    assert isinstance(await adapter.recover(envelope), Unknown)


async def test_a_claimed_task_is_not_it(adapter: Any, wire: Any, clock: FakeClock) -> None:
    one, other = await prepare(adapter, "a1"), await prepare(adapter, "a2")
    created = task(clock, "t2")
    wire.post("/apps/run").mock(return_value=httpx2.Response(200, json=created))
    await adapter.submit(other)
    wire.post("/tasks/list").mock(
        return_value=httpx2.Response(200, json={"items": [task(clock), created], "has_next": False})
    )
    assert await adapter.recover(one) == Landed(Handle("hosted", "t1"))
    assert await adapter.recover(one) == Landed(Handle("hosted", "t1"))
    assert await adapter.recover(other) == Landed(Handle("hosted", "t2"))
    assert isinstance(await adapter.recover(await prepare(adapter, "a3")), Unknown)


async def test_a_task_that_is_followed_is_claimed_after_a_restart(
    adapter: Any, wire: Any, clock: FakeClock
) -> None:
    wire.get("/tasks/t1/status").mock(return_value=httpx2.Response(200, json={"status": 7}))
    await adapter.poll([Handle("hosted", "t1", {"attempt_id": "a0"})])
    give(wire, [task(clock)])
    assert isinstance(await adapter.recover(await prepare(adapter, "a1")), Unknown)


async def test_a_twin_under_way_may_be_the_one(adapter: Any, wire: Any, clock: FakeClock) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def answer(request: httpx2.Request) -> httpx2.Response:
        arrived.set()
        await go_on.wait()
        return httpx2.Response(200, json=task(clock))

    wire.post("/apps/run").mock(side_effect=answer)
    wire.post("/tasks/list").mock(
        return_value=httpx2.Response(200, json={"items": [task(clock)], "has_next": False})
    )
    lost = await prepare(adapter, "a2")
    async with asyncio.TaskGroup() as group:
        submitting = group.create_task(adapter.submit(await prepare(adapter, "a1")))
        await arrived.wait()
        found = await adapter.recover(lost)
        go_on.set()
    assert isinstance(found, Unknown)
    assert submitting.result().job_id == "t1"
    assert isinstance(await adapter.recover(lost), Unknown)


async def test_a_lost_answer_is_no_longer_under_way(adapter: Any, wire: Any, clock: FakeClock) -> None:
    wire.post("/apps/run").mock(side_effect=httpx2.ReadError("reset"))
    one, other = await prepare(adapter, "a1"), await prepare(adapter, "a2")
    for envelope in (one, other):
        with pytest.raises(InDoubt):
            await adapter.submit(envelope)
    give(wire, [task(clock)])
    assert isinstance(await adapter.recover(one), Landed)


@pytest.mark.parametrize("hours", [-5, 5])
async def test_a_wrong_clock_is_made_good_by_the_servers_date(
    adapter: Any, wire: Any, clock: FakeClock, hours: int
) -> None:
    envelope = await prepare(adapter)
    clock.advance(600)
    there = clock.now() + timedelta(hours=hours)
    made = (there - timedelta(seconds=599)).isoformat()
    early = (there - timedelta(seconds=660)).isoformat()
    give(wire, [task(clock, created_at=made), task(clock, "t0", created_at=early)], date=there)
    assert await adapter.recover(envelope) == Landed(Handle("hosted", "t1"))


async def test_pages(adapter: Any, wire: Any, clock: FakeClock) -> None:
    envelope = await prepare(adapter)
    route = give(wire, [task(clock, "t2", input=1)], [task(clock)], [task(clock, "t0", seconds=-3600)], [])
    assert await adapter.recover(envelope) == Landed(Handle("hosted", "t1"))
    assert route.call_count == 3  # a page with an older task is the last
    assert json.loads(route.calls[1].request.content)["cursor"] == "c0"


async def test_a_list_without_an_end(adapter: Any, wire: Any, clock: FakeClock) -> None:
    envelope = await prepare(adapter)
    give(wire, *[[task(clock, "t2", input=1)]] * 50)
    found = await adapter.recover(envelope)
    assert isinstance(found, Unknown)
    assert "more than" in found.reason


async def test_a_brief_list_is_completed_by_get(adapter: Any, wire: Any, clock: FakeClock) -> None:
    envelope = await prepare(adapter)
    brief = [
        {"id": name, "created_at": task(clock)["created_at"], "status": 7} for name in ("t1", "t2", "t3")
    ]
    give(wire, brief)
    wire.get("/tasks/t1").mock(return_value=httpx2.Response(200, json=task(clock)))
    wire.get("/tasks/t2").mock(return_value=httpx2.Response(200, json=task(clock, "t2", input=0)))
    wire.get("/tasks/t3").mock(return_value=httpx2.Response(404, json={}))
    assert await adapter.recover(envelope) == Landed(Handle("hosted", "t1"))


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.ConnectError("refused"),
        httpx2.Response(500, json={}),
        httpx2.Response(200, text="<html>"),
        httpx2.Response(200, json=[]),
        httpx2.Response(403, json={}),
        httpx2.Response(200, json={"items": None}),
    ],
)
async def test_a_list_that_cannot_be_had_proves_nothing(adapter: Any, wire: Any, answer: Any) -> None:
    how = {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
    wire.post("/tasks/list").mock(**how)
    assert isinstance(await adapter.recover(await prepare(adapter)), Unknown)
