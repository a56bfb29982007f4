"""Hedging and quorum."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from engine_setup import make_task, open_gateway, run_to_end
from hypothesis import given
from hypothesis import strategies as st

from gateway import AsyncGateway, CostOutcome, FailureKind, NoBackend, Run, RunFailed, Status
from gateway.adapter import CancelOutcome
from gateway.errors import InvalidInput
from gateway.policy.capacity import Capacity
from gateway.policy.quorum import is_exactly, is_nearly, judge
from gateway.store import make_store
from gateway.store.archive import Pruning
from gateway.store.memory import MemoryStore
from gateway.task import Handle
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import Money

pytestmark = pytest.mark.anyio

NUMBERS = st.integers() | st.floats(allow_nan=True)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON_VALUES)
def test_everything_agrees_with_itself(value: Any) -> None:
    assert is_exactly(value, value)
    assert is_nearly(value, value)


def test_what_agrees_exactly_and_what_nearly() -> None:
    assert not is_exactly(True, 1)
    assert not is_nearly({"a": True}, {"a": 1})
    assert is_exactly({"a": [1, "x"]}, {"a": [1.0, "x"]})
    assert not is_exactly({"a": 0.1 + 0.2}, {"a": 0.3})
    assert is_nearly({"a": 0.1 + 0.2}, {"a": 0.3})
    assert not is_nearly({"a": 0.3}, {"a": 0.31})
    assert not is_nearly([1], [1, 2])
    assert not is_nearly({"a": 1}, {"b": 1})


@given(st.lists(st.integers(0, 2), max_size=6), st.integers(1, 6), st.integers(0, 4))
def test_a_verdict_is_open_only_while_more_answers_can_help(rows: list[int], wanted: int, more: int) -> None:
    answers = [(str(n), value) for n, value in enumerate(rows)]
    verdict = judge(answers, wanted, more, is_exactly)
    best = max((rows.count(value) for value in rows), default=0)
    assert (verdict.agreed is not None) == (best >= wanted)
    assert verdict.is_open == (best < wanted <= best + more)
    assert sorted(name for group in verdict.groups for name in group) == sorted(name for name, _ in answers)


def make(clock: FakeClock, name: str, seconds: float, answer: Any = "same", **more: Any) -> FakeAdapter:
    steps = [(0.5, Status.RUNNING), (seconds, Status.COMPLETED)]
    return FakeAdapter(name, clock=clock, steps=steps, answer=lambda _: answer, **more)


async def test_the_first_success_wins_and_the_loser_is_cancelled() -> None:
    clock = FakeClock()
    slow, quick = make(clock, "slow", 600.0, "late"), make(clock, "quick", 5.0, "first")
    async with open_gateway(slow, quick, clock=clock) as gateway:
        run = await gateway.run(make_task(hedge=2, idempotent=True))
        await clock.sleep(10)
        children = [await gateway.get(child) for child in run.children]
    assert (run.output, run.status) == ("first", Status.COMPLETED)
    assert [child.status for child in children] == [Status.CANCELLED, Status.COMPLETED]
    assert (len(slow.accepted), len(quick.accepted), slow.calls["cancel"]) == (1, 1, 1)
    assert run.updated_at - run.created_at < children[0].updated_at - run.created_at + (
        run.updated_at - run.created_at
    )


async def test_the_first_success_does_not_wait_for_a_backend_that_hangs() -> None:
    class Hanging(FakeAdapter):
        async def cancel(self, handle: Handle) -> CancelOutcome:
            await self.clock.sleep(300.0)
            return await super().cancel(handle)

    clock = FakeClock()
    hanging, quick = Hanging("a", clock=clock, steps=[(9e5, Status.COMPLETED)]), make(clock, "b", 5.0)
    async with open_gateway(hanging, quick, clock=clock) as gateway:
        run = await gateway.run(make_task(hedge=2, idempotent=True))
        assert run.ended_at is not None
        assert (run.ended_at - run.created_at).total_seconds() < 60
        await clock.sleep(1_000)
        assert (await gateway.get(run.children[0])).status is Status.CANCELLED


async def test_a_hedge_survives_the_failure_of_one_and_fails_with_both() -> None:
    clock = FakeClock()
    a, b = make(clock, "a", 1.0), make(clock, "b", 2.0, "good")
    a.arm("fail_job", 2)
    async with open_gateway(a, b, clock=clock) as gateway:
        assert (await gateway.run(make_task(hedge=2, idempotent=True))).output == "good"
        b.arm("fail_job", 1)
        run = await run_to_end(gateway, make_task(hedge=2, idempotent=True))
    assert run.failure is not None
    assert run.failure.kind is FailureKind.JOB
    assert "none of 2 backends succeeded" in run.failure.message


async def test_a_hedge_at_a_price_needs_a_bound_that_covers_all() -> None:
    clock = FakeClock()
    price = Money.parse("1 USD")
    a, b = make(clock, "a", 1.0, price=price), make(clock, "b", 2.0, price=price)
    async with open_gateway(a, b, clock=clock) as gateway:
        with pytest.raises(InvalidInput, match="max_cost"):
            await gateway.run(make_task(hedge=2))
        with pytest.raises(NoBackend, match="2 times 1 USD"):
            await gateway.run(make_task(hedge=2, max_cost=Money.parse("1.5 USD")))
        run = await gateway.run(make_task(hedge=2, max_cost=Money.parse("2 USD")))
    assert run.status is Status.COMPLETED
    assert run.cost_outcome in (CostOutcome.CHARGED, CostOutcome.UNKNOWN)


async def test_a_quorum_returns_what_enough_agree_on_with_the_evidence() -> None:
    clock = FakeClock()
    a, b = make(clock, "a", 1.0, {"x": 0.3}), make(clock, "b", 2.0, {"x": 0.5})
    c = make(clock, "c", 3.0, {"x": 0.1 + 0.2})
    async with open_gateway(a, b, c, clock=clock) as gateway:
        run = await gateway.run(make_task(quorum=(2, 3), agree="numeric"))
    assert run.output == {"x": 0.3}
    first, other = run.evidence["groups"]
    assert [run.evidence["runs"][name]["backend"] for name in first] == ["a", "c"]
    assert [run.evidence["runs"][name]["output"] for name in other] == [{"x": 0.5}]


async def test_no_quorum_is_said_as_soon_as_it_is_known() -> None:
    clock = FakeClock()
    a, b, c = make(clock, "a", 1.0, 1), make(clock, "b", 2.0, 2), make(clock, "c", 600.0, 3)
    async with open_gateway(a, b, c, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(quorum=(3, 3)))
    assert run.failure is not None
    assert run.failure.kind is FailureKind.NO_QUORUM
    assert (run.updated_at - run.created_at).total_seconds() < 10
    assert len(run.evidence["groups"]) == 2


async def test_a_number_that_no_float_can_hold_agrees_with_its_like_and_fails_no_quorum() -> None:
    huge = 10**400
    assert is_nearly(huge, huge + 1)
    assert is_nearly({"x": -huge}, {"x": -huge - 1})
    assert not is_nearly(huge, 2 * huge)
    assert not is_nearly(huge, 1.0)
    assert not is_nearly(huge, math.inf)
    clock = FakeClock()
    adapters = [make(clock, "a", 1.0, huge), make(clock, "b", 2.0, 1.0), make(clock, "c", 3.0, 1.0000001)]
    async with open_gateway(*adapters, clock=clock) as gateway:
        run = await gateway.run(make_task(quorum=(2, 3), agree="numeric"))
    assert (run.status, run.output) == (Status.COMPLETED, 1.0)


async def test_a_callable_says_what_agrees() -> None:
    clock = FakeClock()
    a, b = make(clock, "a", 1.0, "Yes"), make(clock, "b", 2.0, "yes")
    async with open_gateway(a, b, clock=clock) as gateway:
        task = make_task(quorum=(2, 2))
        run = await gateway.run(task, agree=lambda one, other: one.lower() == other.lower())
    assert run.output == "Yes"


async def test_a_quorum_needs_that_many_backends() -> None:
    clock = FakeClock()
    a, b = make(clock, "a", 1.0), make(clock, "b", 1.0)
    b.backend.is_down = True
    async with open_gateway(a, b, clock=clock) as gateway:
        with pytest.raises(NoBackend, match="needs 2 backends, 1 are left"):
            await gateway.run(make_task(quorum=(2, 2)))
    assert a.accepted == []


async def test_cancelling_the_parent_cancels_the_children() -> None:
    clock = FakeClock()
    a, b = make(clock, "a", 600.0), make(clock, "b", 600.0)
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await gateway.submit(make_task(hedge=2, idempotent=True))
        await clock.sleep(5)
        await gateway.cancel(run.id)
        await clock.sleep(5)
        run = await gateway.get(run.id)
    assert run.status is Status.CANCELLED
    assert a.calls["cancel"] + b.calls["cancel"] == 2


@pytest.mark.parametrize("url", ["memory:", "sqlite:///{}/runs.db"])
@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_a_cancel_may_come_before_the_copies_are_there(turns: int, url: str, tmp_path: Path) -> None:
    clock = FakeClock(settle_seconds=0.02)
    a, b = make(clock, "a", 100), make(clock, "b", 100)
    async with open_gateway(a, b, clock=clock, store=make_store(url.format(tmp_path))) as gateway:
        run = await gateway.submit(make_task(hedge=2, idempotent=True))
        for _ in range(turns):
            await asyncio.sleep(0)
        await gateway.cancel(run.id)
        with pytest.raises(RunFailed, match="cancelled"):
            await gateway.wait(run.id)
        ends = [(await gateway.get(child)).status for child in run.children]
    assert ends == [Status.CANCELLED] * 2
    if turns == 0 and url == "memory:":  # before any copy was begun
        assert (a.accepted, b.accepted) == ([], [])


async def test_a_quorum_goes_on_after_a_restart_and_submits_nothing_twice() -> None:
    clock = FakeClock()
    store = MemoryStore()
    a, b = make(clock, "a", 60.0), make(clock, "b", 90.0)
    async with open_gateway(a, b, clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task(quorum=(2, 2)))
        await clock.sleep(10)
    again = [FakeAdapter(x.name, clock=clock, backend=x.backend) for x in (a, b)]
    async with open_gateway(*again, clock=clock, store=store) as gateway:
        run = await gateway.wait(run.id)
    assert (run.output, len(a.accepted), len(b.accepted)) == ("same", 1, 1)


async def test_runs_that_wait_for_their_copies_hold_no_task() -> None:
    clock, tasks = FakeClock(), []
    for count in (3, 300):
        a, b = make(clock, "a", 1e7), make(clock, "b", 1e7)
        async with open_gateway(a, b, clock=clock) as gateway:
            runs = [await gateway.submit(make_task(hedge=2, idempotent=True)) for _ in range(count)]
            lives = gateway._engine._worker.live
            while sum(live.stay is not None for live in lives.values()) < count:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0)
            await clock.sleep(100)
            tasks.append(len(asyncio.all_tasks()))
            await gateway.cancel(runs[0].id)
            with pytest.raises(RunFailed):
                await gateway.wait(runs[0].id)
    assert tasks[0] == tasks[1]


async def test_a_copy_that_another_process_works_on_is_looked_at_now_and_then() -> None:
    clock, store = FakeClock(), MemoryStore()
    a, b = make(clock, "a", 60.0, "first"), make(clock, "b", 600.0)
    async with open_gateway(a, b, clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task(hedge=2, idempotent=True))
        await clock.sleep(10)
        live = gateway._engine.get_live(run.id)
        assert live is not None
        leading = gateway._engine._worker.lead.__self__  # type: ignore[union-attr]  # it is its method
        seconds = await replace(leading, find=lambda _: None).lead(live)
        assert 0 < seconds < 10
        assert await leading.lead(live) == math.inf
        assert (await gateway.wait(run.id)).output == "first"


@asynccontextmanager
async def open_with_waiting_copies() -> AsyncIterator[tuple[AsyncGateway, list[FakeAdapter], Run]]:
    """Yield a run of at most 5 USD whose two copies wait for room at 1 USD each."""
    clock = FakeClock()
    price = Money.parse("1 USD")
    adapters = [make(clock, name, 600.0, price=price) for name in "ab"]
    models = {"m": {"targets": {adapter.name: {"app": "echo"} for adapter in adapters}}}
    full = {adapter.name: Capacity(max_in_flight=1) for adapter in adapters}
    async with AsyncGateway(adapters, models, clock=clock, capacities=full) as gateway:
        for adapter in adapters:
            await gateway.submit(make_task(), adapter.name)
        led = await gateway.submit(make_task("later", hedge=2, max_cost=Money.parse("5 USD")))
        await clock.sleep(5)
        yield gateway, adapters, led


async def test_copies_that_were_never_sent_cost_nothing() -> None:
    async with open_with_waiting_copies() as (gateway, _, led):
        await gateway.cancel(led.id)
        with pytest.raises(RunFailed):
            await gateway.wait(led.id)
        run = await gateway.get(led.id)
    assert (run.status, run.cost_outcome) == (Status.CANCELLED, CostOutcome.NOT_CHARGED)


async def test_no_copy_may_cost_more_than_its_share_of_max_cost() -> None:
    async with open_with_waiting_copies() as (gateway, adapters, led):
        for adapter in adapters:
            adapter.backend.price = Money.parse("4 USD")
        with pytest.raises(RunFailed, match=r"it may cost 4 USD, more than 2\.5 USD"):
            await gateway.wait(led.id)
    assert [len(adapter.accepted) for adapter in adapters] == [1, 1]


async def test_a_run_whose_copies_are_settled_after_its_end_is_pruned_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    price = Money.parse("1 USD")
    slow, quick = make(clock, "slow", 600.0, price=price), make(clock, "quick", 5.0, price=price)

    async def cancel_later(_: Handle) -> CancelOutcome:
        return CancelOutcome.REQUESTED

    monkeypatch.setattr(slow, "cancel", cancel_later)
    async with open_gateway(slow, quick, clock=clock) as gateway:
        run = await gateway.run(make_task(hedge=2, max_cost=Money.parse("2 USD")))
        assert run.cost_outcome is CostOutcome.UNKNOWN  # the loser has not ended
        await clock.sleep(1000)
        late = await gateway.get(run.children[0])
        assert late.cost_outcome is CostOutcome.CHARGED
        old = Pruning(ended_before=clock.now() + timedelta(days=1))
        assert await gateway.store.archive.prune(old, limit=10) == 3
