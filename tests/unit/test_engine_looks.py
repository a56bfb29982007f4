"""Looks at jobs: none waits for what another found to be written, and no job is in two of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from engine_setup import make_task, open_gateway

from gateway import Status
from gateway.engine import watch
from gateway.engine.ending import Ending
from gateway.engine.live import Live
from gateway.task import Handle, Snapshot
from gateway.testing import FakeAdapter, FakeClock

pytestmark = pytest.mark.anyio


class Watched(FakeAdapter):
    """Keeps which jobs are being looked at, and can hang at its first look."""

    def __init__(self, clock: FakeClock, seconds: float, *, hangs: bool = False) -> None:
        super().__init__("a", clock=clock, steps=[(seconds, Status.COMPLETED)])
        self.looks: list[list[str]] = []
        self.under_way: set[str] = set()
        self.hangs = hangs

    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        ids = [handle.job_id for handle in handles]
        assert not self.under_way & set(ids), "a job is looked at twice at a time"
        self.looks.append(ids)
        self.under_way |= set(ids)
        try:
            if self.hangs and len(self.looks) == 1:
                await asyncio.Event().wait()
            return await super().poll(handles)
        finally:
            self.under_way -= set(ids)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> dict[str, asyncio.Event]:
    """Runs whose end is written down only when the event is set."""
    events: dict[str, asyncio.Event] = {}
    end_attempt = Ending.end_attempt

    async def end_later(self: Ending, live: Live, snapshot: Snapshot) -> None:
        if live.run.id in events:
            await events[live.run.id].wait()
        await end_attempt(self, live, snapshot)

    monkeypatch.setattr(Ending, "end_attempt", end_later)
    return events


async def test_what_takes_long_to_write_down_makes_no_other_job_late(held: dict[str, asyncio.Event]) -> None:
    clock = FakeClock()
    a = Watched(clock, 5.0)
    async with open_gateway(a, clock=clock) as gateway:
        slow = await gateway.submit(make_task("slow"))
        held[slow.id] = asyncio.Event()
        await clock.sleep(10)
        quick = await gateway.submit(make_task("quick"))
        await clock.sleep(10)
        assert (await gateway.get(quick.id)).status is Status.COMPLETED
        assert (await gateway.get(slow.id)).status is not Status.COMPLETED
        first, second = dict.fromkeys(job_id for ids in a.looks for job_id in ids)
        assert max(n for n, ids in enumerate(a.looks) if first in ids) < min(
            n for n, ids in enumerate(a.looks) if second in ids
        ), "it was looked at again while its end was written down"
        held[slow.id].set()
        assert (await gateway.wait(slow.id)).status is Status.COMPLETED


async def test_a_wish_to_look_again_is_kept_while_a_look_is_written_down(
    held: dict[str, asyncio.Event],
) -> None:
    clock = FakeClock()
    a = Watched(clock, 5.0)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.submit(make_task())
        held[run.id] = asyncio.Event()
        await clock.sleep(10)
        live = gateway._engine.get_live(run.id)
        assert live is not None
        looks = len(a.looks)
        watcher = gateway._engine._worker._watchers["a"]
        watcher.look_soon(live, 0.0)
        await clock.sleep(10)
        assert len(a.looks) == looks
        assert watcher._in_hand == {live: 0.0}
        held[run.id].set()
        await gateway.wait(run.id)
        assert (watcher._in_hand, len(watcher._due)) == ({}, 0)


async def test_a_look_that_hangs_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PATIENCE_SECONDS", 0.01)
    clock = FakeClock(settle_seconds=0.03)
    a = Watched(clock, 5.0, hangs=True)
    async with open_gateway(a, clock=clock) as gateway:
        await gateway.submit(make_task("hangs"))
        while not a.looks:  # noqa: ASYNC110  a fake backend tells nobody
            await asyncio.sleep(0)
        run = await gateway.submit(make_task("goes on"))
        assert (await gateway.wait(run.id)).status is Status.COMPLETED


async def test_an_unknown_model_is_looked_at_at_once_and_then_when_its_jobs_end() -> None:
    clock = FakeClock()
    a = Watched(clock, 60.0)
    async with open_gateway(a, clock=clock) as gateway:
        late, looks = [], []
        for number in range(4):
            before, began = len(a.looks), clock.monotonic()
            await gateway.run(make_task(str(number)))
            late.append(clock.monotonic() - began - 60.0)
            looks.append(len(a.looks) - before)
    assert max(late[1:]) <= 1.0
    assert late[-1] <= 0.3
    assert looks[-1] <= 15 < looks[0]
