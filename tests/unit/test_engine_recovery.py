"""After a crash: every run goes on where its last stored line says, at the backend that took it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from engine_setup import make_task, open_gateway

from gateway import AsyncGateway, FailureKind, Run, RunFailed, Status, Task
from gateway.errors import RunTakenOver, StoreError, Unavailable
from gateway.lifecycle import AttemptStatus
from gateway.policy.budget import Accounting, Budget
from gateway.store.memory import MemoryStore
from gateway.task import Quote
from gateway.testing import FakeAdapter, FakeClock, FakeConfig
from gateway.types import JSON, Money

pytestmark = pytest.mark.anyio


class DyingStore(MemoryStore):
    """A store whose process dies: after `writes` more writes nothing is written any more, for ever."""

    def __init__(self, rows: MemoryStore, writes: int) -> None:
        super().__init__()
        self._rows, self._intake = rows._rows, rows._intake
        self.writes = writes

    def save(self, run: Run, **kwargs: Any) -> Awaitable[None]:
        if self.writes <= 0:
            return asyncio.get_running_loop().create_future()
        self.writes -= 1
        return super().save(run, **kwargs)

    async def release(self, owner: str) -> None:
        """A dead process releases nothing."""


def refuse(why: str) -> asyncio.Future[None]:
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    refused.set_exception(StoreError(why))
    return refused


def make_gateway(adapter: FakeAdapter, store: MemoryStore, clock: FakeClock) -> AsyncGateway:
    targets = {adapter.name: {"app": "echo"}}
    return AsyncGateway([adapter], {"m": {"targets": targets}}, store=store, clock=clock)


async def die(gateway: AsyncGateway) -> None:
    """Stop everything at once, as a killed process does."""
    engine = gateway._engine
    tasks = [*engine._worker._driving, *engine._worker._watching, *engine._keeper.tasks]
    for watcher in engine._worker._watchers.values():
        tasks += [*watcher._tasks, *watcher._following._followers]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("writes", range(6))
@pytest.mark.parametrize("fault", [None, "lose_answer", "lose_request"])
async def test_a_run_survives_death_after_every_write(writes: int, fault: str | None) -> None:
    clock = FakeClock()
    store = MemoryStore()
    first = FakeAdapter("a", clock=clock)
    if fault is not None:
        first.arm(fault)
    gateway = make_gateway(first, DyingStore(store, writes), clock)
    run = await gateway.submit(make_task())
    await clock.sleep(60)
    await die(gateway)

    second = FakeAdapter("a", clock=clock, backend=first.backend)
    async with make_gateway(second, store, clock) as later:
        await clock.sleep(60)  # until the dead owner's lease is over
        run = await later.wait(run.id)
    assert run.status is Status.COMPLETED
    assert len(first.accepted) == 1
    assert [attempt.status for attempt in run.attempts] == [AttemptStatus.SUCCEEDED]


def make_later(adapter: FakeAdapter, store: MemoryStore, clock: FakeClock) -> AsyncGateway:
    """Make a gateway whose configuration now says for the model what some of its tasks contradict."""
    models = {"m": {"targets": {adapter.name: {"app": "echo"}}, "ignore": ["a"]}}
    return AsyncGateway([adapter], models, store=store, clock=clock)


@pytest.mark.parametrize("copies", [{}, {"hedge": 2, "idempotent": True}])
async def test_limits_that_contradict_since_end_one_run_and_no_other(copies: dict[str, Any]) -> None:
    clock = FakeClock()
    store = MemoryStore()
    first = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    gateway = make_gateway(first, DyingStore(store, 0), clock)
    wrong = await gateway.submit(make_task(only=("a",), **copies))
    right = await gateway.submit(make_task("fine", on_doubt="fail"))
    await die(gateway)

    second = FakeAdapter("a", clock=clock, backend=first.backend)
    async with make_later(second, store, clock) as later:
        await clock.sleep(60)
        ended = await later.get(wrong.id)
        assert ended.failure is not None
        assert (ended.status, ended.failure.kind) == (Status.FAILED, FailureKind.REJECTED)
        assert "only=('a',) and ignore=('a',) name the same backend" in ended.failure.message
        other = await later.get(right.id)
    assert other.failure is not None
    assert other.failure.kind is FailureKind.NO_BACKEND  # it was planned: its only backend is to be ignored
    assert second.accepted == []


async def test_a_job_that_is_there_is_followed_whatever_the_limits_say_now() -> None:
    clock = FakeClock()
    store = MemoryStore()
    first = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    gateway = make_gateway(first, store, clock)
    run = await gateway.submit(make_task(only=("a",), on_failed="next"))
    await clock.sleep(5)
    await gateway.aclose()

    async with make_later(FakeAdapter("a", clock=clock, backend=first.backend), store, clock) as later:
        assert (await later.wait(run.id)).status is Status.COMPLETED
    assert len(first.accepted) == 1


async def test_recover_tells_what_was_found() -> None:
    clock = FakeClock()
    store = MemoryStore()
    first = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    gateway = make_gateway(first, store, clock)
    run = await gateway.submit(make_task())
    await clock.sleep(5)
    await gateway.aclose()

    async with make_gateway(FakeAdapter("a", clock=clock, backend=first.backend), store, clock) as later:
        found = await later.recover()
        assert [(x.run_id, x.backend, x.found) for x in found] == [(run.id, "a", "attempt 1 submitted")]
        assert await later.recover() == []
        assert (await later.wait(run.id)).status is Status.COMPLETED
    assert len(first.accepted) == 1


async def test_a_name_that_means_another_backend_now_is_never_asked() -> None:
    class Moved(FakeAdapter):
        address = "http://127.0.0.1:2"

    clock = FakeClock()
    store = MemoryStore()
    gateway = make_gateway(FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)]), store, clock)
    run = await gateway.submit(make_task())
    await clock.sleep(5)
    await gateway.aclose()

    moved = Moved("a", clock=clock)
    async with make_gateway(moved, store, clock) as later:
        found = await later.recover()
        await clock.sleep(60)
        assert not (await later.get(run.id)).status.is_final
    assert [x.run_id for x in found] == [run.id]
    assert "left alone" in found[0].action
    assert moved.calls["poll"] + moved.calls["submit"] + moved.calls["recover"] == 0


async def test_two_gateways_share_a_store_and_one_takes_over_the_other() -> None:
    clock = FakeClock()
    store = MemoryStore()
    first = FakeAdapter("a", clock=clock, steps=[(100.0, Status.COMPLETED)])
    sleeper = make_gateway(first, store, clock)
    run = await sleeper.submit(make_task())
    await clock.sleep(1)
    for task in sleeper._engine._keeper.tasks:  # a paused process: it does nothing, but it is not dead
        task.cancel()
    async with make_gateway(FakeAdapter("a", clock=clock, backend=first.backend), store, clock) as other:
        await clock.sleep(30)
        assert other._engine.get_live(run.id) is not None
        assert (await other.wait(run.id)).status is Status.COMPLETED
        live = sleeper._engine.get_live(run.id)
        if live is not None:
            with pytest.raises(RunTakenOver):
                await sleeper._engine._journal.save(live, status=Status.RUNNING)
        assert (await sleeper.wait(run.id)).status is Status.COMPLETED
    await die(sleeper)
    assert len(first.accepted) == 1


async def test_another_process_waits_for_and_cancels_a_run_that_is_not_its_own() -> None:
    clock = FakeClock()
    store = MemoryStore()
    a = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    async with open_gateway(a, clock=clock, store=store) as owner:
        run = await owner.submit(make_task())
        await clock.sleep(1)
        other = make_gateway(FakeAdapter("a", clock=clock, backend=a.backend), store, clock)
        async with other:
            assert (await other.cancel(run.id)).cancel_requested_at is not None
            events = [event async for event in other.events(run.id)]
        assert events[-1].status is Status.CANCELLED
        assert (await owner.get(run.id)).status is Status.CANCELLED
    assert a.calls["cancel"] == 1


async def test_nothing_is_submitted_that_could_not_be_written_down() -> None:
    class FullStore(MemoryStore):
        full = False

        def save(self, run: Run, **kwargs: Any) -> Awaitable[None]:
            return refuse("no space left on device") if self.full else super().save(run, **kwargs)

    clock = FakeClock()
    store = FullStore()
    a = FakeAdapter("a", clock=clock)
    async with open_gateway(a, clock=clock, store=store) as gateway:
        store.full = True
        run = await gateway.submit(make_task())
        await clock.sleep(300)
        assert a.calls["submit"] == 0
        store.full = False
        run = await gateway.wait(run.id)
    assert (run.status, len(a.accepted)) == (Status.COMPLETED, 1)


async def test_a_store_that_is_full_at_the_end_loses_no_result() -> None:
    class FullStore(MemoryStore):
        full = False

        def save(self, run: Run, **kwargs: Any) -> Awaitable[None]:
            if self.full and run.status.is_final:
                return refuse("no space left on device")
            return super().save(run, **kwargs)

    clock = FakeClock()
    store = FullStore()
    a = FakeAdapter("a", clock=clock)
    async with open_gateway(a, clock=clock, store=store) as gateway:
        store.full = True
        run = await gateway.submit(make_task())
        await clock.sleep(300)
        store.full = False
        run = await gateway.wait(run.id)
    assert (run.status, run.output, len(a.accepted)) == (Status.COMPLETED, {"text": "hello"}, 1)


async def test_a_cancelled_wait_leaves_the_run_going() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(60.0, Status.COMPLETED)])
    async with open_gateway(a, clock=clock) as gateway:
        waiting = asyncio.create_task(gateway.run(make_task()))
        await clock.sleep(10)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        (run,) = await gateway.list_runs()
        assert (await gateway.wait(run.id)).status is Status.COMPLETED
    assert replace(run, attempts=()).id == run.id


async def test_closing_lets_a_submission_land_and_waits_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.engine.worker._FINISH_SENDING_SECONDS", 3600.0)
    clock = FakeClock()
    store = MemoryStore()
    a = FakeAdapter("a", FakeConfig(latency_seconds=0.2), clock=clock)
    gateway = make_gateway(a, store, clock)
    run = await gateway.submit(make_task())
    await gateway.aclose()
    run = await store.get(run.id)
    assert run.attempts[0].status is AttemptStatus.SUBMITTED

    b = FakeAdapter("a", clock=clock, retry_after_seconds=3600.0)
    b.arm("throttle", 100)
    waiting = make_gateway(b, MemoryStore(), clock)
    await waiting.submit(make_task())
    await clock.sleep(5)
    async with asyncio.timeout(60):
        await waiting.aclose()


@pytest.mark.parametrize("fails_at", [1, 2])
async def test_what_was_claimed_while_the_store_failed_is_worked_on_when_it_is_back(fails_at: int) -> None:
    class GoneStore(MemoryStore):
        """A store that is away while a claimed run is ended that can't go on."""

        writes = 0

        async def save(self, run: Run, **words: Any) -> None:
            self.writes += 1
            if fails_at <= self.writes < fails_at + 2:
                raise StoreError("the database is away")
            await super().save(run, **words)

    clock, store = FakeClock(), MemoryStore()
    first = FakeAdapter("a", clock=clock)
    gateway = make_gateway(first, DyingStore(store, 0), clock)
    runs = [await gateway.submit(make_task(str(number), only=("a",))) for number in range(3)]
    await die(gateway)

    away = GoneStore()
    away._rows, away._beats, away._intake = store._rows, store._beats, store._intake
    later = make_later(FakeAdapter("a", clock=clock, backend=first.backend), away, clock)
    for _ in range(2):
        with pytest.raises(StoreError):
            await later._engine.start()
    async with later:
        await clock.sleep(120)
        found = [await later.get(run.id) for run in runs]
    assert [run.status for run in found] == [Status.FAILED] * 3


async def leave_stored(store: MemoryStore, clock: FakeClock, **limits: Any) -> Run:
    """Store a run, and die before anything is sent."""
    gateway = make_gateway(FakeAdapter("a", clock=clock), DyingStore(store, 0), clock)
    run = await gateway.submit(make_task(**limits))
    await die(gateway)
    await clock.sleep(60)  # until the dead owner's lease is over
    return run


async def test_a_stored_run_waits_for_a_backend_that_comes_up_after_the_gateway() -> None:
    clock, store = FakeClock(), MemoryStore()
    run = await leave_stored(store, clock)
    later = FakeAdapter("a", clock=clock)
    later.backend.is_down = True
    async with make_gateway(later, store, clock) as gateway:
        await clock.sleep(300)
        assert not (await gateway.get(run.id)).status.is_final
        later.backend.is_down = False
        assert (await gateway.wait(run.id)).status is Status.COMPLETED
    assert len(later.accepted) == 1


@pytest.mark.parametrize(
    ("deadline", "kind"),
    [(None, FailureKind.NO_BACKEND), (timedelta(minutes=3), FailureKind.DEADLINE)],
)
async def test_a_stored_run_does_not_wait_for_ever(deadline: timedelta | None, kind: FailureKind) -> None:
    clock, store = FakeClock(), MemoryStore()
    run = await leave_stored(store, clock, deadline=deadline)
    later = FakeAdapter("a", clock=clock)
    later.backend.is_down = True
    async with make_gateway(later, store, clock) as gateway:
        with pytest.raises(RunFailed) as failed:
            await gateway.wait(run.id)
    assert failed.value.run.failure is not None
    assert failed.value.run.failure.kind is kind


async def test_a_run_that_was_refused_before_the_restart_is_tried_again() -> None:
    clock, store = FakeClock(), MemoryStore()
    first = FakeAdapter("a", clock=clock)
    first.arm("refuse")
    gateway = make_gateway(first, DyingStore(store, 2), clock)  # the envelope, the refusal, and no more
    run = await gateway.submit(make_task())
    await clock.sleep(60)
    assert [attempt.status for attempt in (await store.get(run.id)).attempts] == [AttemptStatus.REFUSED]
    await die(gateway)

    later = FakeAdapter("a", clock=clock, backend=first.backend)
    async with make_gateway(later, store, clock) as second:
        await clock.sleep(60)
        assert (await second.wait(run.id)).status is Status.COMPLETED
    assert len(later.accepted) == 1


async def test_a_stored_run_outlives_a_price_that_is_not_told_for_a_moment() -> None:
    class Mute(FakeAdapter):
        silent = 1

        async def quote(self, task: Task, target: Mapping[str, JSON]) -> Quote:
            self.silent -= 1
            if self.silent >= 0:
                raise Unavailable("no quote now", backend=self.name)
            return await super().quote(task, target)

    clock, store = FakeClock(), MemoryStore()
    run = await leave_stored(store, clock)
    later = Mute("a", clock=clock, price=Money.parse("1 USD"))
    accounting = Accounting((Budget(limit=Money.parse("5 USD"), per="total"),))
    models = {"m": {"targets": {"a": {"app": "echo"}}}}
    async with AsyncGateway([later], models, store=store, clock=clock, accounting=accounting) as gateway:
        assert (await gateway.wait(run.id)).status is Status.COMPLETED
    assert len(later.accepted) == 1
