"""Publish tasks on OGPU with this gateway and with the official SDK, and compare."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.environments import OGPU, PLACE
from benchmarks.lost_answer.place import Place, read_place
from benchmarks.ogpu.drive import ROOT, Client
from benchmarks.ogpu.floors import find_misses
from benchmarks.ogpu.rounds import DELAY_SECONDS, TASKS, Row, Waiting, measure_rounds, measure_waiting
from benchmarks.ogpu.table import format_page
from gateway.devnet.chain.anvil import Anvil
from gateway.devnet.chain.chain import make_chain

COMMAND = "python -m benchmarks.ogpu"
_SDK = OGPU.packages[0]


def main() -> int:
    """Measure, print and write; 1 if a floor is missed."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="publications per client and delay")
    parser.add_argument("--waiting", type=int, default=1000, help="tasks that wait")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "ogpu_benchmark.md", help="the page")
    parser.add_argument("--environments", type=Path, default=PLACE, help="where the SDK is installed")
    args = parser.parse_args()
    began = time.monotonic()
    found = asyncio.run(_measure(args.environments.resolve(), args.rounds, args.waiting))
    misses = find_misses(*found)
    page = format_page(
        *found, misses, _read_place(f"{COMMAND} --rounds {args.rounds} --waiting {args.waiting}")
    )
    print(page)
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    args.out.write_text(page, encoding="utf-8")
    for miss in misses:
        print(f"FLOOR MISSED: {miss}", file=sys.stderr)
    return 1 if misses else 0


async def _measure(environments: Path, rounds: int, tasks: int) -> tuple[list[Row], list[Row], Waiting]:
    python = await asyncio.to_thread(OGPU.install, environments)
    ours = Client(f"this gateway {version('inference-gateway')}", "ours")
    name = _SDK.replace("==", " SDK ")
    sdk = Client(f"{name}, one after another", "sdk", python)
    threads = replace(sdk, name=f"{name}, {TASKS} threads", threads=TASKS)
    waiting = await measure_waiting(ours, tasks)
    plain = await measure_rounds(ours, [sdk, threads], delay=0.0, rounds=rounds)
    delayed = await measure_rounds(ours, [sdk, threads], delay=DELAY_SECONDS, rounds=rounds)
    return plain, delayed, waiting


def _read_place(command: str) -> Place:
    day, machine, versions, *_ = read_place(datetime.now(UTC).date()).lines
    evm = "anvil" if isinstance(make_chain(chain_id=1), Anvil) else "pyrevm"
    words = versions.partition(", httpx2")[0]
    return Place(command, (day, machine, f"{words}, web3 {version('web3')}, {_SDK}; EVM: {evm}"))


if __name__ == "__main__":
    sys.exit(main())
