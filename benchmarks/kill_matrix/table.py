"""The matrix, as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from benchmarks.kill_matrix.cells import Cell, Way, find_all_broken
from benchmarks.kill_matrix.points import POINTS
from benchmarks.lost_answer.table import format_table

if TYPE_CHECKING:
    from benchmarks.lost_answer.place import Place

_ABOUT = """\
A process makes one call, `gateway.run(task, idempotency_key=...)`, and is killed with `kill -9` at one step
of it. Then somebody goes on:

- *restarted*: the same program is started again and makes the same call with the same key;
- *taken over*: nobody makes the call again; a second process on the same store, which was running all the
  time, notices the death and takes the run over;
- *paused*: the process is not killed but stands still there (SIGSTOP), for longer than it is believed to
  live; the second process takes the run over and brings it to its end, and then the first one wakes up
  (SIGCONT) with whatever it was about to do.

The deaths are not timed but arranged: the store and the adapter kill (or pause) their own process at the
first write of a kind, before it or after it has returned; and a proxy on the wire kills the sender of a
request, which then never arrives, arrives after the death, or was carried out with nobody left to hear the
answer. A cell in which the process was not stopped there does not count and is named as broken.

What is counted is counted at the backend, by the stand-ins of the devnet: the submissions that it carried
out, and on OGPU's chain the confirmed answers. From the store come the run, how often its end was recorded,
and whether each budget counts exactly what the attempts have settled, or hold.
"""

_RULES = """\
- **paid twice**: more than one submission was carried out for a run, or more than one answer accepted.
- **lost**: a run that was taken in, or a job that was begun, of which the caller hears nothing.
- **in doubt**: the run ended FAILED with kind `unresolved`, names its attempt and says that the cost is
  unknown. Only where the backend can't let the gateway know: inference.sh has no id of ours and no
  idempotency key, so a task that its list does not show may still come. That a call was not sent is never
  taken for granted there.
- **not taken in**: the process died before the run was in the store, so the call did not return, and
  nothing was sent.
"""


def format_page(cells: Sequence[Cell], place: Place) -> str:
    """Return the page, in Markdown."""
    broken = [f"- {line}" for line in find_all_broken(cells)]
    parts = [
        "# The kill matrix",
        _ABOUT.rstrip(),
        "## In sum",
        _format_sums(cells),
        _RULES.rstrip(),
        *(["## Promises that this gateway broke\n\n" + "\n".join(broken)] if broken else []),
        "## Every cell",
        "The number is of submissions that the backend carried out; one is right.",
        *(_format_cells(list(group)) for _, group in groupby(_sort(cells), key=lambda cell: cell.store)),
        "## How to repeat it",
        f"```\n{place.command}\n```",
        "\n".join(f"- {line}" for line in place.lines),
    ]
    return "\n\n".join(parts) + "\n"


def _sort(cells: Iterable[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: cell.store)


def _format_sums(cells: Sequence[Cell]) -> str:
    heads = [
        *("adapter", "store", "cells", "paid twice", "lost", "in doubt", "ends recorded twice"),
        *("budgets out of order", "slowest end after a take-over"),
    ]
    places = list(dict.fromkeys((cell.adapter, cell.store) for cell in cells))
    return format_table(
        heads, [_sum_up([c for c in cells if (c.adapter, c.store) == place]) for place in places]
    )


def _sum_up(cells: Sequence[Cell]) -> list[str]:
    taken_over = [cell.seconds for cell in cells if cell.way is Way.REPLICA]
    broken = [cell.find_broken() for cell in cells]
    counts = (
        sum("paid twice" in names for names in broken),
        sum(any(name.startswith(("lost", "sent")) for name in names) for names in broken),
        sum(cell.found.in_doubt for cell in cells),
        sum(cell.found.ends > 1 for cell in cells),
        sum(not cell.found.is_booked for cell in cells),
    )
    slowest = f"{max(taken_over):.1f} s" if taken_over else ""
    return [cells[0].adapter, cells[0].store, str(len(cells)), *map(str, counts), slowest]


def _format_cells(cells: Sequence[Cell]) -> str:
    columns = list(dict.fromkeys((cell.adapter, cell.way) for cell in cells))
    found = {(cell.adapter, cell.way, cell.point): cell.told for cell in cells}
    lines = [
        [point.name, *(found.get((*column, point), "") for column in columns)]
        for point in POINTS
        if any(cell.point == point for cell in cells)
    ]
    heads = [f"killed ({cells[0].store})", *(f"{adapter}, {way}" for adapter, way in columns)]
    return format_table(heads, lines)
