"""What was found when a run was picked up again, for those who ask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from gateway.lifecycle import AttemptStatus
from gateway.task import Event, Run
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


_ENDS = {
    AttemptStatus.LOST: "was forgotten by its backend",
    AttemptStatus.UNRESOLVED: "may have landed: nobody can say",
}


def tell_recovery(run: Run) -> Recovered:
    """Say what a run's last stored line means for it."""
    attempt = run.attempt
    if attempt is None:
        return Recovered(run.id, None, "stored, never submitted", "planning and submitting it")
    action = _ACTIONS.get(attempt.status, "deciding what follows the failed attempt")
    return Recovered(run.id, attempt.backend, f"attempt {attempt.number} {attempt.status}", action)


def tell_done(events: Iterable[Event], since: datetime) -> str:
    """Say what became of a run's attempts from then on; `events` are all of the run's."""
    told: list[str] = []
    doubted = resent = False
    for event in events:
        if event.kind != "attempt" or event.at is None:
            continue
        status = AttemptStatus((event.message or "").partition(":")[0])
        words = _tell_step(status, doubted=doubted, resent=resent)
        if words and event.at >= since:
            told.append(f"attempt {event.attempt} {words}")
        resent = status is AttemptStatus.PREPARED and (doubted or resent)
        doubted = status is AttemptStatus.IN_DOUBT
    return "; ".join(told) or "nothing has changed"


def _tell_step(status: AttemptStatus, *, doubted: bool, resent: bool) -> str:
    if status is AttemptStatus.SUBMITTED:
        return "had landed" if doubted else "had not landed, and was sent" if resent else "was sent"
    if status is AttemptStatus.REFUSED:
        return "had not landed, and can't any more" if doubted else "was refused"
    return _ENDS.get(status, str(status)) if status.is_final else ""


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
