"""Several parts of the engine want to change one run whose job goes on, at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.catalogue import Catalogue
from gateway.clock import SystemClock
from gateway.engine.ending import Ending
from gateway.engine.journal import Journal
from gateway.engine.live import Live
from gateway.engine.planner import Planner
from gateway.lifecycle import AttemptStatus, Status
from gateway.limits import Limits
from gateway.policy.routing import Selector
from gateway.store.protocol import FIRST_FENCE
from gateway.store.sqlite import SqliteStore
from gateway.task import Attempt, Handle, Run, Snapshot, Task
from gateway.types import AttemptId, RunId

pytestmark = pytest.mark.anyio
CLOCK = SystemClock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "runs.db")
    await store.open()
    yield store
    await store.aclose()


@pytest.fixture
def journal(store: SqliteStore) -> Journal:
    return Journal(store, CLOCK, "me")


@pytest.fixture
def ending(journal: Journal) -> Ending:
    catalogue = Catalogue({}, {})
    return Ending(catalogue, Planner({}, catalogue, CLOCK), journal, CLOCK, lambda live: None)


@pytest.fixture
async def live(journal: Journal) -> Live:
    """A run whose job has landed."""
    now = CLOCK.now()
    attempt: dict[str, Any] = {"id": AttemptId("a"), "number": 1, "backend": "b", "address": "", "target": {}}
    attempt |= {"status": AttemptStatus.SUBMITTED, "handle": Handle("b", "job"), "created_at": now}
    run = Run(
        id=RunId("run_1"),
        task=Task(model="m"),
        backend="auto",
        status=Status.DISPATCHED,
        created_at=now,
        updated_at=now,
        attempts=(Attempt(**attempt),),
    )
    live = Live(run=run, fence=FIRST_FENCE, selector=Selector.parse("auto"), limits=Limits())
    await journal.create(live)
    return live


async def test_two_looks_at_once_are_both_written(live: Live, journal: Journal, store: SqliteStore) -> None:
    looks = [Snapshot(status=Status.RUNNING, message=f"at {number} %") for number in (10, 20)]
    assert await asyncio.gather(*(journal.note(live, look) for look in looks)) == [True, True]
    told = [event.snapshot.message for event in await store.list_events("run_1") if event.snapshot]
    assert told == ["at 10 %", "at 20 %"]
    assert (await store.get("run_1")).attempts[0].snapshot == looks[1]


async def test_an_end_and_a_cancel_at_once_make_one_end(
    live: Live, ending: Ending, store: SqliteStore
) -> None:
    done = Snapshot(status=Status.COMPLETED, output="the answer")
    await asyncio.gather(ending.end_attempt(live, done), ending.abandon(live))
    ends = [event.status for event in await store.list_events("run_1") if event.kind == "end"]
    assert ends == [Status.COMPLETED]
    run = await store.get("run_1")
    assert (run.status, run.output) == (Status.COMPLETED, "the answer")


async def test_a_late_look_does_not_bring_an_ended_run_back(
    live: Live, ending: Ending, journal: Journal, store: SqliteStore
) -> None:
    late = Snapshot(status=Status.RUNNING, message="still at it")
    _, noted = await asyncio.gather(ending.abandon(live), journal.note(live, late))
    assert not noted
    run = await store.get("run_1")
    assert (run.status, run.attempts[0].status) == (Status.CANCELLED, AttemptStatus.CANCELLED)
