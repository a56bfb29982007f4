"""What was found when a run was picked up again, for those who ask."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.lifecycle import AttemptStatus
from gateway.task import Run
from gateway.value import Value


@dataclass(frozen=True, slots=True)
class Recovered(Value):
    """One run that was taken over.

    Attributes:
        run_id: which.
        backend: where its newest attempt is, if it has one.
        found: in what state it was left.
        action: what is done about it.
    """

    run_id: str
    backend: str | None
    found: str
    action: str


_ACTIONS = {
    AttemptStatus.PREPARED: "asking whether the submission landed",
    AttemptStatus.IN_DOUBT: "asking whether the submission landed",
    AttemptStatus.SUBMITTED: "following the job where it is",
}


def tell_recovery(run: Run) -> Recovered:
    """Say what a run's last stored line means for it."""
    attempt = run.attempt
    if attempt is None:
        return Recovered(run.id, None, "stored, never submitted", "planning and submitting it")
    action = _ACTIONS.get(attempt.status, "deciding what follows the failed attempt")
    return Recovered(run.id, attempt.backend, f"attempt {attempt.number} {attempt.status}", action)


def tell_left_alone(run: Run) -> Recovered:
    """Say why an open run can't be worked on here."""
    attempt = run.attempt
    if attempt is None:
        return Recovered(
            run.id, None, "stored, never submitted", f"left alone: no model {run.task.model!r} here"
        )
    where = f"{attempt.backend} at {attempt.address}"
    return Recovered(
        run.id,
        attempt.backend,
        f"attempt {attempt.number} {attempt.status}",
        f"left alone: {where} is not configured here",
    )
