"""What one death came to, and which promises it broke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from benchmarks.kill_matrix.points import Point
from gateway.errors import CostOutcome
from gateway.lifecycle import Status
from gateway.policy.budget import Accounting
from gateway.store.protocol import RunFilter, Store
from gateway.task import Attempt, FailureKind, Run


class Way(StrEnum):
    """Who goes on."""

    RESTART = "restarted"  # the same program again: it makes the same call, with the same idempotency key
    REPLICA = "taken over"  # another process on the same store, which was there all the time
    PAUSED = "paused"  # the same, but the process wakes up when its run has ended elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the store holds of a call.

    Attributes:
        told: how it ended, in a few words; "" if there is no run.
        is_known: it finished, or it is in doubt and its failure names the attempt.
        in_doubt: nobody knows whether its submission landed.
        ends: how often its end was recorded.
        is_booked: what its budget counts is what its attempts have settled, or still hold.
    """

    told: str = ""
    is_known: bool = True
    in_doubt: bool = False
    ends: int = 1
    is_booked: bool = True


@dataclass(slots=True)
class Cell:
    """One death.

    Attributes:
        adapter, store: of the lane.
        point: where.
        way: who went on.
        was_stored: the run was in the store when the process died.
        found: what the store holds in the end.
        submitted, accepted: what the backend carried out: jobs begun, and answers accepted.
        seconds: from the death to the run's end.
        is_allowed_doubt: the backend can't let the gateway know.
        trouble: what kept the cell from being measured.
    """

    adapter: str
    store: str
    point: Point
    way: Way
    was_stored: bool = False
    found: Found = field(default_factory=Found)
    submitted: int = 0
    accepted: int = 0
    seconds: float = 0.0
    is_allowed_doubt: bool = False
    wants_accepting: bool = False
    trouble: str = ""

    @property
    def never_taken_in(self) -> bool:
        """Say whether there was nothing to go on with: the call did not return, and nothing was sent."""
        return self.way is Way.REPLICA and not self.was_stored

    @property
    def told(self) -> str:
        """Say how it ended, with the number of jobs at the backend."""
        return f"{self.submitted}, {self.found.told or 'not taken in'}"

    def find_broken(self) -> list[str]:
        """Name the promises that were not kept."""
        wanted = 0 if self.never_taken_in or self.found.in_doubt else 1
        checks = {
            self.trouble: bool(self.trouble),
            "paid twice": self.submitted > 1 or self.accepted > 1,
            "lost": self.submitted < wanted or not self.found.is_known,
            "lost: its run is not in the store": not self.found.told and not self.never_taken_in,
            "sent without a run": self.submitted > 0 and not self.found.told,
            "in doubt, where the backend knows": self.found.in_doubt and not self.is_allowed_doubt,
            "not accepted": self.wants_accepting and self.accepted < wanted,
            f"recorded {self.found.ends} ends": bool(self.found.told) and self.found.ends != 1,
            "the budget is not in order": not self.found.is_booked,
        }
        return [name for name, is_so in checks.items() if is_so]


async def look_up(store: Store, key: str, accounting: Accounting) -> Found:
    """Read what the store holds of a call that has ended."""
    runs = await store.list_runs(RunFilter(idempotency_key=key, limit=2))
    if not runs:
        return Found()
    [run] = runs
    events = await store.list_events(run.id)
    told, is_known, in_doubt = _describe(run)
    used = await store.ledger.fetch_spent()
    return Found(
        told=told,
        is_known=is_known,
        in_doubt=in_doubt,
        ends=sum(event.kind == "end" for event in events),
        is_booked=used.get(f"run:{run.id}|||", 0) == sum(_count(a, accounting) for a in run.attempts),
    )


def _describe(run: Run) -> tuple[str, bool, bool]:
    if run.status is Status.COMPLETED:
        return "finished", True, False
    failure, attempt = run.failure, run.attempt
    if failure is None or attempt is None or failure.kind is not FailureKind.UNRESOLVED:
        return f"{run.status.name.lower()}: {failure.message if failure else ''}", False, False
    named = isinstance(failure.detail, dict) and failure.detail.get("attempt_id") == attempt.id
    said = attempt.cost.outcome is CostOutcome.UNKNOWN
    return "in doubt", named and said, True


def _count(attempt: Attempt, accounting: Accounting) -> int:
    """Return what an attempt that has ended must still count in each of its budgets."""
    held = {hold.amount for hold in attempt.holds}
    if len(held) > 1:
        raise ValueError(f"attempt {attempt.id} holds different amounts: {held}")
    if attempt.cost.outcome is CostOutcome.NOT_CHARGED:
        return 0
    if attempt.cost.settled is None:
        return sum(held)
    return accounting.rates.convert(attempt.cost.settled, attempt.created_at.date()).amount


def find_all_broken(cells: Sequence[Cell]) -> list[str]:
    """Name every broken promise, with its cell."""
    return [
        f"{cell.adapter}, {cell.store}, {cell.way}, {cell.point.name}: {what} ({cell.told})"
        for cell in cells
        for what in cell.find_broken()
    ]
