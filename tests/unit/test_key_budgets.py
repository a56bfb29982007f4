"""Budgets of API keys hold in every process that opens the store, whatever it was made for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.client import AsyncGateway
from gateway.engine.key_budgets import LEARNT_EVERY_SECONDS, KeyBudgets, parse_budget
from gateway.errors import NoBackend, RunFailed, StoreError
from gateway.lifecycle import Status
from gateway.policy.capacity import Capacity
from gateway.server.keys import create_key, revoke_key
from gateway.store.memory import MemoryStore
from gateway.task import Task
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import Money

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["5 USD", "5 USD/week", "day", "/day", "x/day", "5 XYZ/day"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"budget|asset|money"):
        parse_budget(text)
    assert parse_budget("5 USD / day").limit == Money.parse("5 USD")


async def test_they_are_those_of_the_newest_key_of_each_name() -> None:
    store, clock = MemoryStore(), FakeClock()
    budgets = KeyBudgets(store, clock, "USD")
    await create_key(
        store.shelf, "a", now=NOW, budgets=[parse_budget("5 USD/day"), parse_budget("0.1 USD/run")]
    )
    await create_key(store.shelf, "b", now=NOW, budgets=[parse_budget("1 ETH/total")])
    await create_key(store.shelf, "c", now=NOW)
    await budgets.start()
    told = {(budget.key, str(budget.limit), budget.per) for budget in budgets.get()}
    assert told == {("a", "5 USD", "day"), ("a", "0.1 USD", "run"), ("b", "0 USD", "total")}
    await revoke_key(store.shelf, "a", now=NOW)
    await clock.sleep(2 * LEARNT_EVERY_SECONDS)
    assert {(budget.key, str(budget.limit), budget.per) for budget in budgets.get()} == told
    await create_key(store.shelf, "a", now=NOW, budgets=[parse_budget("7 USD/day")])
    await clock.sleep(2 * LEARNT_EVERY_SECONDS)
    assert {(budget.key, str(budget.limit)) for budget in budgets.get()} == {("a", "7 USD"), ("b", "0 USD")}
    await revoke_key(store.shelf, "a", now=NOW + timedelta(milliseconds=500))
    await revoke_key(store.shelf, "b", now=NOW)
    await create_key(store.shelf, "b", now=NOW)
    await clock.sleep(2 * LEARNT_EVERY_SECONDS)
    assert {(budget.key, str(budget.limit)) for budget in budgets.get()} == {("a", "7 USD")}
    await budgets.stop()


async def test_runs_that_wait_when_their_key_is_revoked_keep_to_its_budget() -> None:
    store, clock = MemoryStore(), FakeClock()
    await create_key(store.shelf, "poor", now=NOW, budgets=[parse_budget("3 USD/total")])
    slow = [(600.0, Status.COMPLETED)]
    adapter = FakeAdapter("a", clock=clock, price=Money.parse("1 USD"), steps=slow)
    room = {"a": Capacity(max_in_flight=1)}
    models = {"m": {"targets": {"a": {}}}}
    async with AsyncGateway([adapter], models, store=store, clock=clock, capacities=room) as gateway:
        runs = [await gateway.submit(Task(model="m", input=n), api_key="poor") for n in range(10)]
        await clock.sleep(10)
        await revoke_key(store.shelf, "poor", now=NOW)
        ended = [await gateway.wait(run.id) for run in runs[:3]]
        for run in runs[3:]:
            with pytest.raises(RunFailed, match="by poor"):
                await gateway.wait(run.id)
    assert {run.status for run in ended} == {Status.COMPLETED}
    assert len(adapter.accepted) == 3


async def test_a_gateway_of_the_library_keeps_to_them() -> None:
    store, clock = MemoryStore(), FakeClock()
    await create_key(store.shelf, "poor", now=NOW, budgets=[parse_budget("3 USD/day")])
    adapter = FakeAdapter("a", clock=clock, price=Money.parse("2 USD"))
    task = Task(model="m", input=1)
    async with AsyncGateway([adapter], {"m": {"targets": {"a": {}}}}, store=store, clock=clock) as gateway:
        await gateway.run(task, api_key="poor")
        with pytest.raises(NoBackend, match="by poor"):
            await gateway.run(task, api_key="poor")
        await gateway.run(task, api_key="rich")
    assert len(adapter.accepted) == 2


@pytest.mark.parametrize("what", ["list_notes", "list_outcomes"])
async def test_they_hold_also_where_the_store_failed_at_the_first_call(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock = MemoryStore(), FakeClock()
    await create_key(store.shelf, "poor", now=NOW, budgets=[parse_budget("1 USD/day")])
    lent: list[object] = []

    class Borrower(FakeAdapter):
        def lend(self, notebook: object) -> None:
            lent.append(notebook)

    adapter = Borrower("a", clock=clock, price=Money.parse("2 USD"))

    async def fail(*_: object) -> None:
        raise StoreError("the disk is away")

    gateway = AsyncGateway([adapter], {"m": {"targets": {"a": {}}}}, store=store, clock=clock)
    with monkeypatch.context() as broken:
        broken.setattr(store if what == "list_outcomes" else store.shelf, what, fail)
        with pytest.raises(StoreError, match="away"):
            await gateway.run(Task(model="m", input=1), api_key="poor")
    with pytest.raises(NoBackend, match="by poor"):
        await gateway.run(Task(model="m", input=1), api_key="poor")
    await gateway.aclose()
    assert adapter.accepted == []
    assert lent
