"""Budgets, bills and idempotency keys: exact, whatever happens at once."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from engine_setup import make_task, run_to_end

from gateway import AsyncGateway, CostOutcome, FailureKind, Limits, NoBackend, Run, RunFailed, Status, Task
from gateway.cli.words import format_cost
from gateway.errors import IdempotencyConflict, InvalidInput
from gateway.policy.budget import Accounting, Budget
from gateway.policy.rates import Rate, Rates
from gateway.store import make_store
from gateway.store.protocol import RunFilter
from gateway.task import Cost, Handle, Snapshot
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import Money

pytestmark = pytest.mark.anyio

USD = Money.parse
LATE = datetime(2026, 5, 1, 23, 45, tzinfo=UTC)


def make_gateway(
    *adapters: FakeAdapter, clock: FakeClock, store: Any = "memory:", **more: Any
) -> AsyncGateway:
    targets = {adapter.name: {"app": "echo"} for adapter in adapters}
    return AsyncGateway(adapters, {"m": {"targets": targets}}, store=store, clock=clock, **more)


@pytest.mark.parametrize("kind", ["memory:", "sqlite:///"])
async def test_200_at_once_against_a_budget_for_50_let_50_through(kind: str, tmp_path: Path) -> None:
    clock = FakeClock(settle_seconds=0.02 if "sqlite" in kind else 0.0)
    a = FakeAdapter("a", clock=clock, price=USD("0.1 USD"))
    accounting = Accounting((Budget(limit=USD("5 USD"), per="day"),))
    store = kind if kind == "memory:" else f"sqlite:///{tmp_path / 'runs.db'}"
    async with make_gateway(a, clock=clock, store=make_store(store), accounting=accounting) as gateway:
        trying = (run_to_end(gateway, make_task(str(n))) for n in range(200))
        found = await asyncio.gather(*trying, return_exceptions=True)
        spent = await gateway._engine.store.ledger.fetch_spent()
        stored = await gateway.list_runs(RunFilter(limit=300))
    runs = [run for run in found if isinstance(run, Run)]
    raised = [error for error in found if isinstance(error, NoBackend)]
    done = [run for run in runs if run.status is Status.COMPLETED]
    assert (len(done), len(a.accepted), len(runs) + len(raised)) == (50, 50, 200)
    assert len(stored) == len(runs)
    for run in runs:  # there was still something left when it came, and not when it was to be sent
        if run.failure is not None:
            assert (run.failure.kind, run.failure.code) == (FailureKind.REJECTED, "budget")
            assert "5 USD per day (anew at 00:00 UTC)" in run.failure.message
            assert run.cost_outcome is CostOutcome.NOT_CHARGED
    assert list(spent.values()) == [USD("5 USD").amount]


async def test_a_task_that_every_budget_refuses_raises_before_it_is_stored() -> None:
    clock = FakeClock(LATE)
    a, b = (FakeAdapter(name, clock=clock, price=USD("2 USD")) for name in "ab")
    accounting = Accounting((Budget(limit=USD("3 USD"), per="day"),))
    async with make_gateway(a, b, clock=clock, accounting=accounting) as gateway:
        await gateway.run(make_task())
        for doing in (gateway.run, gateway.submit):
            with pytest.raises(NoBackend) as refusal:
                await doing(make_task())
            assert [(name, rule) for name, rule, _ in refusal.value.removed] == [
                ("a", "budget"),
                ("b", "budget"),
            ]
            for words in ("3 USD per day (anew at 00:00 UTC)", "2 USD of 3 USD is used, 2 USD is needed"):
                assert words in str(refusal.value)
        assert len(await gateway.list_runs()) == 1
        plan = await gateway.plan(make_task())
        assert [(c.backend, c.stage, c.removed_by) for c in plan.candidates] == [
            ("a", "reserve", "budget"),
            ("b", "reserve", "budget"),
        ]
        await clock.sleep(1800)
        assert (await gateway.run(make_task())).status is Status.COMPLETED
    assert len([*a.accepted, *b.accepted]) == 2


async def test_a_budget_asked_early_is_that_of_the_key_and_of_paid_tasks_alone() -> None:
    clock = FakeClock()
    paid, free = FakeAdapter("paid", clock=clock, price=USD("2 USD")), FakeAdapter("free", clock=clock)
    accounting = Accounting((Budget(limit=USD("1 USD"), per="day", key="poor"),))
    async with make_gateway(paid, free, clock=clock, accounting=accounting) as gateway:
        plan = await gateway.plan(make_task(), ["paid", "free"], api_key="poor")
        assert [(c.backend, c.rank, c.removed_by) for c in plan.candidates] == [
            ("free", 1, None),
            ("paid", 0, "budget"),
        ]
        assert [c.rank for c in (await gateway.plan(make_task(), ["paid", "free"])).candidates] == [1, 2]
        run = await gateway.run(make_task(), ["paid", "free"], api_key="poor")
    assert [attempt.backend for attempt in run.attempts] == ["free"]


async def test_where_no_budget_applies_the_accounts_are_not_read() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"))
    accounting = Accounting((Budget(limit=USD("9 USD"), per="day", key="team"),))
    async with make_gateway(a, clock=clock, accounting=accounting) as gateway:
        ledger, asked = gateway._engine.store.ledger, []
        fetch_all = ledger.fetch_spent

        async def fetch_spent(scopes: Any = None) -> dict[str, int]:
            asked.append(scopes)
            return await fetch_all(scopes)

        ledger.fetch_spent = fetch_spent  # type: ignore[method-assign]
        await gateway.run(make_task())
        assert asked == []
        await gateway.run(make_task(), api_key="team")
        assert [len(scopes) for scopes in asked] == [1]


async def test_what_was_not_charged_is_given_back_and_what_is_unknown_is_not() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"))
    accounting = Accounting((Budget(limit=USD("2 USD"), per="total"),))
    async with make_gateway(a, clock=clock, accounting=accounting) as gateway:
        ledger = gateway._engine.store.ledger
        a.arm("fail_job")  # the fake says: not charged
        await run_to_end(gateway, make_task())
        assert set((await ledger.fetch_spent()).values()) == {0}
        a.arm("lose_answer")
        a.arm("unknown", 10_000)
        run = await run_to_end(gateway, make_task(doubt_wait=timedelta(seconds=5)))
        assert run.cost_outcome is CostOutcome.UNKNOWN
        assert set((await ledger.fetch_spent()).values()) == {USD("1 USD").amount}


@pytest.mark.parametrize("by", ["cancel", "deadline"])
async def test_what_a_cancelled_job_did_not_cost_is_given_back(by: str) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"), steps=[(600.0, Status.COMPLETED)])
    accounting = Accounting((Budget(limit=USD("1 USD"), per="total"),))
    async with make_gateway(a, clock=clock, accounting=accounting) as gateway:
        task = make_task(deadline=timedelta(seconds=60) if by == "deadline" else None)
        run = await gateway.submit(task)
        await clock.sleep(5)
        if by == "cancel":
            await gateway.cancel(run.id)
        with pytest.raises(RunFailed):
            await gateway.wait(run.id)
        run = await gateway.get(run.id)
        assert run.failure is not None
        kind = FailureKind.CANCELLED if by == "cancel" else FailureKind.DEADLINE
        assert (run.failure.kind, run.cost_outcome) == (kind, CostOutcome.NOT_CHARGED)
        assert set((await gateway._engine.store.ledger.fetch_spent()).values()) == {0}


async def test_what_was_paid_on_the_way_to_a_refund_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"))
    look = a.backend.look

    def look_at_a_refund(handle: Handle) -> Snapshot:
        seen, gas = look(handle), Cost(settled=USD("0.1 USD"), outcome=CostOutcome.NOT_CHARGED)
        return replace(seen, cost=gas) if seen.status.is_final else seen

    monkeypatch.setattr(a.backend, "look", look_at_a_refund)
    a.arm("fail_job")
    accounting = Accounting((Budget(limit=USD("9 USD"), per="total"),))
    async with make_gateway(a, clock=clock, accounting=accounting) as gateway:
        run = await run_to_end(gateway, make_task())
        assert format_cost(run) == "0.1 USD"
        (line,) = await gateway.costs(clock.now() - timedelta(days=1), by=())
        assert [str(money) for money in line.settled.known] == ["0.1 USD"]
        spent = await gateway._engine.store.ledger.fetch_spent()
    assert list(spent.values()) == [USD("0.1 USD").amount]


async def test_what_a_cancelled_job_cost_stays_unknown_where_it_can_not_be_looked_at() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"), steps=[(600.0, Status.COMPLETED)])
    async with make_gateway(a, clock=clock) as gateway:
        run = await gateway.submit(make_task())
        await clock.sleep(5)
        a.arm("poll_error")
        ended = await gateway.cancel(run.id)
    assert (ended.status, ended.cost_outcome) == (Status.CANCELLED, CostOutcome.UNKNOWN)


async def test_a_refused_candidate_leaves_the_budget_to_the_next() -> None:
    clock = FakeClock()
    dear = FakeAdapter("dear", clock=clock, price=USD("3 USD"))
    cheap = FakeAdapter("cheap", clock=clock, price=USD("1 USD"))
    accounting = Accounting((Budget(limit=USD("2 USD"), per="run"),))
    async with make_gateway(dear, cheap, clock=clock, accounting=accounting) as gateway:
        run = await gateway.run(make_task(), ["dear", "cheap"])
    assert [(x.backend, x.status.value) for x in run.attempts] == [("cheap", "succeeded")]
    assert (dear.calls["prepare"], dear.calls["submit"]) == (0, 0)


async def test_a_budget_of_one_backend_leaves_the_others_alone() -> None:
    clock = FakeClock()
    a, b = (FakeAdapter(name, clock=clock, price=USD("1 USD")) for name in "ab")
    accounting = Accounting((Budget(limit=USD("1 USD"), per="day", backend="a"),))
    async with make_gateway(a, b, clock=clock, accounting=accounting) as gateway:
        runs = [await gateway.run(make_task(), ["a", "b"]) for _ in range(3)]
    assert [run.attempts[-1].backend for run in runs] == ["a", "b", "b"]


async def test_a_key_has_its_own_budget_and_a_day_its_own() -> None:
    clock = FakeClock(LATE)
    a = FakeAdapter("a", clock=clock, price=USD("1 USD"))
    accounting = Accounting((Budget(limit=USD("1 USD"), per="day", key="team"),))
    async with make_gateway(a, clock=clock, accounting=accounting) as gateway:

        async def spend(key: str) -> None:
            run = await gateway.run(Task(model="m", input=1), api_key=key)
            assert (run.api_key, run.status) == (key, Status.COMPLETED)

        await spend("team")
        with pytest.raises(NoBackend, match="by team"):
            await spend("team")
        await spend("other")
        await clock.sleep(1800)
        await spend("team")


async def test_a_run_and_its_copies_are_on_the_account_of_one_key() -> None:
    clock = FakeClock()
    a, b = (FakeAdapter(name, clock=clock, price=USD("1 USD")) for name in "ab")
    accounting = Accounting((Budget(limit=USD("9 USD"), per="day", key="team"),))
    async with make_gateway(a, b, clock=clock, accounting=accounting) as gateway:
        both = make_task(quorum=(2, 2))
        led = await gateway.run(both, api_key="team")
        await gateway.run(make_task(), api_key="other")
        mine = await gateway.list_runs(RunFilter(api_key="team"))
        spent = await gateway._engine.store.ledger.fetch_spent()
    assert {run.id for run in mine} == {led.id, *led.children}
    assert list(spent.values()) == [USD("2 USD").amount]


async def test_an_idempotency_key_is_not_shared_between_callers() -> None:
    clock = FakeClock()
    async with make_gateway(FakeAdapter("a", clock=clock), clock=clock) as gateway:
        first = await gateway.run(make_task(), idempotency_key="k", api_key="one")
        with pytest.raises(IdempotencyConflict, match="another caller's") as refusal:
            await gateway.run(make_task(), idempotency_key="k", api_key="two")
    assert first.id not in str(refusal.value)


async def test_prices_in_another_asset_need_a_fresh_rate() -> None:
    today = datetime(2026, 5, 1, tzinfo=UTC)
    for rate, reason in (
        (None, "no rate from OGPU to USD"),
        (Rate(USD("0.5 USD"), date(2026, 1, 1)), "older than 30 days"),
        (Rate(USD("0.5 USD"), date(2026, 4, 30)), None),
    ):
        clock = FakeClock(today)
        a = FakeAdapter("a", clock=clock, price=Money.parse("3 OGPU"))
        rates = Rates("USD", {"OGPU": rate} if rate else {})
        accounting = Accounting((Budget(limit=USD("2 USD"), per="total"),), rates)
        async with make_gateway(a, clock=clock, accounting=accounting) as gateway:
            if reason is None:
                await gateway.run(make_task())
                spent = await gateway._engine.store.ledger.fetch_spent()
                assert list(spent.values()) == [USD("1.5 USD").amount]
                continue
            with pytest.raises(NoBackend, match=reason):
                await gateway.run(make_task())
            assert a.accepted == []


async def test_the_same_key_and_task_is_the_same_run_also_after_a_restart(tmp_path: Path) -> None:
    clock = FakeClock(settle_seconds=0.02)
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    a = FakeAdapter("a", clock=clock, steps=[(30.0, Status.COMPLETED)])
    async with make_gateway(a, clock=clock, store=store) as gateway:
        first = await gateway.submit(make_task(), idempotency_key="k")
        again = await gateway.submit(make_task(), idempotency_key="k")
        assert again.id == first.id
        with pytest.raises(IdempotencyConflict, match=first.id):
            await gateway.submit(make_task("other"), idempotency_key="k")
        run = await gateway.run(make_task(), idempotency_key="k")
        assert (run.id, run.status) == (first.id, Status.COMPLETED)
    b = FakeAdapter("a", clock=clock, backend=a.backend)
    async with make_gateway(b, clock=clock, store=store) as gateway:
        b.backend.is_down = True  # even then: the run is there
        assert (await gateway.run(make_task(), idempotency_key="k")).id == first.id
    assert len(a.accepted) == 1


async def test_one_key_at_once_from_two_gateways_is_one_run() -> None:
    clock = FakeClock()
    store = make_store("memory:")
    a = FakeAdapter("a", clock=clock)
    one = make_gateway(a, clock=clock, store=store)
    two = make_gateway(FakeAdapter("a", clock=clock, backend=a.backend), clock=clock, store=store)
    async with one, two:
        runs = await asyncio.gather(
            *(gateway.run(make_task(), idempotency_key="k") for gateway in (one, two) for _ in range(10))
        )
    assert len({run.id for run in runs}) == 1
    assert len(a.accepted) == 1


async def test_a_past_plan_is_played_again_under_another_policy(tmp_path: Path) -> None:
    clock = FakeClock(settle_seconds=0.02)
    dear = FakeAdapter("dear", clock=clock, price=USD("2 USD"))
    cheap = FakeAdapter("cheap", clock=clock, price=USD("1 USD"))
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with make_gateway(dear, cheap, clock=clock, store=store) as gateway:
        run = await gateway.run(make_task(), ["dear", "cheap"])
        assert run.attempts[0].backend == "dear"
        dear.backend.price = USD("9 USD")
        again = await gateway.replan(run.id, backend="auto:cheapest", limits=Limits(max_cost=USD("1.5 USD")))
    assert [(c.backend, c.removed_by) for c in again.candidates] == [("cheap", None), ("dear", "max_cost")]
    assert "2 USD" in (again.removed[0].reason or "")


async def test_what_is_no_task_no_key_and_no_time_is_refused_before_anything_is_stored() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    async with make_gateway(a, clock=clock) as gateway:
        with pytest.raises(InvalidInput, match=r"gateway\.Task, this is of type str"):
            await gateway.run("hello")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match=r"gateway\.Task, this is of type dict"):
            await gateway.plan({})  # type: ignore[arg-type]
        for key in ("", " "):
            with pytest.raises(InvalidInput, match="this one is empty"):
                await gateway.run(make_task(), idempotency_key=key)
        assert await gateway.list_runs() == []
        run = await gateway.submit(make_task())
        with pytest.raises(InvalidInput, match="not a number"):
            await gateway.wait(run.id, timeout=math.nan)
