"""The comparison, as a part of the kill matrix's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.lost_answer.table import format_table

if TYPE_CHECKING:
    from benchmarks.kill_matrix.peers.__main__ import Outcome

_ABOUT = """\
## Beside peers

Three steps, one after the other: prepare, a submission that is paid, collect the result. A process makes one
call and is killed with `kill -9` where a step begins, where it ends (its result is not written down yet), or
while the submission is under way; the backend counts the submissions. Then the same program is started once
more, without the call: whatever it recovers, it recovers by itself. One submission is right.

DBOS Transact writes each step's result down and repeats a step of which it has none. Procrastinate keeps no
steps: a job of a dead worker is retried as a whole, by its heartbeats, once the application asks for that (it
does, here). So with both a step is done at least once, and it is left to the step to be harmless when it is
repeated. In "asking by hand" the step does what this gateway's adapters do: it first asks the backend, under
an id that was fixed before, whether the job is there. Where a backend can't be asked, this gateway does not
send again but ends the run as in doubt, and says what to look for.
"""


def format_part(points: Sequence[str], found: Mapping[str, Sequence[Outcome]], place: str) -> str:
    """Return the part, in Markdown."""
    sums = [
        [
            name,
            str(len(cells)),
            str(sum(cell.paid > 1 for cell in cells)),
            str(sum(cell.told == "lost" or cell.told.startswith("failed") for cell in cells)),
            str(sum(cell.told == "in doubt" for cell in cells)),
        ]
        for name, cells in found.items()
    ]
    lines = [
        [point, *(f"{column[row].paid}, {column[row].told}" for column in found.values())]
        for row, point in enumerate(points)
    ]
    return "\n\n".join(
        [
            _ABOUT.rstrip(),
            format_table(["", "deaths", "paid twice", "lost", "in doubt"], sums),
            format_table(["killed at", *found], lines),
            place,
        ]
    )
