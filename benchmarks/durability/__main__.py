"""Measure what durability costs: throughput, memory of waiting runs, listing a full store; beside peers."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.durability.measure import (
    DBOS,
    DRIVES,
    PROCRASTINATE,
    Contender,
    Numbers,
    measure_in_turn,
    measure_replicas,
)
from benchmarks.durability.table import (
    format_floors,
    format_listing,
    format_page,
    format_ratios,
    format_replicas,
    format_takeover,
    format_waiting,
)
from benchmarks.environments import ROOT, run_script
from benchmarks.page import format_place
from gateway.testing.postgres import LocalPostgres

_JOURNAL, _WHOLE, _MEMORY = "the journal alone, SQLite", "whole, SQLite", "whole, no store (memory)"
_POSTGRES = "whole, PostgreSQL"
_TAKEN_OVER = 1_000
_DBOS, _DBOS_POSTGRES, _PROCRASTINATE = "DBOS, SQLite", "DBOS, PostgreSQL", "Procrastinate, PostgreSQL"


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durability", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="this part of all numbers of runs")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument(
        "--no-scale-tests", action="store_true", help="not 100,000 waiting, nor 1,000,000 ended"
    )
    parser.add_argument("--note", default="", help="a sentence about the machine, for the page")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "durability_benchmark.md")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(LocalPostgres())
        contenders = make_contenders(folder, postgres, args.scale)
        ours = [one for one in contenders if one.environment is None]
        disk = run_script(sys.executable, DRIVES / "disk.py", folder / "disk.db", 100, 100)
        found = measure_in_turn(ours if args.no_peers else contenders, args.rounds, 100)
        calm = measure_in_turn([one for one in ours if one.name in {_WHOLE, _MEMORY}], args.rounds, 10)
        others = [
            judge(found, calm),
            format_replicas(measure_replicas(make_schemas(postgres), args.rounds, int(10_000 * args.scale))),
            measure_takeover(folder, postgres),
        ]
        if not args.no_scale_tests:
            others += measure_scale(folder, args.scale)
    place = format_place("python -m benchmarks.durability", ["DBOS 3.4.0", "Procrastinate 3.10.0"])
    page = format_page(place, args.note, args.rounds, disk, found, others)
    print(page)
    args.out.write_text(page, encoding="utf-8")
    return 0


def make_contenders(folder: Path, postgres: LocalPostgres, scale: float) -> list[Contender]:
    """Return everybody, each with a new place to write to in each round."""
    numbers = itertools.count()

    def make_file() -> str:
        return f"sqlite:///{folder / f'{next(numbers)}.db'}"

    def make_schema() -> str:
        return postgres.make_url(f"ours{next(numbers)}")

    def make_peers_url() -> str:
        return postgres.make_url()

    runs = int(5_000 * scale)
    return [
        Contender(_JOURNAL, "journal.py", make_file, runs * 2),
        Contender(_WHOLE, "ours.py", make_file, runs),
        Contender(_MEMORY, "ours.py", lambda: "memory:", runs),
        Contender(_POSTGRES, "ours.py", make_schema, runs // 2),
        Contender(_DBOS, "dbos_steps.py", make_file, runs // 10, DBOS),
        Contender(_DBOS_POSTGRES, "dbos_steps.py", make_peers_url, runs // 10, DBOS),
        Contender(_PROCRASTINATE, "procrastinate_steps.py", make_peers_url, runs // 5, PROCRASTINATE),
    ]


def make_schemas(postgres: LocalPostgres) -> Callable[[], str]:
    """Return what makes a new schema for each round of replicas."""
    numbers = itertools.count()
    return lambda: postgres.make_url(f"replicas{next(numbers)}")


def judge(found: dict[str, Numbers], calm: dict[str, Numbers]) -> str:
    """Hold what was found against the floors."""
    pairs = [
        (_WHOLE, _MEMORY, 0.6),
        (_WHOLE, _DBOS, 3.0),
        (_POSTGRES, _DBOS_POSTGRES, 3.0),
        (_POSTGRES, _PROCRASTINATE, 3.0),
    ]
    rates = [(_JOURNAL, 10_000.0), (_WHOLE, 2_000.0), (_POSTGRES, 1_000.0)]
    floors = [
        (f"{name}, runs a second", floor, found[name]["rate"], True) for name, floor in rates if name in found
    ]
    if _WHOLE in calm and _MEMORY in calm:
        added = calm[_WHOLE]["p99_ms"] - calm[_MEMORY]["p99_ms"]
        floors.append(("p99 added by SQLite, 10 in flight, ms", 10.0, added, False))
    return f"## Floors\n\n{format_ratios(found, pairs)}\n\n{format_floors(floors)}"


def measure_takeover(folder: Path, postgres: LocalPostgres) -> str:
    """Kill processes, and measure how long until others have all of their runs moving again."""
    deaths = [
        ("SQLite, the same machine", f"sqlite:///{folder / 'takeover.db'}", 0),
        ("PostgreSQL, the same machine", postgres.make_url("takeover_here"), 0),
        ("PostgreSQL, another machine", postgres.make_url("takeover_elsewhere"), 1),
    ]
    found = {
        name: run_script(sys.executable, DRIVES / "takeover.py", store, _TAKEN_OVER, elsewhere)
        for name, store, elsewhere in deaths
    }
    print(json.dumps(found), file=sys.stderr)
    return format_takeover(_TAKEN_OVER, found)


def measure_scale(folder: Path, scale: float) -> list[str]:
    """Measure a full store, and a full process."""
    ended, waiting = int(1_000_000 * scale), int(100_000 * scale)
    listing = run_script(sys.executable, DRIVES / "listing.py", folder / "full.db", ended)
    held = {
        way: run_script(sys.executable, DRIVES / "waiting.py", f"sqlite:///{folder / way}.db", waiting, way)
        for way in ("landed", "room")
    }
    print(json.dumps([listing, held]), file=sys.stderr)
    return [format_listing(ended, listing), format_waiting(waiting, held)]


if __name__ == "__main__":
    sys.exit(main())
