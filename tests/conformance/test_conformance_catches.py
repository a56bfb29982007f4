"""The suite is worth something only if it fails adapters that break a promise. Each one here breaks one."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias, TypeVar

import pytest
from pydantic import BaseModel

from gateway.adapter import CancelOutcome, Capabilities, Feature, Landed, NotLanded, Recovery, Unknown
from gateway.errors import BackendError, InDoubt, NotSupported, Rejected, Unavailable
from gateway.lifecycle import Status
from gateway.task import Envelope, Event, Failure, FailureKind, Handle, Quote, Snapshot, Task
from gateway.testing import AdapterConformance, ConformanceCase, FakeAdapter, FakeClock, FakeConfig, Sample
from gateway.testing.backend import FakeBackend, Step
from gateway.types import JSON, AttemptId, Money

pytestmark = pytest.mark.anyio

T = TypeVar("T")
Handles: TypeAlias = Sequence[Handle]
News: TypeAlias = Mapping[Handle, Snapshot]
TESTS = sorted(name for name in dir(AdapterConformance) if name.startswith("test_"))
BROKEN: dict[str, tuple[str, type[FakeAdapter]]] = {}


def breaks(test: str, operation: str | None = None) -> Callable[[T], T]:
    """Take a broken class, or one broken operation of FakeAdapter."""

    def register(broken: T) -> T:
        name = getattr(broken, "__name__", "")
        cls: Any = type(name, (FakeAdapter,), {operation: broken}) if operation else broken
        BROKEN[f"{test}: {name}"] = (test, cls)
        return broken

    return register


class LooseTarget(BaseModel):
    app: str = "echo"


@breaks("test_types_are_strict")
class TakesAnyWord(FakeAdapter):
    target_type: ClassVar[type[BaseModel]] = LooseTarget  # type: ignore[assignment]


@breaks("test_capabilities_are_facts", "capabilities")
async def never_healthy(self: FakeAdapter) -> Capabilities:
    return replace(await FakeAdapter.capabilities(self), healthy=False)


@breaks("test_capabilities_are_facts", "capabilities")
async def slow_to_answer(self: FakeAdapter) -> Capabilities:
    await self.clock.sleep(60)
    return await FakeAdapter.capabilities(self)


@breaks("test_down_is_not_healthy", "capabilities")
async def always_healthy(self: FakeAdapter) -> Capabilities:
    return replace(await FakeAdapter.capabilities(self), healthy=True)


@breaks("test_down_is_not_healthy", "capabilities")
async def raises_when_down(self: FakeAdapter) -> Capabilities:
    if self.backend.is_down:
        raise Unavailable("down", backend=self.name)
    return await FakeAdapter.capabilities(self)


@breaks("test_down_refuses_a_submission", "submit")
async def calls_down_rejected(self: FakeAdapter, envelope: Envelope) -> Handle:
    if self.backend.is_down:
        raise Rejected("down", backend=self.name)
    return await FakeAdapter.submit(self, envelope)


@breaks("test_down_refuses_a_submission", "submit")
async def forgets_its_name(self: FakeAdapter, envelope: Envelope) -> Handle:
    if self.backend.is_down:
        raise Unavailable("down")
    return await FakeAdapter.submit(self, envelope)


@breaks("test_down_gives_no_news", "poll")
async def loses_jobs_when_down(self: FakeAdapter, handles: Handles) -> News:
    if not self.backend.is_down:
        return await FakeAdapter.poll(self, handles)
    lost = Failure(kind=FailureKind.LOST, message="gone", backend=self.name)
    return {handle: Snapshot(status=Status.FAILED, failure=lost) for handle in handles}


class Prepares(FakeAdapter):
    def alter(self, envelope: Envelope) -> Envelope:
        raise NotImplementedError

    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        return self.alter(await super().prepare(task, target, attempt_id=attempt_id))


@breaks("test_prepare_never_spends")
class SubmitsInPrepare(Prepares):
    def alter(self, envelope: Envelope) -> Envelope:
        self.backend.land(envelope)
        return envelope


@breaks("test_envelope_is_whole")
class OthersEnvelope(Prepares):
    def alter(self, envelope: Envelope) -> Envelope:
        return replace(envelope, backend="another")


@breaks("test_envelope_is_whole")
class TupleInPayload(Prepares):
    def alter(self, envelope: Envelope) -> Envelope:
        return replace(envelope, payload={**envelope.payload, "pair": (1, 2)})


@breaks("test_no_secret_leaks")
class StoresItsKey(Prepares):
    def alter(self, envelope: Envelope) -> Envelope:
        return replace(envelope, payload={**envelope.payload, "authorization": "Bearer hunter2"})


@breaks("test_prepare_is_repeatable")
class CountsPreparations(Prepares):
    def alter(self, envelope: Envelope) -> Envelope:
        return replace(envelope, payload={**envelope.payload, "nonce": self.calls["prepare"]})


@breaks("test_bad_target_is_refused", "prepare")
async def takes_any_target(
    self: FakeAdapter, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId
) -> Envelope:
    return await FakeAdapter.prepare(self, task, {}, attempt_id=attempt_id)


@breaks("test_refusal_is_rejected", "submit")
async def refusal_in_doubt(self: FakeAdapter, envelope: Envelope) -> Handle:
    try:
        return await FakeAdapter.submit(self, envelope)
    except Rejected as error:
        raise InDoubt(error.message, backend=self.name) from error


@breaks("test_submit_lands_once", "submit")
async def sends_twice(self: FakeAdapter, envelope: Envelope) -> Handle:
    await FakeAdapter.submit(self, envelope)
    return await FakeAdapter.submit(self, envelope)


@breaks("test_submit_does_not_wait", "submit")
async def waits_in_submit(self: FakeAdapter, envelope: Envelope) -> Handle:
    handle = await FakeAdapter.submit(self, envelope)
    while not self.backend.look(handle).status.is_final:
        await self.clock.sleep(1)
    return handle


@breaks("test_good_job_completes", "poll")
async def wrong_answer(self: FakeAdapter, handles: Handles) -> News:
    found = await FakeAdapter.poll(self, handles)
    return {handle: replace(one, output=one.output and "no") for handle, one in found.items()}


@breaks("test_good_job_completes", "poll")
async def never_final(self: FakeAdapter, handles: Handles) -> News:
    return {handle: Snapshot(status=Status.RUNNING) for handle in handles}


@breaks("test_failed_job_is_a_snapshot", "poll")
async def raises_failures(self: FakeAdapter, handles: Handles) -> News:
    found = await FakeAdapter.poll(self, handles)
    if any(one.status is Status.FAILED for one in found.values()):
        raise Rejected("the job failed", backend=self.name)
    return found


@breaks("test_poll_takes_many", "poll")
async def matches_by_position(self: FakeAdapter, handles: Handles) -> News:
    in_order_of_the_backend = sorted(handles, key=lambda handle: handle.job_id)
    found = await FakeAdapter.poll(self, in_order_of_the_backend)
    return dict(zip(handles, found.values(), strict=True))


@breaks("test_poll_of_nothing", "poll")
async def needs_a_handle(self: FakeAdapter, handles: Handles) -> News:
    if not handles:
        raise AssertionError("no handles")
    return await FakeAdapter.poll(self, handles)


@breaks("test_unknown_job_is_lost", "poll")
async def ignores_the_unknown(self: FakeAdapter, handles: Handles) -> News:
    return await FakeAdapter.poll(self, [handle for handle in handles if handle.job_id in self.backend.jobs])


@breaks("test_poll_only_reads", "poll")
async def forgets_answers(self: FakeAdapter, handles: Handles) -> News:
    found = await FakeAdapter.poll(self, handles)
    for handle, one in found.items():
        if one.status is Status.COMPLETED:
            self.backend.jobs.pop(handle.job_id, None)
    return found


class KeepsHandlesInMemory(FakeAdapter):
    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words)
        self.mine: set[str] = set()

    async def submit(self, envelope: Envelope) -> Handle:
        handle = await super().submit(envelope)
        self.mine.add(handle.job_id)
        return handle


@breaks("test_a_restart_follows")
class FollowsOnlyItsOwn(KeepsHandlesInMemory):
    async def poll(self, handles: Handles) -> News:
        return await super().poll([handle for handle in handles if handle.job_id in self.mine])


@breaks("test_a_restart_recovers")
class RecoversOnlyItsOwn(KeepsHandlesInMemory):
    async def recover(self, envelope: Envelope) -> Recovery:
        found = await super().recover(envelope)
        return found if isinstance(found, Landed) and found.handle.job_id in self.mine else NotLanded()


@breaks("test_events_end_with_the_end")
class EventsWithoutAnEnd(FakeAdapter):
    def events(self, handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:
        return self._without_final(super().events(handle, after=after))

    async def _without_final(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            if event.snapshot is None or not event.snapshot.status.is_final:
                yield event


@breaks("test_events_match_the_features", "events")
def promises_events(self: FakeAdapter, handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:
    raise NotSupported("no events after all")


@breaks("test_recover_finds_what_landed", "recover")
async def finds_nothing(self: FakeAdapter, envelope: Envelope) -> Recovery:
    return NotLanded()


@breaks("test_recover_finds_what_landed", "recover")
async def promises_recall(self: FakeAdapter, envelope: Envelope) -> Recovery:
    return Unknown("who knows")


@breaks("test_recover_invents_nothing", "recover")
async def submits_in_recover(self: FakeAdapter, envelope: Envelope) -> Recovery:
    return Landed(Handle(self.name, self.backend.land(envelope)))


@breaks("test_a_lost_answer_is_in_doubt", "submit")
async def retries_a_lost_answer(self: FakeAdapter, envelope: Envelope) -> Handle:
    try:
        return await FakeAdapter.submit(self, envelope)
    except InDoubt:
        return await FakeAdapter.submit(self, envelope)


@breaks("test_a_lost_answer_is_in_doubt", "submit")
async def calls_a_lost_answer_unavailable(self: FakeAdapter, envelope: Envelope) -> Handle:
    try:
        return await FakeAdapter.submit(self, envelope)
    except InDoubt as error:
        raise Unavailable(error.message, backend=self.name) from error


@breaks("test_down_leaves_the_doubt", "recover")
async def down_means_not_landed(self: FakeAdapter, envelope: Envelope) -> Recovery:
    return NotLanded() if self.backend.is_down else await FakeAdapter.recover(self, envelope)


@breaks("test_quote_matches_the_features", "quote")
async def promises_quotes(self: FakeAdapter, task: Task, target: Mapping[str, JSON]) -> Quote:
    raise NotSupported("no quotes after all")


@breaks("test_cancel_matches_the_features", "capabilities")
async def hides_cancel(self: FakeAdapter) -> Capabilities:
    found = await FakeAdapter.capabilities(self)
    return replace(found, features=found.features - {Feature.CANCEL})


@breaks("test_accept_matches_the_features", "accept")
async def hides_accept(self: FakeAdapter, handle: Handle, snapshot: Snapshot) -> Envelope:
    return Envelope(attempt_id=AttemptId("a"), backend=self.name, act="accept", payload={})


@breaks("test_quote_is_honest", "quote")
async def quote_below_itself(self: FakeAdapter, task: Task, target: Mapping[str, JSON]) -> Quote:
    return replace(await FakeAdapter.quote(self, task, target), upper=Money.parse("0.001 USD"))


@breaks("test_cancel_ends_a_job", "cancel")
async def only_says_cancelled(self: FakeAdapter, handle: Handle) -> CancelOutcome:
    is_final = self.backend.look(handle).status.is_final
    return CancelOutcome.TOO_LATE if is_final else CancelOutcome.CANCELLED


@breaks("test_cancel_comes_too_late", "cancel")
async def never_too_late(self: FakeAdapter, handle: Handle) -> CancelOutcome:
    await FakeAdapter.cancel(self, handle)
    return CancelOutcome.CANCELLED


@breaks("test_aclose_twice", "aclose")
async def closes_once(self: FakeAdapter) -> None:
    await FakeAdapter.aclose(self)
    if self.closed > 1:
        raise Unavailable("closed already", backend=self.name)


def steps_of(input: JSON) -> Sequence[Step]:
    seconds = 3600.0 if input == "slow" else 0.1
    return ((0.0, Status.RUNNING), (seconds, Status.COMPLETED))


def shout(input: JSON) -> JSON:
    if input == "fail":
        raise ValueError("it was told to")
    return str(input).upper()


def make_adapter(cls: type[FakeAdapter]) -> FakeAdapter:
    clock = FakeClock(horizon=timedelta(hours=2))
    script: Mapping[str, Any] = {"answer": shout, "steps": steps_of, "refuses": "refuse".__eq__}
    config = FakeConfig(features=frozenset({Feature.EVENTS, Feature.CANCEL, Feature.RECALL}))
    backend = FakeBackend(clock=clock, price=Money.parse("0.01 USD"), **script)
    return cls("fake", config, clock=clock, backend=backend)


def make_case(adapter: FakeAdapter) -> ConformanceCase:
    backend = adapter.backend

    def sample(text: str) -> Sample:
        return Sample(task=Task(input=text), target={"app": "shout"})

    return ConformanceCase(
        good=sample("hello"),
        expected="HELLO",
        failing=sample("fail"),
        slow=sample("slow"),
        refused=sample("refuse"),
        bad_target={"app": 7},
        unknown=Handle("fake", "job-that-never-was"),
        accepted=lambda: len(backend.accepted),
        go_down=lambda: setattr(backend, "is_down", True),
        come_back=lambda: setattr(backend, "is_down", False),
        lose_answer=lambda: backend.arm("lose_answer"),
        make_adapter=lambda: type(adapter)("fake", adapter.config, clock=adapter.clock, backend=backend),
        secrets=("hunter2",),
    )


async def run_test(name: str, adapter: FakeAdapter) -> None:
    test = getattr(AdapterConformance(), name)
    wanted = inspect.signature(test).parameters
    given = {"adapter": adapter, "case": make_case(adapter)}
    await test(**{word: given[word] for word in wanted})


@pytest.mark.parametrize("name", TESTS)
async def test_the_sound_adapter_passes(name: str) -> None:
    await run_test(name, make_adapter(FakeAdapter))


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_adapter_fails(broken: str) -> None:
    name, cls = BROKEN[broken]
    # An exception of the adapter itself fails its test as well as an assertion does.
    with pytest.raises((AssertionError, BackendError)):
        await run_test(name, make_adapter(cls))


def test_every_promise_has_somebody_who_breaks_it() -> None:
    assert {name for name, _ in BROKEN.values()} == set(TESTS)


def test_every_promise_is_said() -> None:
    for name in TESTS:
        assert inspect.getdoc(getattr(AdapterConformance, name)), name
