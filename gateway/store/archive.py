"""The past: runs that have ended are kept for a while, handed out as a whole, and forgotten in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.errors import CostOutcome
from gateway.store.ledger import Entry
from gateway.store.rows import make_entry
from gateway.task import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """Which runs to forget. An open run never is, nor one whose parent is open.

    Attributes:
        ended_before: those that ended before this time.
        keep: so many of the runs that ended last stay, however long ago that was.
        unresolved: also those of which nobody knows what they cost: attempts of their own are unknown.
    """

    ended_before: datetime
    keep: int = 0
    unresolved: bool = False


class Archive(Protocol):
    """What has ended, for those who clear up or carry it elsewhere. Each may raise StoreError."""

    async def prune(self, which: Pruning, *, limit: int) -> int:
        """Forget at most `limit` of those runs and return how many; 0 when there are no more.

        With a run go its attempts, its events and the accounts that are its own ("run:ID|..."). Its costs
        stay on the bill, summed up (`Ledger.list_pruned`), and its idempotency key stays taken: `create`
        still raises RunExists for it, naming the run that is gone.
        """

    async def count_prunable(self, which: Pruning) -> int:
        """Return how many runs `prune` would forget in all; nothing is written."""

    def export(self, *, since: datetime | None = None) -> AsyncIterator[Run]:
        """Yield every run created since then, whole, oldest first, with a bounded number in memory."""


def list_run_entries(runs: Iterable[Run]) -> list[Entry]:
    """Return what some runs have on the bill."""
    return [
        make_entry(run.id, run.api_key, run.task.model, attempt) for run in runs for attempt in run.attempts
    ]


def get_end(run: Run) -> tuple[float | None, bool | None]:
    """Return when a run ended (seconds since 1970) and whether its cost is unknown; None if it is open.

    None of its attempts began or ended later, whatever the clock did: that is how recent ones are found.
    """
    if not run.status.is_final:
        return None, None
    ends = [run.ended_at or run.updated_at]
    for attempt in run.attempts:
        ends += (attempt.created_at, attempt.ended_at or attempt.created_at)
    return max(ends).timestamp(), not is_resolved(run)


def is_resolved(run: Run) -> bool:
    """Say whether it is known what a run's own attempts cost; its copies, if it has some, have theirs."""
    return all(attempt.cost.outcome is not CostOutcome.UNKNOWN for attempt in run.attempts)
