"""What a look at the chain says about a delegated subscription. Pure: the reader looks, this judges.

The node answers 200 and says nothing more, whatever becomes of a subscription; so silence is never success
here: only answers that are both in the log and in the coordinator's count are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.chain.rpc import Head
from gateway.lifecycle import Status
from gateway.task import Failure, FailureKind, Snapshot
from gateway.types import JSON
from gateway_infernet.answers import Form
from gateway_infernet.delegated import encode_subscription_tuple
from gateway_infernet.subscription import NEVER, ZERO_ADDRESS, Delegation


class Stage(StrEnum):
    """Where a delegated subscription is."""

    WAITING = "waiting"  # not on the chain; the signature still holds
    EXPIRED = "expired"  # not on the chain, and never will be: the signature is over
    FOREIGN = "foreign"  # the owner had used the nonce for another subscription: ours never ran
    RUNNING = "running"  # on the chain, answers are missing
    INCOMPLETE = "incomplete"  # its last interval is over, and answers are missing for good
    CANCELLED = "cancelled"  # the owner cancelled it before all answers were there
    FULFILLED = "fulfilled"  # every interval has as many answers as were asked for


@dataclass(frozen=True, slots=True)
class Delivery:
    """One node's answer to one interval. `form` says how to take `output`."""

    interval: int
    node: str
    transaction: str
    block_number: int
    form: Form
    output: JSON = field(hash=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the coordinator keeps of a subscription; cancelling changes `active_at`, and never the `rest`."""

    active_at: int
    rest: tuple[JSON, ...]

    @classmethod
    def of(cls, values: Sequence[JSON]) -> Stored:
        """Make it from the values of the struct, in the order of the ABI."""
        owner, active_at, *rest = values
        flat = (value.lower() if isinstance(value, str) else value for value in (owner, *rest))
        return cls(active_at, tuple(flat))

    @property
    def is_there(self) -> bool:
        """Say whether it has an owner, as every subscription has."""
        return bool(self.rest[0] != ZERO_ADDRESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All that was read about one subscription, at one block.

    Attributes:
        head: that block.
        subscription_id: the coordinator's id; 0 if there is none yet.
        stored: the subscription of that id.
        deliveries: found in the log.
        counts: the coordinator's own count of answers, by interval, where it was asked for.
    """

    head: Head
    subscription_id: int = 0
    stored: Stored | None = None
    deliveries: tuple[Delivery, ...] = ()
    counts: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What has become of a delegated subscription, as of one block.

    Attributes:
        stage: the one word.
        message: one sentence for a person.
        head: the block.
        subscription_id: the coordinator's id; None if it was not created.
        deliveries: the answers so far, by interval.
        missing: how many answers are still to come, over all intervals.
    """

    stage: Stage
    message: str
    head: Head
    subscription_id: int | None = None
    deliveries: tuple[Delivery, ...] = ()
    missing: int = 0

    def encode(self) -> dict[str, JSON]:
        """Return it as JSON, for a Snapshot's detail: the same for as long as nothing happens."""
        return {
            "stage": self.stage.value,
            "subscription_id": self.subscription_id,
            "missing": self.missing,
            "deliveries": [
                {
                    "interval": delivery.interval,
                    "node": delivery.node,
                    "transaction": delivery.transaction,
                    "block_number": delivery.block_number,
                    "form": delivery.form.value,
                    "output": delivery.output,
                }
                for delivery in self.deliveries
            ],
        }


BEHIND_SECONDS = 10
"""So long after its time a subscription may still be told to be there, or answered: who tells of the newest
block and who tells what is in it may be two replicas of an RPC, and the second behind."""

_STATUS: Mapping[Stage, tuple[Status, FailureKind | None]] = {
    Stage.WAITING: (Status.QUEUED, None),
    Stage.EXPIRED: (Status.FAILED, FailureKind.EXPIRED),
    Stage.FOREIGN: (Status.REJECTED, FailureKind.REJECTED),
    Stage.RUNNING: (Status.RUNNING, None),
    Stage.INCOMPLETE: (Status.FAILED, FailureKind.EXPIRED),
    Stage.CANCELLED: (Status.CANCELLED, FailureKind.CANCELLED),
    Stage.FULFILLED: (Status.COMPLETED, None),
}


def progress_of(delegation: Delegation, look: Look) -> Progress:
    """Judge one look."""
    head, wanted = look.head, _count_wanted(delegation)
    if not look.subscription_id:
        expiry = delegation.signature.expiry
        if head.timestamp >= expiry + BEHIND_SECONDS:
            message = f"no node created it before its signature expired at {expiry}; the node's log knows why"
            return Progress(stage=Stage.EXPIRED, message=message, head=head, missing=wanted)
        message = "not on the chain yet"
        return Progress(stage=Stage.WAITING, message=message, head=head, missing=wanted)
    if look.stored is not None and not is_ours(look.stored, delegation):
        message = (
            f"the owner had used nonce {delegation.signature.nonce} before, for subscription"
            f" {look.subscription_id}, which is another one; sign with a new nonce"
        )
        return Progress(stage=Stage.FOREIGN, message=message, head=head, missing=wanted)
    return _judge_created(delegation, look)


def _judge_created(delegation: Delegation, look: Look) -> Progress:
    sub, head, wanted = delegation.subscription, look.head, _count_wanted(delegation)
    deliveries = tuple(sorted(look.deliveries, key=lambda d: (d.interval, d.block_number, d.node)))
    seen = Counter(delivery.interval for delivery in deliveries)
    # An index of logs may lag behind the state: an answer counts once both have it.
    agreed = {interval: min(logged, look.counts.get(interval, 0)) for interval, logged in seen.items()}
    missing = wanted - sum(min(count, sub.redundancy) for count in agreed.values())
    lagging = any(count != seen[interval] for interval, count in look.counts.items())
    stage = Stage.RUNNING
    message = f"{missing} of {wanted} answers are missing"
    if missing == 0:
        stage, message = Stage.FULFILLED, "all answers are there"
    elif lagging:
        message += "; the log and the coordinator's count do not agree yet"
    elif look.stored is not None and look.stored.active_at == NEVER:
        stage, message = Stage.CANCELLED, f"its owner cancelled it; {message}"
    elif sub.period and head.timestamp >= sub.active_at + sub.period * sub.frequency + BEHIND_SECONDS:
        stage, message = Stage.INCOMPLETE, f"its last interval is over; {message}"
    return Progress(
        stage=stage,
        message=message,
        head=head,
        subscription_id=look.subscription_id,
        deliveries=deliveries,
        missing=missing,
    )


def get_interval(delegation: Delegation, timestamp: int) -> int | None:
    """Return the interval that is answered at a time: None before the first, the last one ever after."""
    sub = delegation.subscription
    if timestamp < sub.active_at:
        return None
    return min((timestamp - sub.active_at) // sub.period + 1, sub.frequency) if sub.period else 1


def make_output(delegation: Delegation, progress: Progress) -> JSON:
    """Return the output of a job: the answer where one was asked for, else a list of all of them."""
    if _count_wanted(delegation) == 1 and len(progress.deliveries) == 1:
        return progress.deliveries[0].output
    return [
        {"interval": delivery.interval, "node": delivery.node, "output": delivery.output}
        for delivery in progress.deliveries
    ]


def make_snapshot(delegation: Delegation, progress: Progress, *, backend: str) -> Snapshot:
    """Say it in the gateway's words. Answers that are there before the end are in the output already."""
    status, kind = _STATUS[progress.stage]
    failure = None
    if kind is not None:
        failure = Failure(
            kind=kind,
            message=progress.message,
            backend=backend,
            job_id=delegation.job_id,
            code=progress.stage.value,
            detail=progress.encode(),
        )
    unread = [d.transaction for d in progress.deliveries if d.form is Form.UNREADABLE]
    message = progress.message
    if unread:
        message += f"; only the owner contract has what came in {', '.join(unread)}"
    return Snapshot(
        status=status,
        output=make_output(delegation, progress) if progress.deliveries else None,
        failure=failure,
        message=message,
        detail={"delegated": progress.encode()},
    )


def _count_wanted(delegation: Delegation) -> int:
    return delegation.subscription.frequency * delegation.subscription.redundancy


def is_ours(stored: Stored, delegation: Delegation) -> bool:
    """Say whether the coordinator's subscription is this one: a used nonce leads to another."""
    ours = Stored.of(encode_subscription_tuple(delegation.subscription))
    return stored.rest == ours.rest and stored.active_at in (ours.active_at, NEVER)
