"""What nobody knew the cost of, settled by hand: once, with evidence, in every budget that held it."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from engine_setup import make_task, run_to_end

from gateway import AsyncGateway, CostOutcome, Run, Status
from gateway.errors import InvalidInput, NoRate, RunNotFound
from gateway.policy.budget import Accounting, Budget
from gateway.policy.rates import Rate, Rates
from gateway.store import make_store
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import Money

pytestmark = pytest.mark.anyio

USD = Money.parse
TOTAL = Accounting((Budget(limit=USD("9 USD"), per="total"),))


def make_gateway(
    *adapters: FakeAdapter, clock: FakeClock, store: Any = "memory:", accounting: Accounting = TOTAL
) -> AsyncGateway:
    targets = {adapter.name: {"app": "echo"} for adapter in adapters}
    models = {"m": {"targets": targets}}
    return AsyncGateway(adapters, models, store=store, clock=clock, accounting=accounting)


def make_doubtful(name: str, clock: FakeClock, price: str = "1 USD") -> FakeAdapter:
    """Make a backend whose answers to submissions are lost and never found again."""
    adapter = FakeAdapter(name, clock=clock, price=USD(price))
    adapter.arm("lose_answer")
    adapter.arm("unknown", 10_000)
    return adapter


async def end_unresolved(gateway: AsyncGateway) -> Run:
    run = await run_to_end(gateway, make_task(on_doubt="fail"))
    assert run.cost_outcome is CostOutcome.UNKNOWN
    return run


async def fetch_spent(gateway: AsyncGateway) -> dict[str, int]:
    return await gateway._engine.store.ledger.fetch_spent()


@pytest.mark.parametrize("kind", ["memory:", "sqlite:///"])
async def test_a_cost_found_elsewhere_takes_the_place_of_what_was_reserved(kind: str, tmp_path: Path) -> None:
    clock = FakeClock(settle_seconds=0.02 if "sqlite" in kind else 0.0)
    store = make_store(kind if kind == "memory:" else f"sqlite:///{tmp_path / 'runs.db'}")
    async with make_gateway(make_doubtful("a", clock), clock=clock, store=store) as gateway:
        run = await end_unresolved(gateway)
        assert await fetch_spent(gateway) == {"total|||": USD("1 USD").amount}
        settled = await gateway.settle(run.id, cost=USD("0.25 USD"), evidence="invoice 17")
        assert await gateway.get(run.id) == settled
        assert await fetch_spent(gateway) == {"total|||": USD("0.25 USD").amount}
        (line,) = await gateway.costs(datetime(2020, 1, 1, tzinfo=UTC))
        *_, event = [event async for event in gateway.events(run.id)]
    assert (settled.status, settled.cost_outcome) == (Status.FAILED, CostOutcome.CHARGED)
    assert settled.attempts[0].cost.evidence == {"from": "settled by hand", "told": "invoice 17"}
    assert (line.settled.known, line.settled.unknown, line.reserved.known) == ((USD("0.25 USD"),), 0, ())
    assert (event.kind, event.attempt, event.message) == (
        "attempt",
        1,
        "settled by hand: 0.25 USD (invoice 17)",
    )


async def test_what_was_not_charged_is_given_back() -> None:
    clock = FakeClock()
    async with make_gateway(make_doubtful("a", clock), clock=clock) as gateway:
        run = await end_unresolved(gateway)
        settled = await gateway.settle(run.id, not_charged=True, evidence="not in the list of tasks")
        assert await fetch_spent(gateway) == {"total|||": 0}
    assert settled.cost_outcome is CostOutcome.NOT_CHARGED


async def test_a_cost_is_said_once_however_many_say_it() -> None:
    clock = FakeClock()
    async with make_gateway(make_doubtful("a", clock), clock=clock) as gateway:
        run = await end_unresolved(gateway)
        found = await asyncio.gather(
            *(gateway.settle(run.id, cost=USD(f"0.{n} USD"), evidence=str(n)) for n in range(1, 6)),
            return_exceptions=True,
        )
        done = [result for result in found if isinstance(result, Run)]
        spent = await fetch_spent(gateway)
    assert len(done) == 1
    assert all(isinstance(result, InvalidInput) for result in found if result not in done)
    assert done[0].attempts[0].cost.settled == Money(spent["total|||"], "USD")


async def test_what_is_known_or_goes_on_or_is_not_there_is_refused() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"), steps=[(60.0, Status.COMPLETED)])
    async with make_gateway(a, clock=clock) as gateway:
        begun = await gateway.submit(make_task())
        with pytest.raises(InvalidInput, match="its costs are settled when it ends"):
            await gateway.settle(begun.id, not_charged=True, evidence="x")
        ended = await gateway.wait(begun.id)
        with pytest.raises(InvalidInput, match="what is to know of its cost is known"):
            await gateway.settle(ended.id, cost=USD("3 USD"), evidence="x")
        with pytest.raises(RunNotFound):
            await gateway.settle("run_nobody", not_charged=True, evidence="x")
        assert await gateway.get(ended.id) == ended


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"evidence": "x"}, "either what it cost or"),
        ({"evidence": "x", "cost": USD("1 USD"), "not_charged": True}, "either what it cost or"),
        ({"evidence": " ", "not_charged": True}, "evidence is empty"),
        ({"evidence": "x", "cost": USD("0 USD")}, "0 USD is no cost"),
        ({"evidence": "x", "not_charged": True, "attempt": 2}, "attempt 2 of run_.*: nothing to settle"),
    ],
)
async def test_words_that_say_nothing_are_refused(words: dict[str, Any], told: str) -> None:
    clock = FakeClock()
    async with make_gateway(make_doubtful("a", clock), clock=clock) as gateway:
        run = await end_unresolved(gateway)
        with pytest.raises(InvalidInput, match=told):
            await gateway.settle(run.id, **words)
        assert (await gateway.get(run.id)).attempts == run.attempts


async def test_of_several_attempts_each_is_settled_by_its_number() -> None:
    clock = FakeClock()
    adapters = [make_doubtful(name, clock, price) for name, price in (("a", "1 USD"), ("b", "2 USD"))]
    async with make_gateway(*adapters, clock=clock) as gateway:
        task = make_task(on_doubt="resubmit", max_cost=USD("5 USD"), max_attempts=2)
        run = await run_to_end(gateway, task)
        with pytest.raises(InvalidInput, match="say which of 1, 2"):
            await gateway.settle(run.id, not_charged=True, evidence="x")
        await gateway.settle(run.id, cost=USD("0.5 USD"), evidence="found", attempt=1)
        half = await gateway.get(run.id)
        assert [a.cost.outcome.value for a in half.attempts] == ["charged", "unknown"]
        assert [a.backend for a in half.attempts] == ["a", "b"]
        await gateway.settle(run.id, not_charged=True, evidence="not there")
        whole = await gateway.get(run.id)
        spent = await fetch_spent(gateway)
    assert whole.cost_outcome is CostOutcome.CHARGED
    assert spent == {"total|||": USD("0.5 USD").amount}


async def test_a_run_with_copies_says_where_its_costs_are() -> None:
    clock = FakeClock()
    adapters = [make_doubtful(name, clock) for name in "ab"]
    async with make_gateway(*adapters, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(quorum=(2, 2), on_doubt="fail"))
        with pytest.raises(InvalidInput, match=f"settle {' or '.join(run.children)}"):
            await gateway.settle(run.id, not_charged=True, evidence="x")
        for child in run.children:
            await gateway.settle(child, not_charged=True, evidence="x")
        assert await fetch_spent(gateway) == {"total|||": 0}


async def test_a_cost_in_an_asset_without_a_rate_is_refused_where_a_budget_counts() -> None:
    clock = FakeClock(datetime(2026, 5, 1, tzinfo=UTC))
    rates = Rates("USD", {"OGPU": Rate(USD("0.5 USD"), date(2026, 4, 30))}, timedelta(days=10))
    accounting = Accounting((Budget(limit=USD("9 USD"), per="total"),), rates)
    async with make_gateway(make_doubtful("a", clock), clock=clock, accounting=accounting) as gateway:
        run = await end_unresolved(gateway)
        with pytest.raises(NoRate, match="no rate from ETH"):
            await gateway.settle(run.id, cost=USD("1 ETH"), evidence="x")
        await gateway.settle(run.id, cost=USD("3 OGPU"), evidence="tx 0x1")
        assert await fetch_spent(gateway) == {"total|||": USD("1.5 USD").amount}
