"""The table, as text and as a page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.lost_answer.cells import TIMEOUT_SECONDS, Row, find_broken
from benchmarks.lost_answer.losses import Loss

if TYPE_CHECKING:
    from benchmarks.lost_answer.place import Place

_ABOUT = f"""\
A server takes a job, and the answer to the submission is lost: the connection is reset, a gateway in between
answers 502, nothing comes at all, or the server itself answers 429 or 500. Each number is how many jobs **one
user call** started, counted by the servers: what would have been billed. One is right.

Every client runs in the same way: against a local server that works, behind a proxy that passes everything
on and loses the answer to every submission, at every server and every time. Clients wait
{TIMEOUT_SECONDS:g} s for an answer where that can be set. Retries are each client's defaults; whoever has
fallbacks has one. A `+` means that the client was still trying when it was stopped. The first column is the
control: with no answer lost, every client finishes with one job.
"""

_TOLD = """\
Where a client raised or failed, everything that it started is paid for, and no
result is in the caller's hands."""


def format_page(rows: Sequence[Row], place: Place) -> str:
    """Return the page, in Markdown."""
    heads = [loss.value for loss in Loss]
    counts = [[row.client, *(row.cells[loss].count for loss in Loss)] for row in rows if row.cells]
    told = [[row.client, *(row.cells[loss].told for loss in Loss)] for row in rows if row.cells]
    setups = [[row.client, row.setup] for row in rows if row.cells]
    missing = [f"- {row.client}: {row.reason}" for row in rows if not row.cells]
    broken = [f"- {line}" for line in find_broken(rows)]
    parts = [
        "# Lost answers",
        _ABOUT.rstrip(),
        format_table(["jobs started by one call", *heads], counts),
        *(["Not in the table:\n\n" + "\n".join(missing)] if missing else []),
        *(["## Promises that this gateway broke\n\n" + "\n".join(broken)] if broken else []),
        "## What the caller got",
        _TOLD,
        format_table(["client", *heads], told),
        "## How they were configured",
        format_table(["client", "configuration"], setups),
        "## How to repeat it",
        f"```\n{place.command}\n```",
        "\n".join(f"- {line}" for line in place.lines),
    ]
    return "\n\n".join(parts) + "\n"


def format_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with even columns."""
    widths = [max(len(line[i]) for line in (heads, *lines)) for i in range(len(heads))]

    def join(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([join(heads), rule, *(join(line) for line in lines)])
