"""Compare what one good result costs, and how long it takes, by how the backend is chosen."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.lost_answer.place import Place, read_place
from benchmarks.routing.measure import Row, find_misses, measure
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
        results = pool.map(_measure_one, range(len(ALL)))
        found = [Row(workload, result) for workload, result in zip(ALL, results, strict=True)]
    rows, beyond = found[: len(WORKLOADS)], found[len(WORKLOADS) :]
    misses = find_misses(rows)
    if speed.plan >= LIMIT_SECONDS:
        misses.append(f"planning takes {speed.plan * 1e3:.1f} ms")
    page = format_page(rows, beyond, speed, misses, _read_place())
    print(page)
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    args.out.write_text(page, encoding="utf-8")
    for miss in misses:
        print(f"GOAL MISSED: {miss}", file=sys.stderr)
    return 1 if misses else 0


def _measure_one(number: int) -> Mapping[str, Result]:
    """Measure one workload, told by its number: its functions can't be sent to another process."""
    return measure(ALL[number]).results


def _read_place() -> Place:
    day, machine, versions, *_ = read_place(datetime.now(UTC).date()).lines
    return Place(COMMAND, (day, machine, versions.partition(", httpx2")[0]))


if __name__ == "__main__":
    sys.exit(main())
