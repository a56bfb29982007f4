"""Kill a process at every step of a run, for each adapter and store, and count at the backend."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.kill_matrix.cells import Cell, Way, find_all_broken
from benchmarks.kill_matrix.kinds import KINDS, Kind
from benchmarks.kill_matrix.lanes import ROOT, measure_lane
from benchmarks.kill_matrix.stores import PLACES, Place
from benchmarks.kill_matrix.table import format_page
from benchmarks.lost_answer.place import read_place
from benchmarks.page import write_part

COMMAND = "python -m benchmarks.kill_matrix"
PAGE = ROOT / "docs" / "kill_matrix.md"


def main() -> int:
    """Measure, print and write; 1 if a promise was broken in a cell."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--adapter", choices=[kind.name for kind in KINDS], help="only this; writes no page")
    parser.add_argument("--store", choices=[place.name for place in PLACES], help="only this; writes no page")
    parser.add_argument("--at-once", type=int, default=3, help="lanes (adapter, store, way) at the same time")
    args = parser.parse_args()
    kinds = [kind for kind in KINDS if args.adapter in (None, kind.name)]
    places = [place for place in PLACES if args.store in (None, place.name)]
    began = time.monotonic()
    cells = asyncio.run(_measure(kinds, places, args.at_once))
    page = format_page(cells, replace(read_place(datetime.now(UTC).date()), command=COMMAND))
    print(page)
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    if args.adapter is None and args.store is None:
        write_part("the matrix", page, PAGE)
    broken = find_all_broken(cells)
    for line in broken:
        print(f"BROKEN PROMISE: {line}", file=sys.stderr)
    return 1 if broken else 0


async def _measure(kinds: Sequence[type[Kind]], places: Sequence[Place], at_once: int) -> list[Cell]:
    room = asyncio.Semaphore(at_once)

    async def measure(kind: type[Kind], place: Place, way: Way) -> list[Cell]:
        async with room:
            return await measure_lane(kind, place, way)

    lanes = [measure(kind, place, way) for place in places for kind in kinds for way in Way]
    return [cell for lane in await asyncio.gather(*lanes) for cell in lane]


if __name__ == "__main__":
    sys.exit(main())
