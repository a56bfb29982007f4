"""Put load on `gateway serve` for minutes, and look at its memory and its answers."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from statistics import mean

from benchmarks.lost_answer.table import format_table
from benchmarks.page import format_misses, format_place, write_part
from benchmarks.server.contestants import OURS, make_body
from benchmarks.server.load import Load, get_loader, load
from benchmarks.server.running import Running, pin_others, run_contestant
from benchmarks.serving import serve_mock

COMMAND = "python -m benchmarks.soak"
CONNECTIONS = 50
MEMORY_FLOOR_MB = 120.0
GROWTH_FLOOR = 0.03
_EVERY_SECONDS = 1.0

_ABOUT = f"""\
## The server's memory under load

OpenAI's chat completions on {CONNECTIONS} connections, each durable in the SQLite store; the resident set
of the server's processes is read every second. Flat is what does not grow by more than {GROWTH_FLOOR:.0%}
from the mean of the third quarter of the time to that of the last.
"""


def main() -> int:
    """Measure, print and write; 1 if a floor is missed."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--pause-ms", type=int, default=0, help="between two calls of a connection")
    args = parser.parse_args()
    pin_others()
    with serve_mock() as mock, run_contestant(OURS, mock.url, "echo") as running:
        idle_mb = running.get_memory_mb()
        seen, done = _watch(running, args.seconds, args.pause_ms)
    misses = find_misses(seen, done)
    text = format_part(idle_mb, seen, done, args, misses)
    print(text)
    write_part("soak", text)
    return 1 if misses else 0


def _watch(running: Running, seconds: float, pause_ms: int) -> tuple[list[float], Load]:
    """Put load on it; return the MB of each second, and what the loader tells."""
    done: list[Load] = []
    call = (running.url, running.headers, make_body("echo"), CONNECTIONS, seconds, pause_ms)
    loading = threading.Thread(target=lambda: done.append(load(*call)))
    loading.start()
    seen: list[float] = []
    while loading.is_alive():
        seen.append(running.get_memory_mb())
        time.sleep(_EVERY_SECONDS)
    return seen, done[0]


def get_quarters(seen: Sequence[float]) -> list[float]:
    """Return the mean of each quarter."""
    cuts = [len(seen) * number // 4 for number in range(5)]
    return [mean(seen[cuts[number] : cuts[number + 1]]) for number in range(4)]


def find_misses(seen: Sequence[float], done: Load) -> list[str]:
    """Return the floors that were missed."""
    quarters, misses = get_quarters(seen), []
    if max(seen) > MEMORY_FLOOR_MB:
        misses.append(f"{max(seen):.0f} MB instead of {MEMORY_FLOOR_MB:g}")
    if quarters[3] > quarters[2] * (1 + GROWTH_FLOOR):
        misses.append(f"it grows: {quarters[2]:.0f} MB in the third quarter, {quarters[3]:.0f} in the last")
    if done.failed:
        misses.append(f"{done.failed} calls failed")
    return misses


def format_part(
    idle_mb: float, seen: Sequence[float], done: Load, args: argparse.Namespace, misses: list[str]
) -> str:
    """Return the part of the page."""
    quarters = get_quarters(seen)
    lines = [
        ["when it had answered once", f"{idle_mb:.0f}"],
        *(
            [f"mean of the {name} quarter", f"{quarter:.0f}"]
            for name, quarter in zip(("first", "second", "third", "last"), quarters, strict=True)
        ),
        ["the most", f"{max(seen):.0f}"],
    ]
    pause = f", with a pause of {args.pause_ms} ms between two of a connection" if args.pause_ms else ""
    told = f"In {args.seconds:.0f} s: {done.count:,} calls{pause}; {done.failed} of them failed."
    words = f" --pause-ms {args.pause_ms}" if args.pause_ms else ""
    place = format_place(f"{COMMAND} --seconds {args.seconds:g}{words}", [f"loader: {get_loader()}"])
    table = format_table(["memory", "MB"], lines)
    return "\n\n".join([_ABOUT.strip(), told, table, format_misses(misses), place])


if __name__ == "__main__":
    sys.exit(main())
