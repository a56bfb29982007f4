"""The page."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.lost_answer.table import format_table
from benchmarks.ogpu import floors
from benchmarks.ogpu.rounds import DELAY_SECONDS, TASKS, Row, Waiting

if TYPE_CHECKING:
    from benchmarks.lost_answer.place import Place
    from benchmarks.ogpu.drive import Sample

_ABOUT = f"""\
{TASKS} tasks are published on a local chain with OGPU's contracts and a block each second: with this
gateway, all at once; with the official SDK, one after another; and with the SDK in {TASKS} threads. The
time ends when the caller knows every task to be in a block: `publish_task` returned, or the run shows the
task; both have it from the receipt. Our time includes keeping each run in SQLite.

Every client has a process of its own that stays; its first publication, from a cold start, has a row of its
own. The clients take turns, ours after each of the others. Each round begins at another time between two
blocks, the same for every client. While one publishes, everybody else rests and all earlier tasks are
finished. *HTTP requests* are those to the chain's RPC; each client makes {TASKS} uploads beside them. *Last
block* counts from the newest one at the start.

Ours take two requests until all tasks are sent: a look at the source, its client and the newest block
together with an estimate, while the configs are uploaded; and the transactions. (From a cold start the health
check and the look come first, one after the other.) Then each look asks for the newest block and all receipts
in one, when the next block is expected.
"""


def format_page(
    plain: Sequence[Row], delayed: Sequence[Row], waiting: Waiting, misses: Sequence[str], place: Place
) -> str:
    """Return the page, in Markdown."""
    parts = [
        "# Publishing on OGPU, measured",
        _ABOUT.rstrip(),
        "## On a fast line",
        *_format_rows(plain),
        f"## With {DELAY_SECONDS * 1000:.0f} ms more for each HTTP request",
        *_format_rows(delayed),
        "## Tasks that wait",
        _format_waiting(waiting),
        "## Floors",
        _format_floors(misses),
        "## How to repeat it",
        f"```\n{place.command}\n```",
        "\n".join(f"- {line}" for line in place.lines),
    ]
    return "\n\n".join(parts) + "\n"


def _format_rows(rows: Sequence[Row]) -> list[str]:
    heads = ["client", "seconds, median", "all", "HTTP requests", "last block", "tasks on chain", "ours is"]
    lines: list[list[str]] = []
    for row in rows:
        ratio = "" if row is rows[0] else f"{row.seconds / rows[0].seconds:.1f} x as fast"
        lines.append(_format_line(row.client.name, row.samples, ratio))
    lines += [_format_line(f"{row.client.name}, first", [row.first], "") for row in rows if row.first]
    errors = sorted({error for row in rows for sample in row.samples for error in sample.errors})
    return [format_table(heads, lines), *([f"Errors: {', '.join(errors)}"] if errors else [])]


def _format_line(name: str, samples: Sequence[Sample], ratio: str) -> list[str]:
    seconds = [sample.seconds for sample in samples]
    return [
        name,
        f"{median(seconds):.2f}",
        ", ".join(f"{one:.2f}" for one in seconds) if len(seconds) > 1 else "",
        _format_range([sample.requests for sample in samples]),
        _format_range([sample.last_block for sample in samples]),
        _format_range([sample.on_chain for sample in samples]),
        ratio,
    ]


def _format_range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _format_waiting(waiting: Waiting) -> str:
    calls = ", ".join(f"{count} {name}" for name, count in sorted(waiting.calls.items()))
    return (
        f"{waiting.tasks:,} tasks that nobody takes were published in {waiting.published_in_seconds:.1f} s"
        f" (about {TASKS} fit in a block).\nFollowing all of them over {waiting.blocks} blocks took"
        f" **{waiting.requests} HTTP requests**: {calls}."
    )


def _format_floors(misses: Sequence[str]) -> str:
    promised = [
        f"{TASKS} tasks within {floors.MOST_BLOCKS} blocks and {floors.MOST_REQUESTS} HTTP requests",
        f"{floors.LEAST_AGAINST_SEQUENCE:g} times as fast as the SDK in sequence",
        f"{floors.LEAST_AGAINST_THREADS:g} times as fast as the SDK in {TASKS} threads with the delay",
        "one log scan per block, however many tasks wait",
    ]
    said = "\n".join(f"- {line}" for line in promised)
    if not misses:
        return f"{said}\n\nAll were reached."
    missed = "\n".join(f"- {line}" for line in misses)
    return f"{said}\n\n**Missed in this run:**\n\n{missed}"
