"""The statuses of runs and attempts, and the only tables of what may follow what.

A status changes through `advance_run` or `advance_attempt`, or not at all.
The names and numbers 1 to 13 are inference.sh's own (its public SDKs 0.7.8 and 0.36.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum


class Phase(StrEnum):
    """The coarse word for a status: Infernet's three."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


class Status(IntEnum):
    """Where a run or a job is."""

    RECEIVED = 1
    QUEUED = 2
    DISPATCHED = 3
    PREPARING = 4
    SERVING = 5
    SETTING_UP = 6
    RUNNING = 7
    CANCELLING = 8
    UPLOADING = 9
    COMPLETED = 10
    FAILED = 11
    CANCELLED = 12
    REJECTED = 13  # refused at admission, never ran

    @classmethod
    def parse(cls, value: object) -> Status:
        """Read a number, a numeric string or a name in any case.

        Raises:
            ValueError: for anything else, 0 and unheard-of values included. It is never guessed.
        """
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(f"{value!r} is not a status")  # noqa: TRY004  one error for one question
        try:
            if isinstance(value, str) and not value.strip().isdigit():
                return cls[value.strip().upper()]
            return cls(int(value))
        except (KeyError, ValueError):
            raise ValueError(f"{value!r} is not a status") from None

    @property
    def is_final(self) -> bool:
        """Nothing follows a final status."""
        return self in _FINAL

    @property
    def phase(self) -> Phase:
        """Return the coarse word: running, success or failed."""
        if self is Status.COMPLETED:
            return Phase.SUCCESS
        return Phase.FAILED if self in _FINAL else Phase.RUNNING


_FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.REJECTED})
_BEFORE_THE_JOB = frozenset({Status.QUEUED, Status.DISPATCHED})
_AT_THE_JOB = frozenset(
    {Status.PREPARING, Status.SERVING, Status.SETTING_UP, Status.RUNNING, Status.UPLOADING}
)

# A run may fall back from the job's statuses to QUEUED and DISPATCHED, because the next attempt begins there;
# a job's own statuses may come in any order, because a worker that dies puts its job back into the queue.
RUN_NEXT: Mapping[Status, frozenset[Status]] = {
    Status.RECEIVED: _BEFORE_THE_JOB | _AT_THE_JOB | _FINAL | {Status.CANCELLING},
    **{
        status: (_BEFORE_THE_JOB | _AT_THE_JOB | _FINAL | {Status.CANCELLING}) - {status}
        for status in _BEFORE_THE_JOB | _AT_THE_JOB
    },
    Status.CANCELLING: _FINAL | {Status.UPLOADING},
    **{status: frozenset() for status in _FINAL},
}


class AttemptStatus(StrEnum):
    """What the gateway knows about one try at one backend."""

    PREPARED = "prepared"  # its envelope is stored; it was not sent, or we crashed while sending
    IN_DOUBT = "in_doubt"  # it may have landed
    SUBMITTED = "submitted"  # it landed: there is a handle; the job's own status is in its snapshot
    REFUSED = "refused"  # it provably did not land
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the job failed after it was accepted
    CANCELLED = "cancelled"
    LOST = "lost"  # the backend accepted it and knows nothing of it any more
    UNRESOLVED = "unresolved"  # it may have landed and nobody can say: what it cost is unknown

    @property
    def is_final(self) -> bool:
        """Nothing follows a final status."""
        return not ATTEMPT_NEXT[self]


ATTEMPT_NEXT: Mapping[AttemptStatus, frozenset[AttemptStatus]] = {
    AttemptStatus.PREPARED: frozenset(
        {
            AttemptStatus.IN_DOUBT,
            AttemptStatus.SUBMITTED,
            AttemptStatus.REFUSED,
            AttemptStatus.CANCELLED,
        }
    ),
    AttemptStatus.IN_DOUBT: frozenset(
        {
            AttemptStatus.PREPARED,
            AttemptStatus.SUBMITTED,
            AttemptStatus.REFUSED,
            AttemptStatus.UNRESOLVED,
        }
    ),
    AttemptStatus.SUBMITTED: frozenset(
        {
            AttemptStatus.SUCCEEDED,
            AttemptStatus.FAILED,
            AttemptStatus.CANCELLED,
            AttemptStatus.LOST,
            AttemptStatus.UNRESOLVED,
        }
    ),
    AttemptStatus.REFUSED: frozenset(),
    AttemptStatus.SUCCEEDED: frozenset(),
    AttemptStatus.FAILED: frozenset(),
    AttemptStatus.CANCELLED: frozenset(),
    AttemptStatus.LOST: frozenset(),
    AttemptStatus.UNRESOLVED: frozenset(),
}


class IllegalTransitionError(RuntimeError):
    """A status was about to change in a way that the tables forbid: a defect of the gateway."""


def advance_run(now: Status, following: Status) -> Status:
    """Return the status that holds after `following` was seen; staying is always allowed.

    Raises:
        IllegalTransitionError: if the table has no such step.
    """
    if following is not now and following not in RUN_NEXT[now]:
        raise IllegalTransitionError(f"a run can't go from {now.name} to {following.name}")
    return following


def can_follow(now: Status, following: Status) -> bool:
    """Say whether a run may go from `now` to `following`."""
    return following in RUN_NEXT[now]


def advance_attempt(now: AttemptStatus, following: AttemptStatus) -> AttemptStatus:
    """Return `following`, if it may follow `now`; staying is always allowed.

    Raises:
        IllegalTransitionError: if the table has no such step.
    """
    if following is not now and following not in ATTEMPT_NEXT[now]:
        raise IllegalTransitionError(f"an attempt can't go from {now} to {following}")
    return following
