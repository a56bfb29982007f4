"""Measure how late results are seen, and how many requests that takes, beside infernet-client."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.environments import INFERNET_CLIENT, NotInstalledError, run_script
from benchmarks.lost_answer.table import format_table
from benchmarks.page import format_misses, format_place, write_part
from benchmarks.serving import Mock, serve_mock

COMMAND = "python -m benchmarks.polling"
RTT_MS = 2.0
MOST_REQUESTS = 30
LEAST_SHARE = 0.25
SIDE_BY_SIDE_SECONDS = 10.0
_DRIVES = Path(__file__).parent / "drives"


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Attributes:
        seconds: that a job takes.
        at_once: jobs at a time.
        count: jobs in all.
        floor_ms: the lateness allowed at the median; None where requests are what counts.
    """

    seconds: float
    at_once: int
    count: int
    floor_ms: float | None = None

    @property
    def label(self) -> str:
        """The words for the table."""
        jobs = "one at a time" if self.at_once == 1 else f"{self.at_once} at a time"
        return f"{self.seconds * 1e3:g} ms, {jobs}" if self.seconds < 1 else f"{self.seconds:g} s, {jobs}"


CASES = (
    Case(0.05, 1, 40, 15),
    Case(0.3, 1, 30, 15),
    Case(2.0, 1, 12, 60),
    Case(30.0, 1, 5, 300),
    Case(0.05, 20, 100),
    Case(0.3, 20, 100),
    Case(2.0, 20, 100),
    Case(30.0, 20, 40),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Of one case: median lateness of the jobs, and requests for each."""

    late_ms: float
    requests: float


_ABOUT = f"""\
## Polling: how late a result is seen

Late is from the moment at which the mock node had the result to the moment at which the caller had it, by
the machine's clock; the round trip is {RTT_MS:g} ms. The figures are medians over all jobs; from the first
ones this gateway learns how long they take. Requests are submissions, looks, and what is asked of the
node beside. infernet-client waits for its jobs with `get_job_result_sync`, with tries enough. The two
work in turn, with jobs of 30 s side by side, at mocks of their own.
"""


def main() -> int:
    """Measure, print and write; 1 if a floor is missed."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument(
        "--longest", type=float, default=60.0, help="leave out jobs that take longer (seconds)"
    )
    args = parser.parse_args()
    cases = [case for case in CASES if case.seconds <= args.longest]
    missing: list[str] = []
    try:
        python = INFERNET_CLIENT.install()
    except NotInstalledError as error:
        missing.append(str(error))
    rows: list[tuple[Case, Found, Found | None]] = []
    with serve_mock(RTT_MS) as mock, serve_mock(RTT_MS) as other, ThreadPoolExecutor() as pool:
        for case in cases:
            ours = pool.submit(measure, mock, sys.executable, "ours.py", case)
            if case.seconds < SIDE_BY_SIDE_SECONDS:
                ours.result()
            theirs = None if missing else pool.submit(measure, other, python, "node_client.py", case)
            rows.append((case, ours.result(), None if theirs is None else theirs.result()))
    misses = find_misses(rows)
    text = format_part(rows, [*misses, *missing])
    print(text)
    write_part("polling", text)
    return 1 if misses else 0


def measure(mock: Mock, python: str, drive: str, case: Case) -> Found:
    """Let one client run a case's jobs."""
    before = mock.count_requests()
    late = run_script(python, _DRIVES / drive, mock.url, case.seconds, case.count, case.at_once)["late_ms"]
    found = Found(median(late), (mock.count_requests() - before) / case.count)
    print(f"{case.label}, {drive}: {found}", file=sys.stderr)
    return found


def find_misses(rows: Sequence[tuple[Case, Found, Found | None]]) -> list[str]:
    """Return the floors that were missed."""
    misses: list[str] = []
    for case, ours, theirs in rows:
        if case.floor_ms is not None and ours.late_ms > case.floor_ms:
            misses.append(f"{case.label}: {ours.late_ms:.0f} ms late instead of {case.floor_ms:g}")
        if ours.requests > MOST_REQUESTS:
            misses.append(f"{case.label}: {ours.requests:.0f} requests a job instead of {MOST_REQUESTS}")
        if case.at_once > 1 and theirs is not None and ours.requests > theirs.requests * LEAST_SHARE:
            misses.append(
                f"{case.label}: {ours.requests:.2f} requests a job instead of {theirs.requests / 4:.2f}"
            )
    return misses


def format_part(rows: Sequence[tuple[Case, Found, Found | None]], misses: Sequence[str]) -> str:
    """Return the part of the page."""
    lines = [
        [
            case.label,
            f"{ours.late_ms:.0f}",
            "" if case.floor_ms is None else f"{case.floor_ms:g}",
            "" if theirs is None else f"{theirs.late_ms:.0f}",
            f"{ours.requests:.1f}",
            "" if theirs is None else f"{theirs.requests:.1f}",
        ]
        for case, ours, theirs in rows
    ]
    heads = [
        "jobs",
        "ms late",
        "floor",
        "infernet-client's",
        "requests a job",
        "infernet-client's requests",
    ]
    table = format_table(heads, lines)
    place = format_place(COMMAND, ["infernet-client 1.4.0"])
    return "\n\n".join([_ABOUT.strip(), table, format_misses(misses), place])


if __name__ == "__main__":
    sys.exit(main())
