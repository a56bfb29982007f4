"""The imaginary service behind FakeAdapter: jobs that follow a script, and faults to arm."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.clock import Clock, SystemClock
from gateway.errors import CostOutcome
from gateway.lifecycle import Status
from gateway.task import Answer, Cost, Envelope, Failure, FailureKind, Handle, Snapshot
from gateway.types import JSON, AttemptId, Money

Step = tuple[float, Status]
"""Seconds after the step before, and the job's status from then on."""

DEFAULT_STEPS: Sequence[Step] = ((0.0, Status.QUEUED), (0.1, Status.RUNNING), (0.1, Status.COMPLETED))


class Fault(StrEnum):
    """What can go wrong. Each is armed for a number of times."""

    REFUSE = "refuse"  # submit raises Unavailable
    REJECT = "reject"  # submit raises Rejected
    THROTTLE = "throttle"  # submit raises Throttled
    LOSE_ANSWER = "lose_answer"  # submit lands and raises InDoubt
    LOSE_REQUEST = "lose_request"  # submit does not land and raises InDoubt
    MISBEHAVE = "misbehave"  # submit lands and raises Misbehaved
    HANG = "hang"  # submit lands and never returns
    REFUSE_PREPARE = "refuse_prepare"  # prepare raises Unavailable
    FAIL_JOB = "fail_job"  # an accepted job ends FAILED where its script says COMPLETED
    LOSE_JOB = "lose_job"  # an accepted job is forgotten at once
    NEVER_END = "never_end"  # an accepted job never gets a final status
    POLL_ERROR = "poll_error"  # poll raises Unavailable
    POLL_THROTTLE = "poll_throttle"  # poll raises Throttled
    CUT_STREAM = "cut_stream"  # events break off with Unavailable after the first
    UNKNOWN = "unknown"  # recover says Unknown
    RECOVER_ERROR = "recover_error"  # recover raises Unavailable


@dataclass(slots=True)
class FakeJob:
    """One accepted submission. Times are seconds of the backend's clock."""

    id: str
    attempt_id: AttemptId
    input: JSON
    began: float
    steps: Sequence[Step]
    is_confirmed: bool
    cancelled_at: float | None = None
    touched: asyncio.Event = field(default_factory=asyncio.Event)


def echo(value: JSON) -> JSON:
    """Answer what was asked."""
    return value


@dataclass
class FakeBackend:
    """What outlives an adapter: share one between two FakeAdapters to play a restart of the gateway.

    Attributes:
        answer: makes the output of a job from its input; a ValueError makes the job fail.
        steps: the script of every job, or a function from its input to its script. Without a final step at
            its end a job never ends.
        price: what a completed job costs; None if it is free.
        refuses: says whether submit raises Rejected for an input.
        wants_accepting: a completed answer stays UPLOADING until it was accepted.
        accepted: attempt ids in the order in which their submissions were accepted, repetitions included.
        confirmed: job ids whose answers were accepted, repetitions included.
        calls: how often each operation was called ("submit", "poll", "recover", ...).
        is_down: nothing can be reached.
        retry_after_seconds: what THROTTLE and POLL_THROTTLE say.
    """

    clock: Clock = field(default_factory=SystemClock)
    answer: Callable[[JSON], JSON] = echo
    steps: Sequence[Step] | Callable[[JSON], Sequence[Step]] = DEFAULT_STEPS
    price: Money | None = None
    refuses: Callable[[JSON], bool] = lambda _: False
    wants_accepting: bool = False
    accepted: list[AttemptId] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    is_down: bool = False
    retry_after_seconds: float = 5.0
    _armed: dict[Fault, float] = field(default_factory=dict)

    def arm(self, fault: Fault | str, times: float = 1) -> None:
        """Let it happen that many more times; `math.inf` for ever, 0 disarms."""
        self._armed[Fault(fault)] = times

    def take(self, fault: Fault) -> bool:
        """Say whether it happens now, which uses it up once."""
        left = self._armed.get(fault, 0)
        self._armed[fault] = max(0, left - 1)
        return left > 0

    def land(self, envelope: Envelope) -> str:
        """Take a submission, or the acceptance of an answer; return its job's id."""
        if envelope.act == "submit":
            return self.accept_job(envelope.attempt_id, envelope.payload["input"]).id
        job_id = str(envelope.payload["job_id"])
        self.confirm(job_id)
        return job_id

    def accept_job(self, attempt_id: AttemptId, input: JSON) -> FakeJob:
        """Start a job, and count it."""
        self.accepted.append(attempt_id)
        steps = self.steps(input) if callable(self.steps) else self.steps
        if self.take(Fault.FAIL_JOB):
            steps = [
                (delay, Status.FAILED if status is Status.COMPLETED else status) for delay, status in steps
            ]
        if self.take(Fault.NEVER_END):
            steps = [(delay, status) for delay, status in steps if not status.is_final]
        job = FakeJob(
            id=f"job-{len(self.accepted)}",
            attempt_id=attempt_id,
            input=input,
            began=self.clock.monotonic(),
            steps=steps,
            is_confirmed=not self.wants_accepting,
        )
        if not self.take(Fault.LOSE_JOB):
            self.jobs[job.id] = job
        return job

    def confirm(self, job_id: str) -> None:
        """Accept a job's answer, and count that."""
        self.confirmed.append(job_id)
        self.jobs[job_id].is_confirmed = True
        self.jobs[job_id].touched.set()

    def cancel(self, handle: Handle) -> bool:
        """Stop a job; False if it had ended or is not known."""
        if self.look(handle).status.is_final:
            return False
        self.jobs[handle.job_id].cancelled_at = self.clock.monotonic()
        self.jobs[handle.job_id].touched.set()
        return True

    def forget_all(self) -> None:
        """Restart without a memory of any job."""
        self.jobs.clear()

    async def wait_for_step(self, job: FakeJob) -> None:
        """Wait until a job takes its next step, is cancelled, or has its answer accepted."""
        due, now = job.began, self.clock.monotonic()
        for delay, _ in job.steps:
            due += delay
            if due > now:
                break
        step = asyncio.ensure_future(self.clock.sleep(due - now if due > now else math.inf))
        touch = asyncio.ensure_future(job.touched.wait())
        try:
            await asyncio.wait({step, touch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            step.cancel()
            touch.cancel()
        job.touched.clear()

    def look(self, handle: Handle) -> Snapshot:
        """Return where a job is now."""
        job = self.jobs.get(handle.job_id)
        if job is None:
            return _make_failed(handle, FailureKind.LOST, "the job is not known")
        status, due = Status.QUEUED, job.began
        for delay, step in job.steps:
            due += delay
            if due > self.clock.monotonic() or (job.cancelled_at is not None and due > job.cancelled_at):
                break
            status = step
        if job.cancelled_at is not None:
            return _make_failed(handle, FailureKind.CANCELLED, "cancelled", Status.CANCELLED)
        if status in {Status.FAILED, Status.REJECTED}:
            return _make_failed(handle, FailureKind.JOB, "the script says so", status)
        if status is Status.CANCELLED:
            return _make_failed(handle, FailureKind.CANCELLED, "cancelled", status)
        return self._make_completed(handle, job) if status is Status.COMPLETED else Snapshot(status=status)

    def _make_completed(self, handle: Handle, job: FakeJob) -> Snapshot:
        try:
            output = self.answer(job.input)
        except ValueError as error:
            return _make_failed(handle, FailureKind.JOB, str(error))
        if not job.is_confirmed:
            answer = Answer(id=job.id, output=output, price=self.price)
            return Snapshot(status=Status.UPLOADING, output=output, answers=(answer,))
        charged = Cost(settled=self.price, outcome=CostOutcome.CHARGED, evidence={"job": job.id})
        return Snapshot(status=Status.COMPLETED, output=output, cost=charged if self.price else None)


def _make_failed(handle: Handle, kind: FailureKind, message: str, status: Status = Status.FAILED) -> Snapshot:
    failure = Failure(kind=kind, message=message, backend=handle.backend, job_id=handle.job_id)
    not_charged = None if kind is FailureKind.LOST else Cost(outcome=CostOutcome.NOT_CHARGED)
    return Snapshot(status=status, failure=failure, cost=not_charged)
