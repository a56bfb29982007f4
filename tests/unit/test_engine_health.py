"""Breakers, retry budgets, capacity and fair turns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_setup import make_task, run_to_end
from hypothesis import given
from hypothesis import strategies as st

from gateway import AsyncGateway, FailureKind, NoBackend, Status
from gateway.adapter import Capabilities
from gateway.errors import InDoubt, Misbehaved, Rejected, Throttled, Unavailable
from gateway.policy.capacity import Capacity, Turns
from gateway.policy.health import OPENS_AFTER, Breaker, BreakerState, RetryBudget, is_breaking
from gateway.testing import FakeAdapter, FakeClock
from gateway.testing.backend import Fault

pytestmark = pytest.mark.anyio


class Deaf(FakeAdapter):
    """A backend that says that it is well, and takes nothing."""

    async def capabilities(self) -> Capabilities:
        self.backend.is_down = False
        return await super().capabilities()


def make_gateway(*adapters: FakeAdapter, clock: FakeClock, **more: Any) -> AsyncGateway:
    targets = {adapter.name: {"app": "echo"} for adapter in adapters}
    return AsyncGateway(adapters, {"m": {"targets": targets}}, clock=clock, **more)


def test_a_breaker_opens_probes_once_and_closes() -> None:
    breaker = Breaker()
    for _ in range(OPENS_AFTER):
        assert breaker.get_state(0.0) is BreakerState.CLOSED
        breaker = breaker.note(0.0, failed=True)
    assert breaker.get_state(4.9) is BreakerState.OPEN
    assert breaker.get_state(5.0) is BreakerState.HALF_OPEN
    probing = breaker.begin(5.0)
    assert probing.get_state(5.0) is BreakerState.OPEN
    assert probing.note(5.0, failed=False) == Breaker()
    again = probing.note(5.0, failed=True)
    assert (again.get_state(14.9), again.get_state(15.0)) == (BreakerState.OPEN, BreakerState.HALF_OPEN)


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans())))
def test_a_success_always_closes_a_breaker(steps: list[tuple[float, bool]]) -> None:
    breaker, now = Breaker(), 0.0
    for pause, failed in steps:
        now += pause
        breaker = breaker.begin(now).note(now, failed=failed)
        assert failed or breaker.get_state(now) is BreakerState.CLOSED
        assert breaker.open_seconds <= 120


def test_only_signs_of_illness_break() -> None:
    assert [is_breaking(error("x")) for error in (Unavailable, InDoubt, Misbehaved)] == [True] * 3
    assert [is_breaking(error("x")) for error in (Throttled, Rejected)] == [False] * 2
    assert not is_breaking(None)


def test_a_retry_budget_runs_out_and_comes_back() -> None:
    budget: RetryBudget | None = RetryBudget()
    for _ in range(10):
        assert budget is not None
        last, budget = budget, budget.take()
    assert budget is not None
    assert budget.take() is None
    for _ in range(5):
        budget = budget.note_first_try()
    assert budget.take() is not None
    assert last.left >= 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers()), unique=True))
def test_every_key_gets_its_turn(items: list[tuple[str, int]]) -> None:
    turns: Turns[tuple[str, int]] = Turns()
    for key, item in items:
        turns.put(key, (key, item))
    taken = [turns.take() for _ in items]
    assert turns.take() is None
    assert sorted(taken) == sorted(items)
    for key in "abc":
        assert [t for t in taken if t and t[0] == key] == [i for i in items if i[0] == key]
    for start in range(len(taken)):
        waiting = {t[0] for t in taken[start:] if t}
        assert {t[0] for t in taken[start : start + len(waiting)] if t} == waiting


async def test_an_outage_opens_the_breaker_and_runs_go_elsewhere_without_asking() -> None:
    clock = FakeClock()
    a, b = Deaf("a", clock=clock), FakeAdapter("b", clock=clock)
    a.arm("refuse", 1_000)
    async with make_gateway(a, b, clock=clock) as gateway:
        for _ in range(20):
            await gateway.run(make_task(), ["a", "b"])
            await clock.sleep(2)  # longer than one failure is remembered
        assert a.calls["submit"] < 12
        plan = await gateway.plan(make_task())
        removed = {c.backend: c.removed_by for c in plan.removed}
        assert removed == {"a": "breaker"}
        a.arm("refuse", 0)
        await clock.sleep(200)
        run = await gateway.run(make_task(), ["a", "b"])
    assert run.attempts[0].backend == "a"


@pytest.mark.parametrize("when", ["fail", "wait"])
async def test_when_all_are_open_a_task_fails_or_waits(when: str) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    a.backend.is_down = True
    async with make_gateway(a, clock=clock) as gateway:
        if when == "fail":
            with pytest.raises(NoBackend):
                await gateway.run(make_task(when_all_open=when))
            return
        run = await gateway.submit(make_task(when_all_open=when))
        await clock.sleep(100)
        assert not (await gateway.get(run.id)).status.is_final
        a.backend.is_down = False
        assert (await gateway.wait(run.id)).status is Status.COMPLETED
    assert len(a.accepted) == 1


async def test_retries_of_many_runs_do_not_multiply_an_outage() -> None:
    clock = FakeClock()
    a = Deaf("a", clock=clock)
    a.arm("refuse", 100_000)
    async with make_gateway(a, clock=clock) as gateway:
        task = make_task(max_attempts=10, when_all_open="wait")
        runs = [await run_to_end(gateway, task) for _ in range(30)]
    assert a.calls["submit"] < 60  # not 300
    assert any(run.failure and "used up" in run.failure.message for run in runs)


async def test_no_more_than_max_in_flight_are_there_at_once() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(10.0, Status.COMPLETED)])
    most = 0

    async with make_gateway(a, clock=clock, capacities={"a": Capacity(max_in_flight=3)}) as gateway:
        runs = [await gateway.submit(make_task(str(n))) for n in range(9)]
        for _ in range(40):
            await clock.sleep(1)
            states = [await gateway.get(run.id) for run in runs]
            flying = sum(1 for run in states if run.attempts and not run.attempts[-1].status.is_final)
            most = max(most, flying)
        done = [await gateway.wait(run.id) for run in runs]
    assert most == 3
    assert {run.status for run in done} == {Status.COMPLETED}


async def test_a_rate_spreads_submissions() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    capacity = Capacity(submissions=10, per_seconds=60.0)
    async with make_gateway(a, clock=clock, capacities={"a": capacity}) as gateway:
        began = clock.monotonic()
        await gateway.map([make_task(str(n)) for n in range(25)], concurrency=25)
        assert 120 <= clock.monotonic() - began < 130
    assert len(a.accepted) == 25


async def test_one_key_does_not_starve_another() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(10.0, Status.COMPLETED)])

    async with make_gateway(a, clock=clock, capacities={"a": Capacity(max_in_flight=1)}) as gateway:
        crowd = [await gateway.submit(make_task(), api_key="crowd") for _ in range(10)]
        one = await gateway.submit(make_task(), api_key="one")
        await gateway.wait(one.id)
        waiting = sum([not (await gateway.get(run.id)).status.is_final for run in crowd])
        for run in crowd:
            await gateway.cancel(run.id)
    assert waiting >= 7


async def test_a_run_that_waits_for_room_can_be_cancelled_and_leaves_no_trace() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(50.0, Status.COMPLETED)])
    async with make_gateway(a, clock=clock, capacities={"a": Capacity(max_in_flight=1)}) as gateway:
        first = await gateway.submit(make_task("1"))
        second = await gateway.submit(make_task("2"))
        third = await gateway.submit(make_task("3"))
        await clock.sleep(5)
        await gateway.cancel(second.id)
        await asyncio.gather(gateway.wait(first.id), gateway.wait(third.id))
        assert (await gateway.get(second.id)).status is Status.CANCELLED
    assert len(a.accepted) == 2


async def test_a_429_closes_the_gate_for_everybody() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, retry_after_seconds=60.0)
    a.arm("throttle", 1)
    async with make_gateway(a, clock=clock) as gateway:
        first = await gateway.submit(make_task("1"))
        await clock.sleep(1)
        second = await gateway.submit(make_task("2"))
        await clock.sleep(30)
        assert a.calls["submit"] == 1
        runs = [await gateway.wait(run.id) for run in (first, second)]
    assert {run.status for run in runs} == {Status.COMPLETED}
    assert a.calls["submit"] == 3
    assert all(run.failure is None or run.failure.kind is not FailureKind.THROTTLED for run in runs)


async def test_what_is_known_of_a_backend_is_told_without_asking_it() -> None:
    clock = FakeClock()
    well, ill = FakeAdapter("well", clock=clock), FakeAdapter("ill", clock=clock)
    async with make_gateway(well, ill, clock=clock) as gateway:
        await run_to_end(gateway, make_task(), "well")
        ill.backend.arm(Fault.REFUSE, times=OPENS_AFTER)
        await run_to_end(gateway, make_task(max_attempts=OPENS_AFTER), "ill")
        health = await gateway.health()
    assert health["well"].breakers["submit"] is BreakerState.CLOSED
    assert health["well"].models["m"].success_rate == 1.0
    assert health["well"].models["m"].p50_seconds
    assert health["ill"].breakers["submit"] is BreakerState.OPEN
    assert health["ill"].running == 0


async def test_a_backend_that_is_busy_for_a_moment_is_better_than_one_that_just_failed() -> None:
    clock = FakeClock()
    busy, broken = FakeAdapter("busy", clock=clock), FakeAdapter("broken", clock=clock)
    busy.backend.arm(Fault.THROTTLE, times=1)
    broken.backend.arm(Fault.REFUSE_PREPARE, times=100)
    async with make_gateway(busy, broken, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(), ["busy", "broken"])
    assert [attempt.backend for attempt in run.attempts] == ["busy", "broken", "busy"]
    assert run.status is Status.COMPLETED
