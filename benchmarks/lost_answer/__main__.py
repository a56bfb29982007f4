"""Count the jobs that one user call starts when every answer to a submission is lost."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.environments import PLACE, ROOT
from benchmarks.lost_answer.cells import Row, find_broken
from benchmarks.lost_answer.ours import KINDS, measure_ours
from benchmarks.lost_answer.peers import measure_peers
from benchmarks.lost_answer.place import read_place
from benchmarks.lost_answer.table import format_page


def main() -> int:
    """Measure, print and write; 1 if this gateway broke its promise in a cell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lost_answer", description=__doc__)
    parser.add_argument("--ours", action="store_true", help="only this gateway; writes no page")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "lost_answer.md", help="the page")
    parser.add_argument("--environments", type=Path, default=PLACE, help="where the peers are installed")
    args = parser.parse_args()
    began = time.monotonic()
    rows = asyncio.run(_measure(None if args.ours else args.environments.resolve()))
    page = format_page(rows, read_place(datetime.now(UTC).date()))
    print(page)
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    if not args.ours:
        args.out.write_text(page, encoding="utf-8")
    broken = find_broken(rows)
    for line in broken:
        print(f"BROKEN PROMISE: {line}", file=sys.stderr)
    return 1 if broken else 0


async def _measure(environments: Path | None) -> list[Row]:
    ours = [await measure_ours(kind, version("inference-gateway")) for kind in KINDS]
    return [*ours, *(await measure_peers(environments) if environments else [])]


if __name__ == "__main__":
    sys.exit(main())
