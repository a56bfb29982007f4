"""Compare what one good result costs, and how long it takes, by how the backend is chosen."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from benchmarks.lost_answer.place import Place, read_place
from benchmarks.routing.measure import SEEDS, Row, find_misses, find_ties, measure
from benchmarks.routing.planning import LIMIT_SECONDS, measure_planning
from benchmarks.routing.simulation import Result
from benchmarks.routing.table import format_page
from benchmarks.routing.workloads import BEYOND, WORKLOADS

ROOT = Path(__file__).resolve().parents[2]
ALL = (*WORKLOADS, *BEYOND)
COMMAND = "python -m benchmarks.routing"


def main() -> int:
    """Measure, print and write; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "routing_benchmark.md", help="the page")
    args = parser.parse_args()
    began = time.monotonic()
    speed = measure_planning()
    with ProcessPoolExecutor() as pool:
        parts = list(pool.map(_measure_one, *zip(*product(range(len(ALL)), SEEDS), strict=True)))
    found = [_join(number, parts[number * len(SEEDS) :][: len(SEEDS)]) for number in range(len(ALL))]
    rows, beyond = found[: len(WORKLOADS)], found[len(WORKLOADS) :]
    misses = find_misses(rows)
    if speed.plan >= LIMIT_SECONDS:
        misses.append(f"planning takes {speed.plan * 1e3:.1f} ms")
    page = format_page(rows, beyond, speed, (misses, find_ties(rows)), _read_place())
    print(page)
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    args.out.write_text(page, encoding="utf-8")
    for miss in misses:
        print(f"GOAL MISSED: {miss}", file=sys.stderr)
    return 1 if misses else 0


def _measure_one(number: int, seed: int) -> Mapping[str, Sequence[Result]]:
    """Measure one workload, told by its number: its functions can't be sent to another process."""
    return measure(ALL[number], (seed,)).played


def _join(number: int, parts: Sequence[Mapping[str, Sequence[Result]]]) -> Row:
    """Put a workload's results with all seeds together."""
    return Row(ALL[number], {name: [result for part in parts for result in part[name]] for name in parts[0]})


def _read_place() -> Place:
    day, machine, versions, *_ = read_place(datetime.now(UTC).date()).lines
    return Place(COMMAND, (day, machine, versions.partition(", httpx2")[0]))


if __name__ == "__main__":
    sys.exit(main())
