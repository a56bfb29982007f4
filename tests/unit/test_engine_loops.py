"""What the engine does in the background goes on, whatever one round of it or one run meets; it is said."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from engine_setup import make_task, open_gateway

from gateway import Limits, Run, Status, Task
from gateway.adapter import CancelOutcome
from gateway.engine.cleaning import Cleaner
from gateway.engine.reception import Reception
from gateway.store.archive import Pruning
from gateway.store.memory import MemoryStore
from gateway.store.protocol import LEASE_LASTS, Claimed, Wish
from gateway.task import Handle
from gateway.testing import FakeAdapter, FakeClock

pytestmark = pytest.mark.anyio

LONG: list[tuple[float, Status]] = [(600.0, Status.COMPLETED)]


class BrokenStore(MemoryStore):
    """A store with a defect: it raises what no store may raise, when it is told to."""

    breaks: frozenset[str] = frozenset()

    def _meet(self, name: str) -> None:
        if name in self.breaks:
            raise ValueError(f"{name} has a defect")

    async def beat(self, *args: Any, **words: Any) -> None:
        self._meet("beat")
        await super().beat(*args, **words)

    async def list_wishes(self, owner: str) -> list[Wish]:
        self._meet("list_wishes")
        return await super().list_wishes(owner)


async def leave_landed(store: MemoryStore, clock: FakeClock, count: int) -> tuple[FakeAdapter, list[Run]]:
    """Have runs land, and give them back."""
    adapter = FakeAdapter("a", clock=clock, steps=LONG)
    async with open_gateway(adapter, clock=clock, store=store) as gateway:
        runs = [await gateway.submit(make_task(str(number))) for number in range(count)]
        await clock.sleep(5)
    return adapter, runs


@pytest.mark.parametrize("what", ["beat", "list_wishes"])
async def test_a_defect_does_not_end_the_keeper(what: str, caplog: pytest.LogCaptureFixture) -> None:
    clock, store = FakeClock(), BrokenStore()
    adapter = FakeAdapter("a", clock=clock, steps=LONG)
    async with open_gateway(adapter, clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task())
        store.breaks = frozenset({what})
        await clock.sleep(20)
        store.breaks = frozenset()
        await store.wish(Wish(run.id, cancel_at=clock.now()))
        await clock.sleep(20)
        assert (await gateway.get(run.id)).status is Status.CANCELLED
    assert f"{what} has a defect" in caplog.text


async def test_one_wish_that_can_not_be_carried_out_is_no_matter_for_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stubborn(FakeAdapter):
        async def cancel(self, handle: Handle) -> CancelOutcome:
            if handle.job_id == next(iter(self.backend.jobs)):
                raise ValueError("no idea how")
            return await super().cancel(handle)

    clock, store = FakeClock(), MemoryStore()
    adapter = Stubborn("a", clock=clock, steps=LONG)
    async with open_gateway(adapter, clock=clock, store=store) as gateway:
        runs = [await gateway.submit(make_task(str(number))) for number in range(3)]
        await clock.sleep(5)
        for run in runs:
            await store.wish(Wish(run.id, cancel_at=clock.now()))
        await clock.sleep(5)
        found = [(await gateway.get(run.id)).status for run in runs]
    assert found[1:] == [Status.CANCELLED] * 2
    assert "no idea how" in caplog.text


async def test_a_backend_that_takes_its_time_over_cancels_delays_nobody_else() -> None:
    class Slow(FakeAdapter):
        async def cancel(self, handle: Handle) -> CancelOutcome:
            await asyncio.Event().wait()
            return await super().cancel(handle)

    clock, store = FakeClock(), MemoryStore()
    first, left = await leave_landed(store, clock, 1)
    slow, again = Slow("b", clock=clock, steps=LONG), FakeAdapter("a", clock=clock, backend=first.backend)
    other = MemoryStore()
    async with open_gateway(slow, again, clock=clock, store=other) as gateway:
        stuck = [await gateway.submit(make_task(str(number)), "b") for number in range(3)]
        quick = await gateway.submit(make_task(), "a")
        await clock.sleep(5)
        for run in (*stuck, quick):
            await other.wish(Wish(run.id, cancel_at=clock.now()))
        await clock.sleep(5)
        assert (await gateway.get(quick.id)).status is Status.CANCELLED
        orphan = await store.get(left[0].id)
        await other.create(orphan, owner="somebody who is no more")
        await clock.sleep(5)
        assert gateway.hosting.works_on(orphan.id)


async def test_one_run_that_can_not_be_taken_over_is_no_matter_for_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lay_limits = Reception.lay_limits

    def stumble(self: Reception, task: Task, **words: Any) -> Limits:
        if task.input == {"text": "0"}:
            raise ValueError("what limits?")
        return lay_limits(self, task, **words)

    clock, store = FakeClock(), MemoryStore()
    first, runs = await leave_landed(store, clock, 3)
    monkeypatch.setattr(Reception, "lay_limits", stumble)
    again = FakeAdapter("a", clock=clock, backend=first.backend)
    async with open_gateway(again, clock=clock, store=store) as gateway:
        for run in runs[1:]:
            assert (await gateway.wait(run.id)).status is Status.COMPLETED
    assert f"taking run {runs[0].id} over met a defect" in caplog.text


async def test_a_defect_does_not_end_a_watcher(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    adapter = FakeAdapter("a", clock=clock, steps=LONG)
    async with open_gateway(adapter, clock=clock) as gateway:
        run = await gateway.submit(make_task())
        await clock.sleep(5)
        with monkeypatch.context() as patched:
            watcher = gateway._engine._worker._watchers["a"]
            patched.setattr(watcher, "_poll", None)
            await clock.sleep(60)
        assert (await gateway.wait(run.id)).status is Status.COMPLETED
    assert "watching the jobs of a met a defect" in caplog.text


async def test_a_defect_does_not_end_the_pruning(caplog: pytest.LogCaptureFixture) -> None:
    clock, store, asked = FakeClock(), MemoryStore(), []

    async def prune(which: Pruning, *, limit: int) -> int:
        asked.append((which, limit))
        if len(asked) == 1:
            raise ValueError("what is a run?")
        return 0

    store.archive.prune = prune  # type: ignore[method-assign]  # the defect
    cleaner = Cleaner(store, clock, timedelta(days=1))
    cleaner.start()
    await clock.sleep(7300)
    await cleaner.stop()
    assert len(asked) > 1
    assert "what is a run?" in caplog.text


async def test_who_has_much_to_take_over_gives_signs_of_life_meanwhile() -> None:
    class Full(MemoryStore):
        beats = 0

        async def beat(self, *args: Any, **words: Any) -> None:
            self.beats += 1
            await super().beat(*args, **words)

        async def claim(self, *args: Any, **words: Any) -> list[Claimed]:
            await clock.sleep(60)
            return await super().claim(*args, **words)

    clock, store = FakeClock(), Full()
    async with open_gateway(FakeAdapter("a", clock=clock), clock=clock, store=store):
        assert store.beats > 60 / LEASE_LASTS.total_seconds()


async def test_jobs_that_had_landed_are_taken_over_without_a_task_for_each() -> None:
    clock, store = FakeClock(), MemoryStore()
    first, runs = await leave_landed(store, clock, 100)
    again = FakeAdapter("a", clock=clock, backend=first.backend)
    before, most = len(asyncio.all_tasks()), 0
    async with open_gateway(again, clock=clock, store=store) as gateway:
        most = max(most, len(asyncio.all_tasks()))
        await clock.sleep(1)
        most = max(most, len(asyncio.all_tasks()))
        assert most - before < 20
        for run in runs:
            assert (await gateway.wait(run.id)).status is Status.COMPLETED
    assert len(first.accepted) == 100
