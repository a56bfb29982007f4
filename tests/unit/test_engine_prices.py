"""What an attempt costs is asked for when it is made, however long ago its backend was chosen."""

from __future__ import annotations

import pytest
from engine_setup import make_task, run_to_end

from gateway import AsyncGateway, CostOutcome, FailureKind, Run, RunFailed, Status
from gateway.policy.budget import Accounting, Budget
from gateway.policy.capacity import Capacity
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import Money

pytestmark = pytest.mark.anyio

USD = Money.parse
SLOW = [(600.0, Status.COMPLETED)]


def make_gateway(*adapters: FakeAdapter, clock: FakeClock, budgets: tuple[Budget, ...] = ()) -> AsyncGateway:
    targets = {adapter.name: {"app": "echo"} for adapter in adapters}
    capacities = {adapter.name: Capacity(max_in_flight=1) for adapter in adapters}
    accounting = Accounting(budgets)
    models = {"m": {"targets": targets}}
    return AsyncGateway(adapters, models, clock=clock, accounting=accounting, capacities=capacities)


async def wait_for(gateway: AsyncGateway, run: Run) -> Run:
    try:
        return await gateway.wait(run.id)
    except RunFailed as failed:
        return failed.run


async def test_a_price_that_rose_while_a_run_waited_for_room_is_held_against_max_cost() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"), steps=SLOW)
    async with make_gateway(a, clock=clock) as gateway:
        await gateway.submit(make_task())
        waiting = await gateway.submit(make_task("later", max_cost=USD("1.5 USD")))
        await clock.sleep(100)
        a.backend.price = USD("9 USD")
        run = await wait_for(gateway, waiting)
    assert run.failure is not None
    assert (run.status, run.failure.code) == (Status.FAILED, "max_cost")
    assert "9 USD" in run.failure.message
    assert len(a.accepted) == 1


async def test_what_is_reserved_after_a_wait_for_room_is_the_price_of_then() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"), steps=SLOW)
    budget = Budget(limit=USD("7 USD"), per="total")
    async with make_gateway(a, clock=clock, budgets=(budget,)) as gateway:
        await gateway.submit(make_task())
        dear = await gateway.submit(make_task("dear"))
        dearest = await gateway.submit(make_task("dearest"))
        await clock.sleep(100)
        a.backend.price = USD("3 USD")
        run = await wait_for(gateway, dear)
        assert run.attempts[0].cost.quoted == run.attempts[0].cost.reserved == USD("3 USD")
        assert (await wait_for(gateway, dearest)).status is Status.FAILED
        assert sum((await gateway._engine.store.ledger.fetch_spent()).values()) == USD("6 USD").amount
    assert len(a.accepted) == 2


async def test_a_price_that_rose_before_a_retry_is_held_against_max_cost() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"), retry_after_seconds=300.0)
    a.arm("throttle")
    async with make_gateway(a, clock=clock) as gateway:
        retried = await gateway.submit(make_task(max_cost=USD("1.5 USD")))
        await clock.sleep(10)
        a.backend.price = USD("9 USD")
        run = await wait_for(gateway, retried)
    assert (run.status, a.accepted) == (Status.FAILED, [])
    assert run.failure is not None
    assert "it may cost 9 USD, more than 1.5 USD" in run.failure.message


async def test_who_became_too_dear_while_a_run_waited_leaves_it_to_the_next() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"), steps=SLOW)
    b = FakeAdapter("b", clock=clock, price=USD("1.2 USD"), steps=SLOW)
    async with make_gateway(a, b, clock=clock) as gateway:
        await gateway.submit(make_task(), "a")
        waiting = await gateway.submit(make_task("later", max_cost=USD("1.5 USD")), ["a", "b"])
        await clock.sleep(100)
        a.backend.price = USD("9 USD")
        run = await wait_for(gateway, waiting)
    assert [(x.backend, x.status.value) for x in run.attempts] == [("a", "refused"), ("b", "succeeded")]


@pytest.mark.parametrize(("max_cost", "sent"), [("1.5 USD", 1), ("2 USD", 2), ("3.9 USD", 3)])
async def test_who_submits_again_from_doubt_pays_no_more_than_max_cost_in_all(
    max_cost: str, sent: int
) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"))
    a.arm("lose_answer", 10)
    a.arm("unknown", 10_000)
    async with make_gateway(a, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(on_doubt="resubmit", max_cost=USD(max_cost)))
    assert len(a.accepted) == sent
    assert run.failure is not None
    assert (run.failure.kind, run.cost_outcome) == (FailureKind.UNRESOLVED, CostOutcome.UNKNOWN)
    assert "look there before you try again" in run.failure.message
    assert "it may cost 1 USD, more than" in run.failure.message


async def test_from_doubt_it_goes_where_max_cost_covers_both() -> None:
    clock = FakeClock()
    a, b, c = (
        FakeAdapter(name, clock=clock, price=USD(price))
        for name, price in (("a", "1 USD"), ("b", "1.2 USD"), ("c", "0.9 USD"))
    )
    a.arm("lose_answer")
    a.arm("unknown", 10_000)
    async with make_gateway(a, b, c, clock=clock) as gateway:
        task = make_task(on_doubt="resubmit", max_cost=USD("2 USD"))
        run = await gateway.run(task, ["a", "b", "c"])
    assert [(x.backend, x.status.value) for x in run.attempts] == [("a", "unresolved"), ("c", "succeeded")]


@pytest.mark.parametrize("digits", [100, 308, 400])
async def test_amounts_that_no_float_can_hold_are_planned_with(digits: int) -> None:
    clock, huge = FakeClock(), USD(f"{'9' * digits} USD")
    a = FakeAdapter("a", clock=clock, price=huge)
    b = FakeAdapter("b", clock=clock, price=USD("1 USD"), steps=[(5.0, Status.COMPLETED)])
    async with make_gateway(a, b, clock=clock) as gateway:
        for _ in range(2):
            run = await gateway.run(make_task(value_of_time=huge, max_cost=huge, explore="never"))
            assert [attempt.backend for attempt in run.attempts] == ["b"]
        plan = await gateway.plan(make_task(max_cost=USD("2 USD")))
    assert [(c.backend, c.removed_by) for c in plan.candidates] == [("b", None), ("a", "max_cost")]
