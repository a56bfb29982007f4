"""Whatever an adapter does, it ends that call: its runs come to their end, and nobody else's notice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from engine_setup import make_task, open_gateway, run_to_end

from gateway import AsyncGateway, CostOutcome, FailureKind, NoBackend, Status
from gateway.errors import Throttled, Unavailable
from gateway.lifecycle import AttemptStatus
from gateway.observe.metrics import Metrics
from gateway.observe.registry import Registry
from gateway.policy.budget import Accounting, Budget
from gateway.store.memory import MemoryStore
from gateway.task import Cost, Envelope, Handle, Quote, Snapshot
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import Money, RateLimit

pytestmark = pytest.mark.anyio


class Panic(BaseException):
    """What a library in Rust raises, for one: no Exception, and no end of the process either."""


GROUP = ExceptionGroup("several", [OSError()])
BREAKAGES = [KeyError("x"), asyncio.CancelledError(), Panic(), TimeoutError(), GROUP]


def break_method(adapter: FakeAdapter, name: str, error: BaseException) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    setattr(adapter, name, fail)


def answer_with(adapter: FakeAdapter, name: str, found: object) -> None:
    async def answer(*_: Any, **__: Any) -> Any:
        return found

    setattr(adapter, name, answer)


@pytest.mark.parametrize("error", BREAKAGES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["capabilities", "quote", "prepare"])
async def test_another_backend_is_taken_where_one_breaks_before_anything_is_sent(
    name: str, error: BaseException
) -> None:
    clock = FakeClock()
    broken, good = FakeAdapter("broken", clock=clock, price=Money(5, "USD")), FakeAdapter("good", clock=clock)
    break_method(broken, name, error)
    async with open_gateway(broken, good, clock=clock) as gateway:
        run = await gateway.run(make_task(order=("broken", "good"), max_cost=Money(9, "USD")))
    assert run.attempts[-1].backend == "good"


@pytest.mark.parametrize("error", BREAKAGES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["submit", "recover", "poll", "cancel"])
async def test_a_run_has_its_deadline_whatever_its_adapter_raises(name: str, error: BaseException) -> None:
    clock = FakeClock()
    broken = FakeAdapter("broken", clock=clock, steps=[(1e5, Status.COMPLETED)])
    if name == "recover":
        broken.arm("lose_answer")
    break_method(broken, name, error)
    async with open_gateway(broken, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(deadline=timedelta(minutes=1)))
    kind = FailureKind.DEADLINE if name in ("poll", "cancel") else FailureKind.UNRESOLVED
    assert run.failure is not None
    assert (run.failure.kind, len(run.attempts)) == (kind, 1)


@pytest.mark.parametrize("name", ["capabilities", "quote", "prepare"])
async def test_an_answer_of_the_wrong_kind_is_no_answer(name: str) -> None:
    clock = FakeClock()
    broken, good = FakeAdapter("broken", clock=clock, price=Money(5, "USD")), FakeAdapter("good", clock=clock)
    answer_with(broken, name, {"what": "a dict"})
    async with open_gateway(broken, good, clock=clock) as gateway:
        run = await gateway.run(make_task(order=("broken", "good"), max_cost=Money(9, "USD")))
    assert run.attempts[-1].backend == "good"


@pytest.mark.parametrize("name", ["submit", "recover"])
async def test_what_is_no_handle_and_no_word_of_recovery_leaves_it_in_doubt(name: str) -> None:
    clock = FakeClock()
    broken = FakeAdapter("broken", clock=clock)
    if name == "recover":
        broken.arm("lose_answer")
    answer_with(broken, name, None)
    async with open_gateway(broken, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(doubt_wait=timedelta(minutes=1)))
    assert run.failure is not None
    assert run.failure.kind is FailureKind.UNRESOLVED
    assert run.attempts[0].status is AttemptStatus.UNRESOLVED


async def test_an_envelope_for_another_backend_is_not_sent_there() -> None:
    class Confused(FakeAdapter):
        async def prepare(self, *args: Any, **kwargs: Any) -> Envelope:
            return (await super().prepare(*args, **kwargs)).replace(backend="other")

    clock = FakeClock()
    confused, other = Confused("confused", clock=clock), FakeAdapter("other", clock=clock)
    async with open_gateway(confused, other, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(), "confused")
    assert run.failure is not None
    assert "an envelope of attempt" in run.failure.message
    assert (confused.accepted, other.accepted) == ([], [])


async def test_a_look_that_is_no_snapshot_is_no_news_of_that_job_alone() -> None:
    class Confused(FakeAdapter):
        async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
            seen: dict[Any, Any] = dict(await super().poll(handles))
            return {handle: "done" if handle.job_id == "job-1" else look for handle, look in seen.items()}

    clock = FakeClock()
    confused = Confused("confused", clock=clock)
    async with open_gateway(confused, clock=clock) as gateway:
        first, second = await asyncio.gather(
            run_to_end(gateway, make_task("first", deadline=timedelta(minutes=1))),
            run_to_end(gateway, make_task("second", deadline=timedelta(minutes=1))),
        )
    assert {first.status, second.status} == {Status.COMPLETED, Status.FAILED}


async def test_a_wait_that_is_a_bare_number_is_a_refusal_like_others() -> None:
    class Confused(FakeAdapter):
        async def submit(self, envelope: Envelope) -> Handle:
            self.calls["submit"] += 1
            wait: Any = 5
            raise Throttled("later", backend=self.name, retry_after=wait)

    clock = FakeClock()
    confused, good = Confused("confused", clock=clock), FakeAdapter("good", clock=clock)
    async with open_gateway(confused, good, clock=clock) as gateway:
        run = await gateway.run(make_task(order=("confused", "good")))
    assert [attempt.backend for attempt in run.attempts] == ["confused", "good"]


async def test_a_cancel_from_outside_is_still_a_cancel() -> None:
    started = asyncio.Event()

    class Slow(FakeAdapter):
        async def quote(self, *_: Any, **__: Any) -> Any:
            started.set()
            await asyncio.Event().wait()

    clock = FakeClock()
    slow = Slow("slow", clock=clock, price=Money(5, "USD"))
    async with open_gateway(slow, clock=clock) as gateway:
        asking = asyncio.create_task(gateway.submit(make_task(max_cost=Money(9, "USD"))))
        await started.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize("name", ["recover", "cancel"])
async def test_a_question_without_an_answer_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.submission._LOOK_SECONDS", 0.02)
    monkeypatch.setattr("gateway.engine.ending._CANCEL_SECONDS", 0.02)

    async def hang(*_: Any) -> Any:
        await asyncio.Event().wait()

    clock = FakeClock()
    silent = FakeAdapter("silent", clock=clock, steps=[(1e5, Status.COMPLETED)])
    if name == "recover":
        silent.arm("lose_answer")
    setattr(silent, name, hang)
    async with open_gateway(silent, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(deadline=timedelta(seconds=1)))
    assert run.failure is not None
    assert run.failure.kind in (FailureKind.DEADLINE, FailureKind.UNRESOLVED)


class RaisingLimit(FakeAdapter):
    @property
    def rate_limit(self) -> RateLimit | None:
        raise KeyError("x-ratelimit-remaining")


class WordyLimit(FakeAdapter):
    @property
    def rate_limit(self) -> RateLimit | None:
        remaining: Any = "5"
        return RateLimit(remaining)


@pytest.mark.parametrize("cls", [RaisingLimit, WordyLimit])
async def test_a_job_that_landed_is_not_lost_over_a_rate_limit_that_can_not_be_read(cls: type) -> None:
    clock = FakeClock()
    adapter = cls("a", clock=clock)
    async with open_gateway(adapter, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert (adapter.accepted, run.status) == ([run.attempts[0].id], Status.COMPLETED)


@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError(), None], ids=repr)
async def test_an_adapter_that_can_not_be_closed_keeps_neither_the_store_nor_the_others_open(
    error: BaseException | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.engine.engine._CLOSE_SECONDS", 0.02)

    class Stuck(FakeAdapter):
        async def aclose(self) -> None:
            if error is not None:
                raise error
            await asyncio.Event().wait()

    class Seen(MemoryStore):
        is_closed = False

        async def aclose(self) -> None:
            self.is_closed = True
            await super().aclose()

    clock, store = FakeClock(), Seen()
    stuck, good = Stuck("stuck", clock=clock), FakeAdapter("good", clock=clock)
    async with open_gateway(stuck, good, clock=clock, store=store) as gateway:
        await gateway.run(make_task())
    assert (good.closed, store.is_closed) == (1, True)
    assert "the adapter of stuck could not be closed" in caplog.text


async def test_a_deadline_is_kept_while_a_backend_wants_no_looks() -> None:
    class Busy(FakeAdapter):
        async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
            self.calls["poll"] += 1
            raise Unavailable("later", backend=self.name, retry_after=timedelta(hours=3))

    clock = FakeClock()
    busy = Busy("busy", clock=clock)
    async with open_gateway(busy, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(deadline=timedelta(minutes=1)))
    assert run.updated_at - run.created_at < timedelta(minutes=2)
    assert busy.calls["poll"] == 1


NO_AMOUNTS = [Money(-5, "USD"), Money(5, "GBP"), Money(0.5, "USD"), Money(10**5000, "USD"), "0.5 USD"]  # type: ignore[arg-type]


@pytest.mark.parametrize("price", NO_AMOUNTS, ids=range(len(NO_AMOUNTS)))
async def test_a_quote_that_is_no_price_is_none(price: Any) -> None:
    class Confused(FakeAdapter):
        async def quote(self, *_: Any) -> Quote:
            return Quote(expected=price, upper=price, confidence="exact")

    clock = FakeClock()
    confused, good = (
        Confused("confused", clock=clock, price=Money(5, "USD")),
        FakeAdapter("good", clock=clock),
    )
    async with open_gateway(confused, good, clock=clock) as gateway:
        run = await gateway.run(make_task(max_cost=Money(9, "USD"), order=("confused", "good")))
        plan = await gateway.plan(make_task(max_cost=Money(9, "USD")), "confused")
    assert (run.attempts[-1].backend, confused.accepted) == ("good", [])
    assert "which is no price" in (plan.removed[0].reason or "")


@pytest.mark.parametrize("told", NO_AMOUNTS, ids=range(len(NO_AMOUNTS)))
async def test_a_cost_that_is_no_amount_is_unknown_and_stays_reserved(told: Any) -> None:
    class Confused(FakeAdapter):
        async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
            cost = Cost(settled=told, outcome=CostOutcome.CHARGED)
            return {handle: look.replace(cost=cost) for handle, look in (await super().poll(handles)).items()}

    clock = FakeClock()
    confused = Confused("confused", clock=clock, price=Money.parse("3 USD"))
    accounting = Accounting((Budget(limit=Money.parse("5 USD"), per="total"),))
    gateway = AsyncGateway(
        [confused],
        {"m": {"targets": {"confused": {"app": "echo"}}}},
        store=MemoryStore(),
        clock=clock,
        accounting=accounting,
    )
    async with gateway:
        gateway.hosting.observe(Metrics(Registry()))
        run = await gateway.run(make_task())
        assert run.cost_outcome is CostOutcome.UNKNOWN
        with pytest.raises(NoBackend, match="3 USD of 5 USD is used"):
            await gateway.run(make_task())
