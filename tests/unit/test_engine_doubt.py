"""A submission whose answer is lost: asked after, never repeated blindly."""

from __future__ import annotations

from datetime import timedelta

import pytest
from engine_setup import make_task, open_gateway, run_to_end

from gateway import CostOutcome, FailureKind, RunFailed, Status
from gateway.adapter import Landed, NotLanded, Recovery, Unknown
from gateway.errors import InvalidInput
from gateway.store.memory import MemoryStore
from gateway.task import Envelope
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import Money

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("fault", ["lose_answer", "misbehave"])
async def test_a_lost_answer_is_looked_up_and_not_repeated(fault: str) -> None:
    clock = FakeClock()
    a, b = FakeAdapter("a", clock=clock), FakeAdapter("b", clock=clock)
    a.arm(fault)
    a.arm("unknown", 3)
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert (len(a.accepted), len(b.accepted), len(run.attempts)) == (1, 0, 1)
    assert (a.calls["submit"], a.calls["recover"]) == (1, 4)
    assert (run.attempts[0].failure, run.attempts[0].doubted) == (None, True)


async def test_a_lost_request_is_sent_again_in_the_same_envelope() -> None:
    clock = FakeClock()
    a, b = FakeAdapter("a", clock=clock), FakeAdapter("b", clock=clock)
    a.arm("lose_request")
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert (a.calls["prepare"], a.calls["submit"], len(a.accepted), len(b.accepted)) == (1, 2, 1, 0)
    assert a.accepted == [run.attempts[0].id]


async def test_asking_survives_a_backend_that_can_not_be_asked() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    a.arm("lose_answer")
    a.arm("recover_error", 5)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert run.status is Status.COMPLETED
    assert len(a.accepted) == 1


async def test_what_nobody_knows_ends_unresolved_and_says_what_it_may_have_cost() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=Money.parse("0.5 USD"))
    b = FakeAdapter("b", clock=clock, price=Money.parse("9 USD"))
    a.arm("lose_answer")
    a.arm("unknown", 10_000)
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(doubt_wait=timedelta(minutes=5)))
    assert run.failure is not None
    assert run.failure.kind is FailureKind.UNRESOLVED
    assert "0.5 USD" in run.failure.message
    assert run.failure.detail == {"attempt_id": run.attempts[0].id}
    assert run.cost_outcome is CostOutcome.UNKNOWN
    assert run.updated_at - run.created_at >= timedelta(minutes=5)
    assert (len(a.accepted), b.accepted) == (1, [])


async def test_on_doubt_fail_asks_once() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    a.arm("lose_answer")
    a.arm("unknown", 10_000)
    async with open_gateway(a, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(on_doubt="fail"))
    assert run.failure is not None
    assert (run.failure.kind, a.calls["recover"]) == (FailureKind.UNRESOLVED, 1)


async def test_on_doubt_resubmit_goes_on_and_needs_a_bound() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=Money.parse("0.5 USD"))
    b = FakeAdapter("b", clock=clock, price=Money.parse("0.6 USD"))
    a.arm("lose_answer")
    a.arm("unknown", 10_000)
    async with open_gateway(a, b, clock=clock) as gateway:
        with pytest.raises(InvalidInput, match="max_cost"):
            await gateway.run(make_task(on_doubt="resubmit"))
        run = await gateway.run(make_task(on_doubt="resubmit", max_cost=Money.parse("2 USD")))
    assert [(x.backend, x.status.value) for x in run.attempts] == [("a", "unresolved"), ("b", "succeeded")]
    assert run.cost_outcome is CostOutcome.UNKNOWN


async def test_the_deadline_ends_the_asking() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    a.arm("lose_answer")
    a.arm("unknown", 10_000)
    async with open_gateway(a, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(deadline=timedelta(seconds=30)))
    assert run.failure is not None
    assert run.failure.kind is FailureKind.UNRESOLVED
    assert timedelta(seconds=30) <= run.updated_at - run.created_at < timedelta(seconds=90)


async def test_a_request_that_is_lost_again_and_again_is_not_sent_without_a_pause_or_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)  # the pauses are thrown
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    a.arm("lose_request", 10_000)
    async with open_gateway(a, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(deadline=timedelta(minutes=1)))
    assert run.failure is not None
    assert (run.failure.kind, run.attempts[0].doubted, a.accepted) == (FailureKind.UNRESOLVED, True, [])
    assert 2 <= a.calls["submit"] < 30
    assert timedelta(minutes=1) <= run.updated_at - run.created_at < timedelta(minutes=3)


async def test_a_request_that_arrives_at_last_is_one_job() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    a.arm("lose_request", 5)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert (a.accepted, len(run.attempts), a.calls["submit"]) == ([run.attempts[0].id], 1, 6)


async def test_a_job_that_another_attempt_has_is_never_taken() -> None:
    """Whoever looks in a list of jobs finds the twin's, which ended before this process began."""

    class Lister(FakeAdapter):
        async def recover(self, envelope: Envelope) -> Recovery:
            return Landed(twin.attempts[0].handle)

    clock, store = FakeClock(), MemoryStore()
    first = FakeAdapter("a", clock=clock)
    async with open_gateway(first, clock=clock, store=store) as gateway:
        twin = await gateway.run(make_task())
    assert twin.attempts[0].handle is not None
    later = Lister("a", clock=clock)
    later.arm("lose_request")
    async with open_gateway(later, clock=clock, store=store) as gateway:
        run = await run_to_end(gateway, make_task())
    assert run.failure is not None
    assert (run.failure.kind, run.attempts[0].handle) == (FailureKind.UNRESOLVED, None)
    assert f"job-1 is that of attempt {twin.attempts[0].id}" in run.failure.message


@pytest.mark.parametrize("kind", [FailureKind.CANCELLED, FailureKind.DEADLINE])
async def test_what_is_called_off_while_in_doubt_is_not_sent_again(
    kind: FailureKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, price=Money.parse("0.5 USD"))
    a.arm("lose_request")
    began, recover, is_back = clock.now(), a.recover, False

    async def recover_later(envelope: Envelope) -> Recovery:
        is_over = clock.now() >= began + timedelta(hours=1)
        return await recover(envelope) if is_back or is_over else Unknown("nobody can say yet")

    monkeypatch.setattr(a, "recover", recover_later)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.submit(make_task(deadline=timedelta(hours=1)))
        await clock.sleep(10)
        if kind is FailureKind.CANCELLED:
            await gateway.cancel(run.id)
            is_back = True
        with pytest.raises(RunFailed):
            await gateway.wait(run.id)
        run = await gateway.get(run.id)
    assert (a.accepted, a.calls["submit"]) == ([], 1)
    assert run.failure is not None
    assert (run.failure.kind, run.cost_outcome) == (kind, CostOutcome.UNKNOWN)
    assert "it is not sent again" in run.failure.message


async def test_what_may_land_by_itself_is_sent_followed_and_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(60.0, Status.COMPLETED)])
    a.arm("lose_request")
    recover, is_back = a.recover, False

    async def recover_later(envelope: Envelope) -> Recovery:
        found = await recover(envelope) if is_back else Unknown("nobody can say yet")
        return NotLanded(lingers=True) if isinstance(found, NotLanded) else found

    monkeypatch.setattr(a, "recover", recover_later)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.submit(make_task())
        await clock.sleep(10)
        await gateway.cancel(run.id)
        is_back = True
        with pytest.raises(RunFailed):
            await gateway.wait(run.id)
        run = await gateway.get(run.id)
    assert (run.status, a.accepted, a.calls["cancel"]) == (Status.CANCELLED, [run.attempts[0].id], 1)
