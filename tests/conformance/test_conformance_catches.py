"""The suite is worth something only if it fails adapters that break a promise. Each one here breaks one."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from gateway.adapter import CancelOutcome, Capabilities, Feature, Landed, NotLanded, Recovery, Unknown
from gateway.clock import SystemClock
from gateway.errors import BackendError, InDoubt, NotSupported, Rejected, Unavailable
from gateway.lifecycle import Status
from gateway.task import Envelope, Event, Failure, FailureKind, Handle, Quote, Snapshot, Task
from gateway.testing import AdapterConformance, ConformanceCase, FakeAdapter, FakeClock, FakeConfig, Sample
from gateway.testing.backend import FakeBackend, Step
from gateway.types import JSON, AttemptId, Money

pytestmark = pytest.mark.anyio

TESTS = sorted(name for name in dir(AdapterConformance) if name.startswith("test_"))
BROKEN: dict[str, tuple[str, type[FakeAdapter]]] = {}


def breaks(test: str) -> Any:
    def register(cls: type[FakeAdapter]) -> type[FakeAdapter]:
        BROKEN[f"{test}: {cls.__name__}"] = (test, cls)
        return cls

    return register


class LooseTarget(BaseModel):
    app: str = "echo"


@breaks("test_types_are_strict")
class TakesAnyWord(FakeAdapter):
    target_type: ClassVar[type[BaseModel]] = LooseTarget  # type: ignore[assignment]


@breaks("test_capabilities_are_facts")
class NeverHealthy(FakeAdapter):
    async def capabilities(self) -> Capabilities:
        return replace(await super().capabilities(), healthy=False)


@breaks("test_capabilities_are_facts")
class SlowToAnswer(FakeAdapter):
    async def capabilities(self) -> Capabilities:
        await self.clock.sleep(60)
        return await super().capabilities()


@breaks("test_down_is_not_healthy")
class AlwaysHealthy(FakeAdapter):
    async def capabilities(self) -> Capabilities:
        return replace(await super().capabilities(), healthy=True)


@breaks("test_down_is_not_healthy")
class RaisesWhenDown(FakeAdapter):
    async def capabilities(self) -> Capabilities:
        if self.backend.is_down:
            raise Unavailable("down", backend=self.name)
        return await super().capabilities()


@breaks("test_down_refuses_a_submission")
class CallsDownRejected(FakeAdapter):
    async def submit(self, envelope: Envelope) -> Handle:
        if self.backend.is_down:
            raise Rejected("down", backend=self.name)
        return await super().submit(envelope)


@breaks("test_down_refuses_a_submission")
class ForgetsItsName(FakeAdapter):
    async def submit(self, envelope: Envelope) -> Handle:
        if self.backend.is_down:
            raise Unavailable("down")
        return await super().submit(envelope)


@breaks("test_down_gives_no_news")
class LosesJobsWhenDown(FakeAdapter):
    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        if not self.backend.is_down:
            return await super().poll(handles)
        lost = Failure(kind=FailureKind.LOST, message="gone", backend=self.name)
        return {handle: Snapshot(status=Status.FAILED, failure=lost) for handle in handles}


@breaks("test_prepare_never_spends")
class SubmitsInPrepare(FakeAdapter):
    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        envelope = await super().prepare(task, target, attempt_id=attempt_id)
        self.backend.land(envelope)
        return envelope


@breaks("test_envelope_is_whole")
class OthersEnvelope(FakeAdapter):
    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        return replace(await super().prepare(task, target, attempt_id=attempt_id), backend="another")


@breaks("test_envelope_is_whole")
class TupleInPayload(FakeAdapter):
    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        envelope = await super().prepare(task, target, attempt_id=attempt_id)
        return replace(envelope, payload={**envelope.payload, "pair": (1, 2)})


@breaks("test_no_secret_leaks")
class StoresItsKey(FakeAdapter):
    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        envelope = await super().prepare(task, target, attempt_id=attempt_id)
        return replace(envelope, payload={**envelope.payload, "authorization": "Bearer hunter2"})


@breaks("test_prepare_is_repeatable")
class CountsPreparations(FakeAdapter):
    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        envelope = await super().prepare(task, target, attempt_id=attempt_id)
        return replace(envelope, payload={**envelope.payload, "nonce": self.calls["prepare"]})


@breaks("test_bad_target_is_refused")
class TakesAnyTarget(FakeAdapter):
    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        return await super().prepare(task, {}, attempt_id=attempt_id)


@breaks("test_refusal_is_rejected")
class RefusalInDoubt(FakeAdapter):
    async def submit(self, envelope: Envelope) -> Handle:
        try:
            return await super().submit(envelope)
        except Rejected as error:
            raise InDoubt(error.message, backend=self.name) from error


@breaks("test_submit_lands_once")
class SendsTwice(FakeAdapter):
    async def submit(self, envelope: Envelope) -> Handle:
        await super().submit(envelope)
        return await super().submit(envelope)


@breaks("test_submit_does_not_wait")
class WaitsInSubmit(FakeAdapter):
    async def submit(self, envelope: Envelope) -> Handle:
        handle = await super().submit(envelope)
        while not self.backend.look(handle).status.is_final:
            await self.clock.sleep(1)
        return handle


@breaks("test_good_job_completes")
class WrongAnswer(FakeAdapter):
    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        found = await super().poll(handles)
        return {handle: replace(one, output=one.output and "no") for handle, one in found.items()}


@breaks("test_good_job_completes")
class NeverFinal(FakeAdapter):
    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        return {handle: Snapshot(status=Status.RUNNING) for handle in handles}


@breaks("test_failed_job_is_a_snapshot")
class RaisesFailures(FakeAdapter):
    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        found = await super().poll(handles)
        if any(one.status is Status.FAILED for one in found.values()):
            raise Rejected("the job failed", backend=self.name)
        return found


@breaks("test_poll_takes_many")
class MatchesByPosition(FakeAdapter):
    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        in_order_of_the_backend = sorted(handles, key=lambda handle: handle.job_id)
        found = await super().poll(in_order_of_the_backend)
        return dict(zip(handles, found.values(), strict=True))


@breaks("test_poll_of_nothing")
class NeedsAHandle(FakeAdapter):
    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        if not handles:
            raise AssertionError("no handles")
        return await super().poll(handles)


@breaks("test_unknown_job_is_lost")
class IgnoresTheUnknown(FakeAdapter):
    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        return await super().poll([handle for handle in handles if handle.job_id in self.backend.jobs])


@breaks("test_poll_only_reads")
class ForgetsAnswers(FakeAdapter):
    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        found = await super().poll(handles)
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
    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
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


@breaks("test_events_match_the_features")
class PromisesEvents(FakeAdapter):
    def events(self, handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:
        raise NotSupported("no events after all")


@breaks("test_recover_finds_what_landed")
class FindsNothing(FakeAdapter):
    async def recover(self, envelope: Envelope) -> Recovery:
        return NotLanded()


@breaks("test_recover_finds_what_landed")
class PromisesRecall(FakeAdapter):
    async def recover(self, envelope: Envelope) -> Recovery:
        return Unknown("who knows")


@breaks("test_recover_invents_nothing")
class SubmitsInRecover(FakeAdapter):
    async def recover(self, envelope: Envelope) -> Recovery:
        return Landed(Handle(self.name, self.backend.land(envelope)))


@breaks("test_a_lost_answer_is_in_doubt")
class RetriesALostAnswer(FakeAdapter):
    async def submit(self, envelope: Envelope) -> Handle:
        try:
            return await super().submit(envelope)
        except InDoubt:
            return await super().submit(envelope)


@breaks("test_a_lost_answer_is_in_doubt")
class CallsALostAnswerUnavailable(FakeAdapter):
    async def submit(self, envelope: Envelope) -> Handle:
        try:
            return await super().submit(envelope)
        except InDoubt as error:
            raise Unavailable(error.message, backend=self.name) from error


@breaks("test_down_leaves_the_doubt")
class DownMeansNotLanded(FakeAdapter):
    async def recover(self, envelope: Envelope) -> Recovery:
        return NotLanded() if self.backend.is_down else await super().recover(envelope)


@breaks("test_quote_matches_the_features")
class PromisesQuotes(FakeAdapter):
    async def quote(self, task: Task, target: Mapping[str, JSON]) -> Quote:
        raise NotSupported("no quotes after all")


@breaks("test_cancel_matches_the_features")
class HidesCancel(FakeAdapter):
    async def capabilities(self) -> Capabilities:
        found = await super().capabilities()
        return replace(found, features=found.features - {Feature.CANCEL})


@breaks("test_accept_matches_the_features")
class HidesAccept(FakeAdapter):
    async def accept(self, handle: Handle, snapshot: Snapshot) -> Envelope:
        return Envelope(attempt_id=AttemptId("a"), backend=self.name, act="accept", payload={})


@breaks("test_quote_is_honest")
class QuoteBelowItself(FakeAdapter):
    async def quote(self, task: Task, target: Mapping[str, JSON]) -> Quote:
        return replace(await super().quote(task, target), upper=Money.parse("0.001 USD"))


@breaks("test_cancel_ends_a_job")
class OnlySaysCancelled(FakeAdapter):
    async def cancel(self, handle: Handle) -> CancelOutcome:
        is_final = self.backend.look(handle).status.is_final
        return CancelOutcome.TOO_LATE if is_final else CancelOutcome.CANCELLED


@breaks("test_cancel_comes_too_late")
class NeverTooLate(FakeAdapter):
    async def cancel(self, handle: Handle) -> CancelOutcome:
        await super().cancel(handle)
        return CancelOutcome.CANCELLED


@breaks("test_aclose_twice")
class ClosesOnce(FakeAdapter):
    async def aclose(self) -> None:
        await super().aclose()
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
    backend = FakeBackend(
        clock=clock,
        answer=shout,
        steps=steps_of,
        refuses=lambda text: text == "refuse",
        price=Money.parse("0.01 USD"),
    )
    features = frozenset({Feature.EVENTS, Feature.CANCEL, Feature.RECALL})
    return cls("fake", FakeConfig(features=features), clock=clock, backend=backend)


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
    adapter = make_adapter(FakeAdapter)
    assert not isinstance(adapter.clock, SystemClock)
    await run_test(name, adapter)


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
