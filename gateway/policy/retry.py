"""What to do after an attempt ended without success: a value, decided before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from gateway.errors import BackendError, InDoubt, Rejected, Throttled, Unavailable
from gateway.lifecycle import AttemptStatus
from gateway.limits import Limits
from gateway.task import Attempt, Failure, FailureKind

DEFAULT_MAX_ATTEMPTS = 4

_KINDS: tuple[tuple[type[BackendError], FailureKind], ...] = (
    (Throttled, FailureKind.THROTTLED),
    (Unavailable, FailureKind.UNAVAILABLE),
    (Rejected, FailureKind.REJECTED),
    (InDoubt, FailureKind.UNRESOLVED),
)


@dataclass(frozen=True, slots=True)
class Stop:
    """The run ends with the attempt's failure."""

    why: str


@dataclass(frozen=True, slots=True)
class GoElsewhere:
    """The best backend that was not tried yet, now."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The same backends again, after a wait of at least `retry_after`."""

    retry_after: timedelta | None = None


Decision: TypeAlias = Stop | GoElsewhere | TryAgain


def decide(  # noqa: PLR0911  a table of rules, each with its answer
    attempts: Sequence[Attempt],
    limits: Limits,
    *,
    error: BackendError | None,
    untried: Sequence[str],
    pieces_out: bool,
) -> Decision:
    """Decide what follows the newest attempt.

    Args:
        attempts: all of the run, the newest is over and not a success.
        limits: the task's, merged.
        error: why it did not land; None if it did.
        untried: backends of the plan that this run has not tried.
        pieces_out: output of it was handed to the caller already.
    """
    last = attempts[-1]
    most = limits.max_attempts or DEFAULT_MAX_ATTEMPTS
    if pieces_out:
        return Stop("a part of the answer was handed out already")
    if len(attempts) >= most:
        return Stop(f"all {most} attempts are used up")
    if last.status is AttemptStatus.REFUSED and error is not None:
        if error.elsewhere and untried:
            return GoElsewhere()
        if error.here:
            return TryAgain(error.retry_after)
        return Stop("it would be refused again")
    if last.status in (AttemptStatus.FAILED, AttemptStatus.LOST):
        return GoElsewhere() if limits.on_failed == "next" and untried else Stop("the job itself failed")
    if last.status is AttemptStatus.UNRESOLVED and limits.on_doubt == "resubmit":
        return GoElsewhere() if untried else TryAgain()
    return Stop("nothing is left to try")


def make_failure(error: BackendError) -> Failure:
    """Tell a backend's error as data."""
    kind = next((kind for cls, kind in _KINDS if isinstance(error, cls)), FailureKind.MISBEHAVED)
    return Failure(
        kind=kind,
        message=error.message,
        backend=error.backend or None,
        job_id=error.job_id,
        code=error.code,
        http_status=error.http_status,
        detail=error.detail,
    )


def make_error(attempt: Attempt) -> BackendError | None:
    """Return why an attempt was refused, told by what was stored of it; None if it was not."""
    failure = attempt.failure
    if attempt.status is not AttemptStatus.REFUSED or failure is None:
        return None
    cls = next((cls for cls, kind in _KINDS if kind is failure.kind), Unavailable)
    return cls(failure.message, backend=attempt.backend, code=failure.code, http_status=failure.http_status)
