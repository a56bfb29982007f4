"""Runs that wait before they have a job: no task for any, and each wait ends as it should."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from engine_setup import make_task
from hypothesis import given
from hypothesis import strategies as st

from gateway import AsyncGateway, FailureKind, RunFailed, Status
from gateway.adapter import Recovery
from gateway.engine.due import Alarms
from gateway.engine.keeper import _share_plans
from gateway.errors import StoreError, Throttled
from gateway.policy.capacity import Capacity
from gateway.store.memory import MemoryStore
from gateway.store.protocol import Claimed
from gateway.task import Envelope, Run, Task
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import JSON, AttemptId, RunId

pytestmark = pytest.mark.anyio

MANY = 1_000
ENDLESS = [(1e7, Status.COMPLETED)]
WAYS = ("room", "retry", "health")
ALL_WAYS = (*WAYS, "doubt")


class Busy(FakeAdapter):
    """A backend whose adapter asks for a pause, while it prepares or when it is asked after what landed."""

    pauses: float = 0
    doubts = False

    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        if self.pauses > 0:
            self.pauses -= 1
            raise Throttled("later", backend=self.name, retry_after=timedelta(minutes=10))
        return await super().prepare(task, target, attempt_id=attempt_id)

    async def recover(self, envelope: Envelope) -> Recovery:
        if self.doubts:
            raise Throttled("later", backend=self.name, retry_after=timedelta(minutes=10))
        return await super().recover(envelope)


def make_backend(way: str, clock: FakeClock, **more: Any) -> Busy:
    """Make one at which every run has to wait, but the first of those that wait for room."""
    a = Busy("a", clock=clock, **more)
    a.pauses = math.inf if way == "retry" else 0
    a.backend.is_down = way == "health"
    a.doubts = way == "doubt"
    a.arm("lose_answer", math.inf if a.doubts else 0)
    return a


def end_waits(a: Busy) -> None:
    a.pauses, a.backend.is_down, a.doubts = 0, False, False


def make_gateway(
    a: FakeAdapter, clock: FakeClock, way: str, store: MemoryStore | None = None
) -> AsyncGateway:
    capacities = {"a": Capacity(max_in_flight=1)} if way == "room" else {}
    models = {"m": {"targets": {"a": {"app": "echo"}}, "when_all_open": "wait", "doubt_wait": "20d"}}
    gateway = AsyncGateway([a], models, store=store or MemoryStore(), clock=clock, capacities=capacities)
    if way == "doubt":  # its breaker would let hardly any through
        gateway._engine._worker._health.note = lambda *_: None  # type: ignore[method-assign]
    return gateway


async def settle(gateway: AsyncGateway, waiting: int) -> None:
    """Let so many come to wait; the clock stands still."""
    lives = gateway._engine._worker.live
    while sum(live.stay is not None for live in lives.values()) < waiting:  # noqa: ASYNC110  nobody tells
        await asyncio.sleep(0)


async def wait(gateway: AsyncGateway, run_id: str) -> Run:
    try:
        return await gateway.wait(run_id)
    except RunFailed as failed:
        return failed.run


class Counting(MemoryStore):
    """Knows the most tasks that there were at any change of a run."""

    most_tasks = 0

    async def save(self, run: Run, **words: Any) -> None:
        self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
        await super().save(run, **words)


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_runs_that_wait_hold_no_task(way: str) -> None:
    clock, tasks = FakeClock(), []
    for count in (10, MANY):
        a = make_backend(way, clock, steps=ENDLESS)
        async with make_gateway(a, clock, way) as gateway:
            for number in range(count):
                await gateway.submit(make_task(str(number), deadline=timedelta(days=20)))
            await settle(gateway, count - 1)
            await clock.sleep(300)
            await settle(gateway, count - 1)
            tasks.append(len(asyncio.all_tasks()))
    assert tasks[0] == tasks[1], "a waiting run holds a task"


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_many_that_are_taken_up_hold_few_tasks_and_all_of_them_end(way: str) -> None:
    clock, store = FakeClock(), Counting()
    a = make_backend(way, clock, steps=[(1.0, Status.COMPLETED)])
    async with make_gateway(a, clock, way, store) as first:
        runs = [await first.submit(make_task(str(number))) for number in range(MANY)]
        await settle(first, MANY - 1)
    store.most_tasks = 0
    async with make_gateway(a, clock, way, store) as second:
        await clock.sleep(10)  # portion by portion
        await settle(second, MANY - 20)
        assert store.most_tasks < 150
        end_waits(a)
        if way == "room":
            second._engine._worker._gates.get("a")._capacity = Capacity(max_in_flight=500)
        for run in runs:
            assert (await wait(second, run.id)).status is Status.COMPLETED
        assert second._engine._worker._gates.get("a").running == 0
    assert sorted(a.accepted) == sorted(set(a.accepted))
    assert len(a.accepted) == MANY


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancel_ends_a_wait_at_once(way: str) -> None:
    clock = FakeClock(autojump=False)
    a = make_backend(way, clock, steps=ENDLESS)
    async with make_gateway(a, clock, way) as gateway:
        runs = [await gateway.submit(make_task(str(number))) for number in range(4)]
        await settle(gateway, 3)
        for run in runs[1:]:
            await gateway.cancel(run.id)
            assert (await wait(gateway, run.id)).status is Status.CANCELLED
        assert gateway._engine._worker._gates.get("a").waiting == 0
        assert gateway._engine._worker._gates.get("a").running == len(a.accepted)


@pytest.mark.parametrize("way", WAYS)
async def test_a_deadline_ends_a_wait_when_it_passes(way: str) -> None:
    clock = FakeClock()
    a = make_backend(way, clock, steps=ENDLESS)
    async with make_gateway(a, clock, way) as gateway:
        await gateway.submit(make_task())
        run = await gateway.submit(make_task(deadline=timedelta(seconds=100)))
        began = clock.monotonic()
        ended = await wait(gateway, run.id)
        assert ended.failure is not None
        assert ended.failure.kind is FailureKind.DEADLINE
        assert 100 <= clock.monotonic() - began < 101
        assert gateway._engine._worker._gates.get("a").waiting == 0


async def test_who_waits_for_room_takes_his_turn_after_a_restart_too() -> None:
    clock, store = FakeClock(), MemoryStore()
    a = make_backend("room", clock, steps=[(10.0, Status.COMPLETED)])
    async with make_gateway(a, clock, "room", store) as first:
        crowd = [await first.submit(make_task(), api_key="crowd") for _ in range(10)]
        one = await first.submit(make_task(), api_key="one")
    async with make_gateway(a, clock, "room", store) as second:
        await wait(second, one.id)
        waiting = sum([not (await second.get(run.id)).status.is_final for run in crowd])
        for run in crowd:
            await wait(second, run.id)
    assert waiting >= 7
    assert len(a.accepted) == 11


async def test_what_was_taken_over_while_it_waited_leaves_no_trace() -> None:
    clock = FakeClock()
    a = make_backend("room", clock, steps=[(50.0, Status.COMPLETED)])
    async with make_gateway(a, clock, "room") as gateway:
        first = await gateway.submit(make_task("1"))
        second = await gateway.submit(make_task("2"))
        third = await gateway.submit(make_task("3"))
        await settle(gateway, 2)
        live = gateway._engine.get_live(second.id)
        assert live is not None
        live.drop()
        gate = gateway._engine._worker._gates.get("a")
        assert (gate.waiting, live.stay) == (1, None)
        for run in (first, third):
            assert (await wait(gateway, run.id)).status is Status.COMPLETED
        assert gate.running == 0
    assert len(a.accepted) == 2


async def test_a_run_that_is_let_in_and_called_off_in_the_same_moment_gives_its_place_back() -> None:
    clock = FakeClock(autojump=False)
    a = make_backend("room", clock, steps=ENDLESS)
    async with make_gateway(a, clock, "room") as gateway:
        await gateway.submit(make_task("1"))
        second = await gateway.submit(make_task("2"))
        third = await gateway.submit(make_task("3"))
        await settle(gateway, 2)
        gate, live = gateway._engine._worker._gates.get("a"), gateway._engine.get_live(second.id)
        assert live is not None
        while not a.accepted:  # noqa: ASYNC110  a fake backend tells nobody
            await asyncio.sleep(0)
        gate.leave(a.accepted[0])  # lets the second in ...
        assert gate.running == 1
        live.cancel.set()  # ... who is cancelled before it is woken
        assert (await wait(gateway, second.id)).status is Status.CANCELLED
        assert (await gateway.get(second.id)).attempts == ()
        while len(a.accepted) < 2:  # noqa: ASYNC110  a fake backend tells nobody
            await asyncio.sleep(0)
        assert (await gateway.get(third.id)).attempts[0].id == a.accepted[1]
        assert (gate.running, gate.waiting) == (1, 0)


async def test_while_the_store_is_away_a_run_waits_and_holds_no_place() -> None:
    clock, store = FakeClock(), MemoryStore()
    a = make_backend("room", clock, steps=[(5.0, Status.COMPLETED)])
    async with make_gateway(a, clock, "room", store) as gateway:
        runs = [await gateway.submit(make_task(str(number))) for number in range(3)]
        await settle(gateway, 2)
        real, is_away = store.save, True

        async def save(run: Run, **words: Any) -> None:
            if is_away and run.id != runs[0].id:
                raise StoreError("it is away")
            await real(run, **words)

        store.save = save  # type: ignore[method-assign]
        await wait(gateway, runs[0].id)
        await gateway.cancel(runs[1].id)
        await clock.sleep(200)
        gate = gateway._engine._worker._gates.get("a")
        assert (gate.running, a.calls["submit"]) == (0, 1)
        assert len(asyncio.all_tasks()) < 30
        is_away = False
        ended = [await wait(gateway, run.id) for run in runs]
        assert [run.status for run in ended] == [Status.COMPLETED, Status.CANCELLED, Status.COMPLETED]
        assert (gate.running, gate.waiting) == (0, 0)


async def test_while_a_backend_is_ill_few_look_after_it() -> None:
    clock = FakeClock()
    a = make_backend("health", clock, steps=[(1.0, Status.COMPLETED)])
    async with make_gateway(a, clock, "health") as gateway:
        runs = [await gateway.submit(make_task(str(number))) for number in range(MANY)]
        await settle(gateway, MANY)
        looks, plan = 0, gateway._engine.planner.plan

        async def count(*args: Any, **words: Any) -> Any:
            nonlocal looks
            looks += 1
            return await plan(*args, **words)

        gateway._engine.planner.plan = count  # type: ignore[method-assign]
        await clock.sleep(100)
        assert 50 <= looks <= 100 * 32
        end_waits(a)
        began = clock.monotonic()
        for run in runs:
            await wait(gateway, run.id)
        assert clock.monotonic() - began < 20


class Sleeper:
    """One that can be woken."""

    alarm = 0


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100) | st.none()), max_size=300), st.floats(0, 100))
def test_alarms_are_exact_and_forget(steps: list[tuple[int, float | None]], now: float) -> None:
    alarms: Alarms[Sleeper] = Alarms()
    sleepers = [Sleeper() for _ in range(6)]
    times: dict[int, float] = {}
    for number, at in steps:
        alarms.unset(sleepers[number])
        times.pop(number, None)
        if at is not None:
            alarms.set(sleepers[number], at)
            times[number] = at
        assert len(alarms) == len(times)
        assert len(alarms._heap) <= 2 * len(times) + 66
        assert alarms.get_first() == min(times.values(), default=None)
    taken = [sleepers.index(one) for one in alarms.take(now, 10)]
    assert sorted(taken) == sorted(number for number, at in times.items() if at <= now)
    assert [times[number] for number in taken] == sorted(times[number] for number in taken)
    assert len(alarms) == len(times) - len(taken)


def test_runs_that_are_taken_over_share_their_plan() -> None:
    plans = [{"sort": "balanced", "candidates": [n // 2]} for n in range(4)]
    claims = [Claimed(make_run(str(number), plan), 7, number) for number, plan in enumerate(plans)]
    shared = _share_plans(claims)
    assert shared == claims
    assert [one.run.plan is plans[number] for number, one in enumerate(shared)] == [True, False, True, False]


def make_run(name: str, plan: JSON) -> Run:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    status = Status.QUEUED
    return Run(
        id=RunId(name), task=Task(), backend="a", status=status, created_at=at, updated_at=at, plan=plan
    )
