"""A plan knows what was learnt, as a run would, and changes nothing."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest
from engine_setup import make_task, open_gateway

from gateway import AsyncGateway, Limits, NoBackend, Run, RunFailed, Status
from gateway.adapter import Capabilities
from gateway.errors import UnknownModel
from gateway.limits import Sort
from gateway.policy.routing import Plan
from gateway.store.memory import MemoryStore
from gateway.task import Quote, Task
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import JSON, Money

pytestmark = pytest.mark.anyio

MODELS = {"m": {"targets": {"a": {"app": "x"}, "b": {"app": "x"}}}}


async def test_a_plan_knows_what_earlier_processes_learnt_and_takes_no_run_over() -> None:
    clock, store = FakeClock(), MemoryStore()
    slow = FakeAdapter("a", clock=clock, steps=[(9.0, Status.COMPLETED)])
    quick = FakeAdapter("b", clock=clock, steps=[(1.0, Status.COMPLETED)])
    async with open_gateway(slow, quick, clock=clock, store=store) as gateway:
        for name in ("a", "b"):
            await gateway.run(make_task(), name)
        slow.arm("never_end")
        left = await gateway.submit(make_task(), "a")
        await clock.sleep(1)

    other = AsyncGateway([slow, quick], MODELS, store=store, clock=clock)
    polls = list(slow.accepted)
    plan = await other.plan(make_task(), "auto:fastest")
    assert [candidate.backend for candidate in plan.ranked] == ["b", "a"]
    assert all(candidate.observed.looks > 0 for candidate in plan.candidates)
    await clock.sleep(60)
    assert (await store.list_owners(), slow.accepted) == ([], polls)
    await other.aclose()
    assert not (await store.get(left.id)).status.is_final


@pytest.mark.parametrize(("sort", "first"), [("cheapest", "b"), ("balanced", "a")])
async def test_a_replay_lies_over_the_gateways_limits_like_the_first_plan(sort: Sort, first: str) -> None:
    clock = FakeClock()
    a, b = (FakeAdapter(name, clock=clock) for name in "ab")
    targets = {"a": {"app": "x", "cost": "2 USD"}, "b": {"app": "x", "cost": "1 USD"}}
    models = {"m": {"targets": targets, "order": [] if sort == "cheapest" else ["a"]}}
    async with AsyncGateway([a, b], models, limits=Limits(sort=sort), clock=clock) as gateway:
        run = await gateway.run(make_task())
        again = await gateway.replan(run.id)
        assert run.attempts[0].backend == first
        assert (again.sort, again.require_best().backend) == (sort, first)


async def test_a_run_whose_limits_name_a_backend_that_is_gone_keeps_nobody_from_starting() -> None:
    clock, store = FakeClock(), MemoryStore()
    a, b = (FakeAdapter(name, clock=clock) for name in "ab")
    async with open_gateway(a, b, clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task(ignore=("b",)))
    async with open_gateway(a, clock=clock, store=store) as gateway:
        assert (await gateway.wait(run.id)).status is Status.COMPLETED
    assert len(a.accepted) == 1


async def test_a_plan_is_made_anew_when_what_it_was_made_from_has_changed() -> None:
    clock = FakeClock()
    one = FakeAdapter("a", clock=clock, steps=[(1.0, Status.COMPLETED)])
    async with open_gateway(one, clock=clock) as gateway:
        first = await gateway.run(make_task())
        same = await gateway.run(make_task("other"))
        assert same.plan is not None
        await clock.sleep(2)
        later = await gateway.run(make_task())
        assert _get_looks(first) == 0 < _get_looks(later)
        with pytest.raises(NoBackend, match="ignored"):
            await gateway.run(make_task(ignore=("a",)))
        one.arm("refuse", 5)
        with pytest.raises(RunFailed):
            await gateway.run(make_task(max_attempts=1))
        with pytest.raises(NoBackend, match="refused"):
            await gateway.run(make_task())


class _Telling(FakeAdapter):
    """An adapter of a free backend that is asked for a price all the same."""

    confidence: Literal["free", "exact"] = "free"

    async def capabilities(self) -> Capabilities:
        return replace(await super().capabilities(), free=True)

    async def quote(self, task: Task, target: Mapping[str, JSON]) -> Quote:
        return (await super().quote(task, target)).replace(confidence=self.confidence)


@pytest.mark.parametrize(("confidence", "asked"), [("free", 1), ("exact", 3)])
async def test_a_plan_stands_for_other_inputs_if_its_quote_does(
    confidence: Literal["free", "exact"], asked: int
) -> None:
    clock = FakeClock()
    one = _Telling("a", clock=clock, price=Money.parse("1 USD"))
    one.confidence = confidence
    async with open_gateway(one, clock=clock) as gateway:
        runs = [await gateway.submit(make_task(text)) for text in ("a", "b", "c")]
        assert one.calls["quote"] == asked
        assert all(run.plan is not None for run in runs)


def _get_looks(run: Run) -> float:
    return Plan.model_validate(run.plan).candidates[0].observed.looks


async def test_models_that_there_are_none_of_leave_nothing_behind() -> None:
    clock = FakeClock()
    async with open_gateway(FakeAdapter("a", clock=clock), clock=clock) as gateway:
        for number in range(50):
            with pytest.raises(UnknownModel):
                await gateway.submit(Task(model=f"no such model {number}", input=1))
        texts = [one for one in gc.get_objects() if isinstance(one, dict) and "no such model 7" in one]
    assert texts == []


async def test_an_adapter_that_breaks_while_quoting_stands_in_nobodys_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    a, b = (FakeAdapter(name, clock=clock, price=Money.parse("1 USD")) for name in "ab")

    async def break_down(*_: Any) -> Quote:
        raise KeyError("price")

    monkeypatch.setattr(a, "quote", break_down)
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await gateway.run(make_task(max_cost=Money.parse("2 USD")))
        plan = await gateway.plan(make_task(max_cost=Money.parse("2 USD")))
    assert [attempt.backend for attempt in run.attempts] == ["b"]
    assert [(c.backend, c.removed_by) for c in plan.removed] == [("a", "max_cost")]
    assert "its adapter broke while quoting: KeyError" in (plan.removed[0].reason or "")
