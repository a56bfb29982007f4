"""What one call under one loss came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.lost_answer.losses import Loss

TIMEOUT_SECONDS = 1.0
"""How long each client is told to wait for an answer, where it can be told."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One user call.

    Attributes:
        accepted: how many jobs the servers took: what would have been billed.
        told: what the caller got in the end, in a few words.
        kept: for this gateway: one job, and the run finished or is in doubt with its handle.
        seconds: how long the call took.
        unfinished: it was still going on when it was stopped, so that `accepted` is a lower bound.
    """

    accepted: int
    told: str
    seconds: float
    kept: bool | None = None
    unfinished: bool = False

    @property
    def count(self) -> str:
        """The number as the table shows it."""
        return f"{self.accepted}+" if self.unfinished else str(self.accepted)


@dataclass(frozen=True, slots=True)
class Row:
    """One client under every loss, or the reason why it was not measured.

    Attributes:
        client: with its version.
        setup: how it was configured, in half a sentence.
        cells: by loss; empty if `reason` is set.
        reason: why there are no numbers.
    """

    client: str
    setup: str
    cells: dict[Loss, Cell]
    reason: str = ""


def find_broken(rows: Iterable[Row]) -> list[str]:
    """Name every cell of ours with more or less than one job, or with a job that nobody can find."""
    return [
        f"{row.client}, {loss.value}: {cell.accepted} jobs, {cell.told}"
        for row in rows
        for loss, cell in row.cells.items()
        if cell.kept is False
    ]
