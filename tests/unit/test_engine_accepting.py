"""Answers that want accepting: chosen by the task's word, accepted once, whatever is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest
from engine_setup import make_task, open_gateway
from hypothesis import given
from hypothesis import strategies as st

from gateway import Run, Status, Task
from gateway.adapter import CancelOutcome, Feature, Landed
from gateway.engine.accepting import Accepting
from gateway.policy.choice import choose_answer
from gateway.store.memory import MemoryStore
from gateway.task import Answer, Envelope, Handle, Snapshot
from gateway.testing import FakeAdapter, FakeClock, FakeConfig, Fault
from gateway.types import AttemptId, Money

pytestmark = pytest.mark.anyio


def make_answer(name: str, price: int | None, *, valid: bool = True) -> Answer:
    return Answer(id=name, price=None if price is None else Money(price, "USD"), valid=valid)


ANSWERS = (
    make_answer("dear", 9),
    make_answer("bad", 1, valid=False),
    make_answer("cheap", 2),
    make_answer("odd", None),
)


def test_the_choice_follows_the_task() -> None:
    chosen = {how: choose_answer(ANSWERS, how, None) for how in ("first", "cheapest", "hand")}
    assert {how: answer.id if answer else None for how, answer in chosen.items()} == {
        "first": "dear",
        "cheapest": "cheap",
        "hand": None,
    }
    by_hand = choose_answer(ANSWERS, "hand", "odd")
    assert by_hand is not None
    assert by_hand.id == "odd"
    assert choose_answer(ANSWERS, "hand", "nobody") is None


@given(st.lists(st.tuples(st.integers(0, 5) | st.none(), st.booleans())))
def test_an_invalid_answer_is_never_chosen_by_rule(rows: list[tuple[int | None, bool]]) -> None:
    answers = [make_answer(str(n), price, valid=valid) for n, (price, valid) in enumerate(rows)]
    for how in ("first", "cheapest"):
        chosen = choose_answer(answers, how, None)
        assert (chosen is None) == (not any(valid for _, valid in rows))
        assert chosen is None or chosen.valid


def test_what_asks_for_more_than_was_set_aside_is_chosen_by_hand_alone() -> None:
    for how in ("first", "cheapest"):
        chosen = choose_answer(ANSWERS, how, None, Money(2, "USD"))
        assert chosen is not None
        assert chosen.id == "cheap"
    by_hand = choose_answer(ANSWERS, "first", "dear", Money(2, "USD"))
    assert by_hand is not None
    assert by_hand.id == "dear"


async def test_an_answer_that_asks_for_more_than_the_quote_is_not_paid_for() -> None:
    clock = FakeClock()
    adapter = FakeAdapter("a", clock=clock, price=Money.parse("1 USD"), wants_accepting=True)
    async with open_gateway(adapter, clock=clock) as gateway:
        run = await gateway.submit(make_task(max_cost=Money.parse("1.5 USD")))
        adapter.backend.price = Money.parse("9 USD")
        await clock.sleep(60)
        assert adapter.backend.confirmed == []
        assert (await gateway.get(run.id)).status is Status.UPLOADING
        adapter.backend.price = Money.parse("0.9 USD")
        assert (await gateway.wait(run.id)).status is Status.COMPLETED
    assert len(adapter.backend.confirmed) == 1


class AcceptFaults(FakeAdapter):
    """Loses the answers of acceptances, not of submissions."""

    lose = 0

    async def submit(self, envelope: Envelope) -> Handle:
        if envelope.act == "accept" and self.lose:
            type(self).lose -= 1
            self.backend.arm(Fault.LOSE_ANSWER)
        return await super().submit(envelope)


@pytest.mark.parametrize("features", [frozenset(), frozenset({Feature.EVENTS})])
async def test_an_answer_is_accepted_once(features: frozenset[Feature]) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", FakeConfig(features=features), clock=clock, wants_accepting=True)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert run.output == {"text": "hello"}
    assert len(a.backend.confirmed) == 1
    assert run.attempts[0].accept is not None
    assert Status.UPLOADING in [status for status, _ in run.passed]


async def test_a_lost_acceptance_is_looked_up_and_not_repeated() -> None:
    clock = FakeClock()
    a = AcceptFaults("a", clock=clock, wants_accepting=True)
    AcceptFaults.lose = 1
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert run.status is Status.COMPLETED
    assert len(a.backend.confirmed) == 1


async def test_death_between_storing_and_sending_an_acceptance_loses_nothing() -> None:
    class Dying(FakeAdapter):
        async def submit(self, envelope: Envelope) -> Handle:
            if envelope.act == "accept":
                await asyncio.Event().wait()
            return await super().submit(envelope)

    clock = FakeClock()
    store = MemoryStore()
    first = Dying("a", clock=clock, wants_accepting=True)
    async with open_gateway(first, clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task())
        await clock.sleep(30)
    assert first.backend.confirmed == []
    second = FakeAdapter("a", clock=clock, backend=first.backend)
    async with open_gateway(second, clock=clock, store=store) as gateway:
        run = await gateway.wait(run.id)
    assert (run.status, len(second.backend.confirmed), len(second.accepted)) == (Status.COMPLETED, 1, 1)


async def test_nothing_is_accepted_for_a_run_that_was_cancelled_meanwhile() -> None:
    class Slow(FakeAdapter):
        async def accept(self, handle: Handle, snapshot: Snapshot) -> Envelope:
            await self.clock.sleep(10)  # content is read, a transaction is signed
            return await super().accept(handle, snapshot)

    clock = FakeClock()
    a = Slow("a", clock=clock, wants_accepting=True)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.submit(make_task())
        await clock.sleep(5)
        await gateway.cancel(run.id)
        await clock.sleep(60)
        run = await gateway.get(run.id)
    assert (run.status, run.attempts[0].accept) == (Status.CANCELLED, None)
    assert a.backend.confirmed == []


async def test_an_acceptance_is_stored_whatever_is_written_beside_it() -> None:
    class SlowStore(MemoryStore):
        """Takes a second over each write."""

        def save(self, run: Run, **words: Any) -> Awaitable[None]:
            written = super().save(run, **words)

            async def wait() -> None:
                await clock.sleep(1)
                await written

            return wait()

    class Stubborn(AcceptFaults):
        async def cancel(self, handle: Handle) -> CancelOutcome:
            return CancelOutcome.REQUESTED

    clock, store = FakeClock(), SlowStore()
    a = Stubborn("a", clock=clock, wants_accepting=True)
    AcceptFaults.lose = 1
    async with open_gateway(a, clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task())
        while not any(attempt.accept for attempt in (await store.get(run.id)).attempts):
            await clock.sleep(0.1)
        await gateway.cancel(run.id)  # while the acceptance is being written
        assert (await store.get(run.id)).attempts[0].accept is not None
        run = await gateway.wait(run.id)
    assert run.attempts[0].accept is not None
    assert len(a.backend.confirmed) == 1


async def test_by_hand_waits_for_the_caller() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, wants_accepting=True)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.submit(Task(model="m", input=1, accept="hand"))
        await clock.sleep(600)
        run = await gateway.get(run.id)
        assert (run.status, a.backend.confirmed) == (Status.UPLOADING, [])
        assert run.attempts[0].snapshot is not None
        (answer,) = run.attempts[0].snapshot.answers
        await gateway.accept(run.id, answer.id)
        run = await gateway.wait(run.id)
    assert (run.output, len(a.backend.confirmed)) == (1, 1)


async def test_a_callable_chooses() -> None:
    clock = FakeClock()
    seen: list[Any] = []
    a = FakeAdapter("a", clock=clock, wants_accepting=True)
    async with open_gateway(a, clock=clock) as gateway:

        def choose(answers: Any) -> Answer | None:
            seen.append(answers)
            return answers[0] if len(seen) > 2 else None

        run: Run = await gateway.run(make_task(), accept=choose)
    assert run.status is Status.COMPLETED
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("is_stored", "is_known", "asked"), [(True, False, True), (True, True, False), (False, False, False)]
)
async def test_an_acceptance_of_another_process_is_looked_up_before_the_bill_is_made(
    *, is_stored: bool, is_known: bool, asked: bool
) -> None:
    """What it has cost is in the snapshot after that, and this process was never told that it landed."""
    handle, said = Handle("a", "job"), []
    envelope = Envelope(attempt_id=AttemptId("act"), backend="a", payload={}, act="accept")
    attempt = SimpleNamespace(accept=envelope if is_stored else None, handle=handle)
    live: Any = SimpleNamespace(run=SimpleNamespace(attempt=attempt), accepted=is_known)
    first, second = (Snapshot(status=Status.COMPLETED, message=word) for word in ("first", "second"))

    class Backend:
        async def recover(self, found: Envelope) -> Landed:
            said.append(found)
            return Landed(handle)

        async def poll(self, handles: list[Handle]) -> dict[Handle, Snapshot]:
            return dict.fromkeys(handles, second)

    adapter: Any = Backend()
    accepting = Accepting(adapter, FakeClock())  # it writes nothing down
    assert await accepting.settle(live, adapter, first) == (second if asked else first)
    assert await accepting.settle(live, adapter, first) == first  # once
    assert said == [envelope] * asked
