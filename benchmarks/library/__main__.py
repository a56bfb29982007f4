"""Measure runs in the library beside the same work by hand and through other clients."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.environments import (
    HTTPX,
    INFERNET_CLIENT,
    LITELLM,
    OPENAI,
    Environment,
    NotInstalledError,
    run_script,
)
from benchmarks.lost_answer.table import format_table
from benchmarks.page import format_misses, format_place, write_part
from benchmarks.serving import serve_mock

COMMAND = "python -m benchmarks.library"
AT_ONCE = 100
CPU_FLOOR_MS = 0.3
_DRIVES = Path(__file__).parent / "drives"


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who is measured.

    Attributes:
        label: in the table.
        drive: the script.
        environment: where it runs; None is where we run.
        count: pieces of work per turn, so that a turn takes some seconds.
        floor: how many times as fast this gateway has to be.
        words: further arguments of the script.
    """

    label: str
    drive: str
    environment: Environment | None
    count: int
    floor: float | None = None
    words: tuple[str, ...] = ()


OURS = Contestant("this gateway, SQLite store, submit to result", "ours", None, 3000)
BARE = Contestant("its Infernet adapter alone (the bytes)", "ours", None, 3000, words=("bare",))
ALL = (
    OURS,
    BARE,
    Contestant("httpx by hand, POST and GET", "httpx_by_hand", HTTPX, 400, 10),
    Contestant("infernet-client, request_job and get_job_results", "node_client", INFERNET_CLIENT, 600, 2),
    Contestant("LiteLLM Router, acompletion", "litellm_router", LITELLM, 500, 8),
    Contestant("OpenAI SDK, chat.completions.create", "openai_sdk", OPENAI, 600),
)

_ABOUT = f"""\
## The library: {AT_ONCE} runs in flight

A piece of work is a job at a mock of an Infernet node that ends at once: submitted, looked at, its result in
hand. For LiteLLM and OpenAI's SDK it is one chat completion, half as many requests. All keep connections
alive, all ask the same mock process, in turn (A B A B); the figures are medians of the turns. The CPU time is
that of the client's process with all its threads: it depends less on what else the machine does.

What this gateway does more: each run is on disk before it is sent, when it has landed, and when it ended;
what it does less: no tracing, no metrics, and jobs that come together go in one request.
"""


def main() -> int:
    """Measure, print and write; 1 if a floor is missed."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    rates, cpus, missing = measure(args.turns)
    misses = find_misses(rates, cpus)
    text = format_part(rates, cpus, [*misses, *missing])
    print(text)
    write_part("library", text)
    return 1 if misses else 0


def measure(turns: int) -> tuple[dict[str, float], dict[str, float], list[str]]:
    """Return the medians of pieces a second and of CPU milliseconds a piece, and who is not there."""
    pythons: dict[str, str] = {}
    missing: list[str] = []
    for one in ALL:
        try:
            pythons[one.label] = one.environment.install() if one.environment else sys.executable
        except NotInstalledError as error:
            missing.append(str(error))
    rates, cpus = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with serve_mock() as mock:
        for _ in range(turns):
            for one in ALL:
                if one.label not in pythons:
                    continue
                drive = _DRIVES / f"{one.drive}.py"
                found = run_script(pythons[one.label], drive, mock.url, one.count, AT_ONCE, *one.words)
                rates[one.label].append(found["rate"])
                cpus[one.label].append(found["cpu_ms"])
                print(f"{one.label}: {found['rate']:.0f}/s, {found['cpu_ms']:.2f} ms", file=sys.stderr)
    return (
        {label: median(found) for label, found in rates.items()},
        {label: median(found) for label, found in cpus.items()},
        missing,
    )


def find_misses(rates: Mapping[str, float], cpus: Mapping[str, float]) -> list[str]:
    """Return the floors that were missed."""
    misses = [
        f"{rates[OURS.label] / rates[one.label]:.1f} times {one.label} instead of {one.floor:g}"
        for one in ALL
        if one.floor and one.label in rates and rates[OURS.label] < one.floor * rates[one.label]
    ]
    beyond = cpus[OURS.label] - cpus[BARE.label]
    if beyond > CPU_FLOOR_MS:
        misses.append(f"{beyond:.2f} ms of CPU per run beyond the bytes instead of {CPU_FLOOR_MS}")
    return misses


def format_part(rates: Mapping[str, float], cpus: Mapping[str, float], misses: list[str]) -> str:
    """Return the part of the page."""
    ours = OURS.label
    lines = [
        [
            one.label,
            f"{rates[one.label]:,.0f}",
            "" if one is OURS else f"{rates[ours] / rates[one.label]:.1f}",
            "" if one.floor is None else f"{one.floor:g}",
            f"{cpus[one.label]:.2f}",
            "" if one is OURS else f"{cpus[one.label] / cpus[ours]:.1f}",
        ]
        for one in ALL
        if one.label in rates
    ]
    heads = ["who", "a second", "ours is so many times", "floor", "CPU ms each", "times our CPU"]
    beyond = f"CPU of a run beyond the bytes: {cpus[ours] - cpus[BARE.label]:.2f} ms (floor {CPU_FLOOR_MS})."
    versions = ["httpx 0.28.1", "infernet-client 1.4.0", "litellm 1.106.2", "openai 3.51.0"]
    return "\n\n".join(
        [
            _ABOUT.strip(),
            format_table(heads, lines),
            beyond,
            format_misses(misses),
            format_place(COMMAND, versions),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
