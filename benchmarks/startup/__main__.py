"""Measure how long it takes to import the library, to start the command line, and to start the server."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
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
from benchmarks.server.contestants import (
    LITELLM as LITELLM_PROXY,
)
from benchmarks.server.contestants import (
    OURS,
    PORTKEY_GATEWAY,
    STARLETTE_HTTPX,
    Contestant,
)
from benchmarks.server.running import run_contestant
from benchmarks.serving import serve_mock

COMMAND = "python -m benchmarks.startup"


@dataclass(frozen=True, slots=True)
class Start:
    """What is started: a label, Python's arguments, where, and how long it may take."""

    label: str
    words: tuple[str, ...]
    environment: Environment | None = None
    floor_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """How long a start took, and may take."""

    label: str
    ms: float
    floor_ms: float | None


STARTS = (
    Start("Python alone", ("-c", "pass")),
    Start("`import gateway`", ("-c", "import gateway"), floor_ms=150),
    Start("`gateway --help`", ("-m", "gateway", "--help"), floor_ms=300),
    Start("`import httpx`", ("-c", "import httpx"), HTTPX),
    Start("`import openai`", ("-c", "import openai"), OPENAI),
    Start("`import litellm`", ("-c", "import litellm"), LITELLM),
)
SERVER_FLOOR_MS = 500.0
_SERVER_TURNS = 3
_SERVERS: Mapping[str, Contestant] = {
    "`gateway serve` to its first answer": OURS,
    "Starlette 1.10.0 with httpx 0.28.1 to its first answer": STARLETTE_HTTPX,
    "Portkey gateway 1.15.2 to its first answer": PORTKEY_GATEWAY,
    "LiteLLM proxy 1.106.2 to its first answer": LITELLM_PROXY,
}

_ABOUT = """\
## Starting

A new process each time, from its start to its end, in turn, with the bytecode that an installation leaves;
medians, with Python's own start in them. The floors hold for what comes on top of it. A server is timed
until its first chat completion is answered, which a mock behind it does at once: this gateway has opened its
store by then, and asked the backend what it can.
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
    found = [
        Found(start.label, median(times[start.label]), start.floor_ms)
        for start in STARTS
        if start.label in times
    ]
    found += measure_servers()
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


def measure_servers() -> list[Found]:
    """Start each server some times, cold but for the first, which installs it and writes the bytecode."""
    times: dict[str, list[float]] = defaultdict(list)
    with serve_mock() as mock:
        for turn in range(_SERVER_TURNS + 1):
            for label, server in _SERVERS.items():
                began = time.perf_counter()
                try:
                    with run_contestant(server, mock.url, "echo"):
                        seconds = time.perf_counter() - began
                except NotInstalledError as error:
                    print(error, file=sys.stderr)
                    continue
                times[label] += [seconds * 1e3] if turn else []
    return [
        Found(label, median(times[label]), SERVER_FLOOR_MS if server is OURS else None)
        for label, server in _SERVERS.items()
        if label in times
    ]


def find_misses(found: Sequence[Found]) -> list[str]:
    """Return the floors that were missed."""
    alone = found[0].ms
    return [
        f"{one.label} takes {one.ms - alone:.0f} ms instead of {one.floor_ms:g}"
        for one in found
        if one.floor_ms is not None and one.ms - alone > one.floor_ms
    ]


def format_part(found: Sequence[Found]) -> str:
    """Return the part of the page."""
    alone = found[0].ms
    lines = [
        [
            one.label,
            f"{one.ms:.0f}",
            "" if one is found[0] else f"{one.ms - alone:.0f}",
            "" if one.floor_ms is None else f"{one.floor_ms:g}",
        ]
        for one in found
    ]
    table = format_table(["what", "ms", "beyond Python's", "floor"], lines)
    versions = ["httpx 0.28.1", "openai 3.51.0", "litellm 1.106.2"]
    return "\n\n".join(
        [_ABOUT.strip(), table, format_misses(find_misses(found)), format_place(COMMAND, versions)]
    )


if __name__ == "__main__":
    sys.exit(main())
