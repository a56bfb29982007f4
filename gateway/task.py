"""What the caller asks for and what becomes of it: Task, Run, Attempt, Envelope, Handle, Snapshot, Failure.

Frozen values without behaviour. Each survives JSON (`model_dump_json`, `model_validate_json`) and has a JSON
Schema (`model_json_schema`); pydantic does that and is imported at the first such call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from gateway.errors import CostOutcome
from gateway.lifecycle import AttemptStatus, Status
from gateway.limits import Limits
from gateway.types import JSON, AttemptId, Money, RunId
from gateway.value import Value

Accept = Literal["first", "cheapest", "hand"]
_NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Value):
    """What is asked for, with no backend in it.

    Attributes:
        model: an alias of the catalogue. May be absent when `target` says it all.
        input: what the model gets; JSON, or JSON with `gateway.File` values where files are meant.
        target: words of the named backend, laid over the catalogue's (needs a named backend).
        accept: which answer to accept, and pay for, where a backend has several: the first valid one, the
            cheapest valid one, or the one named to `gateway.accept` ("hand").
        stream: the caller wants pieces of output as they come; only backends that stream are candidates.
        limits: see Limits.
        labels: free words of the caller, kept with the run.
    """

    model: str | None = None
    input: JSON = None
    target: Mapping[str, JSON] | None = None
    accept: Accept = "first"
    stream: bool = False
    limits: Limits = _NO_LIMITS
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope(Value):
    """A prepared, irreversible act. It is stored before it is sent; its payload is JSON and holds no secret.

    Attributes:
        attempt_id: whose act it is.
        backend: the configured name of the backend that it is for.
        act: "submit" (start the job) or "accept" (accept, and pay for, its answer).
        payload: whatever the adapter needs to do it, and to find out later whether it was done.
        prepared_at: when.
    """

    attempt_id: AttemptId
    backend: str
    payload: Mapping[str, JSON]
    act: Literal["submit", "accept"] = "submit"
    prepared_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Handle(Value):
    """Where a job lives, in the backend's words. Two handles are one if backend and job_id are.

    Attributes:
        backend: the configured name.
        job_id: the backend's own id, or what stands for it.
        detail: what else the adapter needs to follow the job.
    """

    backend: str
    job_id: str
    detail: Mapping[str, JSON] = field(default_factory=dict, compare=False)


class FailureKind(StrEnum):
    """Why something did not work."""

    JOB = "job"  # the backend ran it and it failed
    OUTPUT_ERROR = "output_error"  # the job "succeeded" with an error object as its output
    REJECTED = "rejected"  # refused before it ran
    UNAVAILABLE = "unavailable"  # could not be reached, or is down
    THROTTLED = "throttled"
    EXPIRED = "expired"  # nobody took it in time
    TIMEOUT = "timeout"  # the backend gave up on it
    DEADLINE = "deadline"  # the task's own deadline passed
    CANCELLED = "cancelled"
    LOST = "lost"  # accepted, and then unknown to the backend
    UNRESOLVED = "unresolved"  # nobody knows whether it landed
    MISBEHAVED = "misbehaved"  # the backend answered what it must not
    NO_QUORUM = "no_quorum"  # too few of the answers agree
    NO_BACKEND = "no_backend"  # every candidate was removed
    INTERNAL = "internal"  # a defect in the gateway or in an adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Value):
    """Why a job or a run did not work, as data.

    Attributes:
        kind: the gateway's word.
        message: one sentence for a person: what happened, to what, and what to do.
        backend: where, if somewhere.
        job_id: the backend's own id, if one is known.
        code: the backend's own word for it.
        http_status: as received, if it came over HTTP.
        detail: what else is known, as JSON.
    """

    kind: FailureKind
    message: str
    backend: str | None = None
    job_id: str | None = None
    code: str | None = None
    http_status: int | None = None
    detail: JSON = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote(Value):
    """What a task would cost at one backend.

    Attributes:
        expected: the likely price; None if unknown.
        upper: the most it can cost: this is reserved; None if there is no bound.
        confidence: "exact", "range", "unknown", "configured" (from the configuration) or "free". The last two
            are so whatever the input is.
        quoted_at: when it was made.
        detail: how the backend explains it.
    """

    expected: Money | None
    upper: Money | None
    confidence: Literal["exact", "range", "unknown", "configured", "free"]
    quoted_at: datetime | None = None
    detail: JSON = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost(Value):
    """Three labelled numbers of one attempt, and what is known. Unknown is None, never 0.

    Attributes:
        quoted: what it would cost, as quoted.
        reserved: what was set aside for it.
        settled: what it did cost, from evidence.
        outcome: charged, not_charged or unknown. What is not charged may have cost something on the way: gas.
        evidence: the receipt, usage record or transaction behind `settled` or `outcome`.
    """

    quoted: Money | None = None
    reserved: Money | None = None
    settled: Money | None = None
    outcome: CostOutcome = CostOutcome.UNKNOWN
    evidence: JSON = None


@dataclass(frozen=True, slots=True)
class Hold(Value):
    """What an attempt has reserved in one budget's account, in the reporting currency's smallest unit."""

    scope: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Value):
    """One of the answers that a job has got and that wants accepting.

    Attributes:
        id: the backend's own word for it.
        output: what it says, if it could be read and verified.
        price: what accepting it costs.
        valid: it can be accepted; `reason` says why not.
    """

    id: str
    output: JSON = None
    price: Money | None = None
    valid: bool = True
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Value):
    """One look at a job.

    Attributes:
        status: the job's, in the gateway's words. A job that the backend forgot is FAILED with kind "lost".
        output: the answer; final only if the status is COMPLETED, else what there is so far.
        failure: set exactly if the status is FAILED, CANCELLED or REJECTED.
        cost: what the backend says it cost, if it does.
        answers: with status UPLOADING: those that want accepting now.
        message: the backend's own words on where it is.
        detail: what else it said (intermediate results, session id, usage, ...), as JSON.
    """

    status: Status
    output: JSON = None
    failure: Failure | None = None
    cost: Cost | None = None
    answers: tuple[Answer, ...] = ()
    message: str | None = None
    detail: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.failure is not None) != (self.status.is_final and self.status is not Status.COMPLETED):
            raise ValueError(
                f"a {self.status.name} snapshot {'has no' if self.failure else 'needs a'} failure"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(Value):
    """One try of a run at one backend.

    Attributes:
        id: a uuid; where a backend takes the client's own id, it is the job's.
        number: 1 for the first of its run.
        backend: where, by its name in the configuration.
        address: where, in the world: a name may come to mean another backend, and no job is ever looked for
            at any other address than the one that took it.
        target: the backend's words that it was made from.
        status: what the gateway knows of it.
        envelope: what is, or was, to be sent.
        handle: where the job lives, once it landed.
        snapshot: the last look that changed something.
        failure: why it is over without success.
        doubted: nobody knew for a while whether it had landed.
        accept: the act that accepts its answer, where the backend wants that.
        cost: see Cost.
        holds: what it has reserved in budgets until it ends.
        submitted_at: when it was known to have landed.
        ended_at: when it came to its end.
    """

    id: AttemptId
    number: int
    backend: str
    address: str
    target: Mapping[str, JSON]
    status: AttemptStatus
    created_at: datetime
    envelope: Envelope | None = None
    accept: Envelope | None = None
    doubted: bool = False
    handle: Handle | None = None
    snapshot: Snapshot | None = None
    failure: Failure | None = None
    cost: Cost = Cost()
    holds: tuple[Hold, ...] = ()
    submitted_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Value):
    """One task given to the gateway: an id, a status, attempts, one outcome.

    Attributes:
        id: the gateway's own.
        task: what was asked.
        backend: the selector: "auto", "auto:cheapest", a name, or several.
        idempotency_key: the caller's own; one key is one run.
        api_key: whose run it is, by the name of the caller's key; budgets per key count it.
        plan: the plan that it was taken in with, as JSON; `gateway.replan` plays it again.
        parent: the run whose task this one does, for hedging and quorum.
        children: the runs that do this one's task, and `children_at`, the backend of each.
        evidence: for a run with children: what each said, and who agreed.
        costs_of_children: what is known of their money when this run ended.
        traceparent: the caller's place in a trace (W3C), where traces are wanted.
        status: see lifecycle; `status.phase` is the coarse word.
        attempts: all tries, in order.
        output: the answer, when COMPLETED.
        failure: why not, when FAILED, CANCELLED or REJECTED.
        passed: every status it went through, with the time.
        cancel_requested_at: a wish, not a status.
        accept_answer: the id of the answer that the caller chose by hand; a wish as well.
        deadline_at: when it must have ended.
    """

    id: RunId
    task: Task
    backend: str | tuple[str, ...]
    status: Status
    created_at: datetime
    updated_at: datetime
    attempts: tuple[Attempt, ...] = ()
    output: JSON = None
    failure: Failure | None = None
    passed: tuple[tuple[Status, datetime], ...] = ()
    cancel_requested_at: datetime | None = None
    accept_answer: str | None = None
    deadline_at: datetime | None = None
    ended_at: datetime | None = None
    idempotency_key: str | None = None
    api_key: str | None = None
    plan: JSON = None
    parent: RunId | None = None
    children: tuple[RunId, ...] = ()
    children_at: tuple[str, ...] = ()
    evidence: JSON = None
    costs_of_children: tuple[Cost, ...] = ()
    traceparent: str | None = None

    @property
    def attempt(self) -> Attempt | None:
        """Return the newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def cost_outcome(self) -> CostOutcome:
        """Say what is known of all its attempts' money together, and of its children's."""
        if self.children and not self.costs_of_children:
            return CostOutcome.UNKNOWN  # they are under way
        costs = (*(attempt.cost for attempt in self.attempts), *self.costs_of_children)
        outcomes = {cost.outcome for cost in costs}
        for outcome in (CostOutcome.UNKNOWN, CostOutcome.CHARGED):
            if outcome in outcomes:
                return outcome
        return CostOutcome.NOT_CHARGED

    def with_attempt(self, attempt: Attempt) -> Run:
        """Return the run with this attempt put in the place of its number."""
        return replace(self, attempts=self.put_attempt(attempt))

    def put_attempt(self, attempt: Attempt) -> tuple[Attempt, ...]:
        """Return the run's attempts with this one put in the place of its number."""
        if not self.attempts or self.attempts[-1].number < attempt.number:
            return (*self.attempts, attempt)
        if self.attempts[-1].number == attempt.number:
            return (*self.attempts[:-1], attempt)
        kept = tuple(a for a in self.attempts if a.number != attempt.number)
        return tuple(sorted((*kept, attempt), key=lambda a: a.number))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Value):
    """One thing that happened to a run or a job, in order.

    Attributes:
        kind: "snapshot" (a look at the job), "piece" (a part of the output, as it came), "status" (the run's
            changed), "attempt" (one began, landed, ended, or was settled), "end" (the run is over).
        seq: grows by one per stored event of a run; 0 for those that are not stored (pieces).
        run_id: whose; "" from an adapter, which knows no runs.
        snapshot: for kind "snapshot".
        piece: for kind "piece": the part, as JSON.
        data: for kind "piece": the part, as the bytes that came (Infernet's streams).
        status: for kinds "status" and "end".
        attempt: for kind "attempt": its number, with `backend` and the attempt's status in `message`.
        message: one line for a person.
        at: when; None from an adapter, which is not asked for the time.
    """

    kind: Literal["snapshot", "piece", "status", "attempt", "end"]
    at: datetime | None = None
    seq: int = 0
    run_id: str = ""
    snapshot: Snapshot | None = None
    piece: JSON = None
    data: bytes | None = None
    status: Status | None = None
    attempt: int | None = None
    backend: str | None = None
    message: str | None = None
