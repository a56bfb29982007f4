"""Kill the same three steps in this gateway and in peers, let each recover, and count what was paid."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.durability.measure import DBOS, PROCRASTINATE
from benchmarks.environments import ROOT, Environment, NotInstalledError, make_variables
from benchmarks.kill_matrix.peers.backend import ANSWER_LOST, NEVER_ARRIVES, Backend
from benchmarks.kill_matrix.peers.table import format_part
from benchmarks.kill_matrix.peers.work import NOT_TAKEN_IN, Orders
from benchmarks.page import format_place, write_part
from gateway.testing.postgres import LocalPostgres

COMMAND = "python -m benchmarks.kill_matrix.peers"
PAGE = ROOT / "docs" / "kill_matrix.md"
POINTS = (
    *("begin prepare", "end prepare", "begin submit", NEVER_ARRIVES, ANSWER_LOST),
    *("end submit", "begin collect", "end collect"),
)
_LIMIT_SECONDS = 60.0
_SCRIPTS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Contender:
    """One column.

    Attributes:
        name: what is killed.
        script: in this folder.
        store: makes the place to write to.
        environment: a peer's; None for ours.
        asks: whether the submission is asked after.
    """

    name: str
    script: str
    store: Callable[[], str]
    environment: Environment | None = None
    asks: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one death came to.

    Attributes:
        paid: how many submissions the backend carried out.
        told: how the call ended.
    """

    paid: int
    told: str


def main() -> int:
    """Measure, print and write; 1 if ours paid twice or lost something."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--only", default="", help="contenders whose name has this; writes no page")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(LocalPostgres())
        contenders = [one for one in make_contenders(folder, postgres) if args.only in one.name]
        found = asyncio.run(measure(contenders))
    place = format_place(COMMAND, ["DBOS 3.4.0", "Procrastinate 3.10.0"])
    part = format_part(POINTS, found, place)
    print(part)
    if not args.only:
        write_part("beside peers", part, PAGE)
    ours = [cell for name, column in found.items() if name.startswith("ours") for cell in column]
    return int(any(cell.paid > 1 or cell.told == "lost" for cell in ours))


def make_contenders(folder: Path, postgres: LocalPostgres) -> list[Contender]:
    """Return the columns."""
    numbers = itertools.count()

    def make_file() -> str:
        return f"sqlite:///{folder / f'{next(numbers)}.db'}"

    return [
        Contender("ours, SQLite", "ours.py", make_file),
        Contender("ours, PostgreSQL", "ours.py", lambda: postgres.make_url("ours")),
        Contender("ours, a backend that can't be asked", "ours.py", make_file, asks=False),
        Contender("DBOS, SQLite", "dbos_steps.py", make_file, DBOS, asks=False),
        Contender("DBOS, PostgreSQL", "dbos_steps.py", postgres.make_url, DBOS, asks=False),
        Contender("DBOS, asking by hand", "dbos_steps.py", make_file, DBOS),
        Contender("Procrastinate", "procrastinate_steps.py", postgres.make_url, PROCRASTINATE, asks=False),
    ]


async def measure(
    contenders: Sequence[Contender], points: Sequence[str] = POINTS
) -> dict[str, list[Outcome]]:
    """Kill each at every point; a contender that can't be installed is left out."""
    found: dict[str, list[Outcome]] = {}
    async with Backend() as backend:
        for one in contenders:
            try:
                python = one.environment.install() if one.environment else sys.executable
            except NotInstalledError as error:
                print(f"{one.name}: {error}", file=sys.stderr)
                continue
            found[one.name] = [await _measure_cell(one, python, backend, point) for point in points]
    return found


async def _measure_cell(one: Contender, python: str, backend: Backend, point: str) -> Outcome:
    key = f"{one.script.partition('.')[0]}-{one.asks}-{POINTS.index(point)}-{id(one)}"
    orders = Orders("call", backend.url, one.store(), key, point, one.asks)
    backend.begun.clear()
    backend.point = point if point in (NEVER_ARRIVES, ANSWER_LOST) else ""
    backend.victim = asyncio.get_running_loop().create_future()
    victim = await _start(python, one.script, orders)
    backend.victim.set_result(victim)
    said = await _finish(victim)
    if victim.returncode != -signal.SIGKILL:
        raise RuntimeError(f"{one.name}, {point}: it was not killed: {said}")
    heir = await _start(python, one.script, replace(orders, role="go on"))
    said = await _finish(heir)
    told = said.splitlines()[-1] if heir.returncode == 0 and said else "lost"
    if told == NOT_TAKEN_IN and backend.begun:
        told = "lost"
    outcome = Outcome(len(backend.begun), told)
    print(f"{one.name}, {point}: {outcome}{'' if told != 'lost' else said}", file=sys.stderr, flush=True)
    return outcome


async def _start(python: str, script: str, orders: Orders) -> Process:
    return await asyncio.create_subprocess_exec(
        *(python, str(_SCRIPTS / script), json.dumps(vars(orders))),
        stdout=PIPE,
        stderr=PIPE,
        env=make_variables(python),
    )


async def _finish(process: Process) -> str:
    """Wait for a process's end, and return what it said; one that takes too long has lost the call."""
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            out, errors = await process.communicate()
            return out.decode().strip() or errors.decode(errors="replace")[-1000:]
    except TimeoutError:
        return "it did not end"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    sys.exit(main())
