"""Measure how long it takes to import the library and to start the command line."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.environments import (
    HTTPX,
    LITELLM,
    OPENAI,
    ROOT,
    Environment,
    NotInstalledError,
    make_variables,
)
from benchmarks.lost_answer.table import format_table
from benchmarks.page import format_misses, format_place, write_part

COMMAND = "python -m benchmarks.startup"


@dataclass(frozen=True, slots=True)
class Start:
    """What is started: a label, Python's arguments, where, and how long it may take."""

    label: str
    words: tuple[str, ...]
    environment: Environment | None = None
    floor_ms: float | None = None


STARTS = (
    Start("Python alone", ("-c", "pass")),
    Start("`import gateway`", ("-c", "import gateway"), floor_ms=150),
    Start("`gateway --help`", ("-m", "gateway", "--help"), floor_ms=300),
    Start("`import httpx`", ("-c", "import httpx"), HTTPX),
    Start("`import openai`", ("-c", "import openai"), OPENAI),
    Start("`import litellm`", ("-c", "import litellm"), LITELLM),
)

_ABOUT = """\
## Starting

A new process each time, from its start to its end, in turn; medians, with Python's own start in them. The
floors hold for what comes on top of it.
"""


def main() -> int:
    """Measure, print and write; 1 if a floor is missed."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--turns", type=int, default=9)
    args = parser.parse_args()
    pythons: dict[str, str] = {}
    for start in STARTS:
        try:
            pythons[start.label] = start.environment.install() if start.environment else sys.executable
        except NotInstalledError as error:
            print(error, file=sys.stderr)
    times: dict[str, list[float]] = {label: [] for label in pythons}
    for turn in range(args.turns + 1):  # the first writes the bytecode
        for start in STARTS:
            if start.label in pythons:
                seconds = _time_start([pythons[start.label], *start.words])
                times[start.label] += [seconds * 1e3] if turn else []
    found = [(start, median(times[start.label])) for start in STARTS if start.label in times]
    text = format_part(found)
    print(text)
    write_part("startup", text)
    return 1 if find_misses(found) else 0


def _time_start(call: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(  # noqa: S603  our own words
        call, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=make_variables(call[0])
    )
    return time.perf_counter() - began


def find_misses(found: Sequence[tuple[Start, float]]) -> list[str]:
    """Return the floors that were missed."""
    alone = found[0][1]
    return [
        f"{start.label} takes {ms - alone:.0f} ms instead of {start.floor_ms:g}"
        for start, ms in found
        if start.floor_ms is not None and ms - alone > start.floor_ms
    ]


def format_part(found: Sequence[tuple[Start, float]]) -> str:
    """Return the part of the page."""
    alone = found[0][1]
    lines = [
        [
            start.label,
            f"{ms:.0f}",
            "" if ms is alone else f"{ms - alone:.0f}",
            "" if start.floor_ms is None else f"{start.floor_ms:g}",
        ]
        for start, ms in found
    ]
    table = format_table(["what", "ms", "beyond Python's", "floor"], lines)
    versions = ["httpx 0.28.1", "openai 3.51.0", "litellm 1.106.2"]
    return "\n\n".join(
        [_ABOUT.strip(), table, format_misses(find_misses(found)), format_place(COMMAND, versions)]
    )


if __name__ == "__main__":
    sys.exit(main())
