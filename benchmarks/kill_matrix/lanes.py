"""Deaths one after another, at one backend and over one store, each followed by who goes on."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.kill_matrix.cells import Cell, Way, look_up
from benchmarks.kill_matrix.kinds import Kind
from benchmarks.kill_matrix.points import POINTS, Point
from benchmarks.kill_matrix.process import READY, Orders, make_accounting
from benchmarks.kill_matrix.proxy import wait_until_paused
from benchmarks.kill_matrix.stores import Place
from gateway.errors import StoreError
from gateway.store import make_store
from gateway.store.protocol import RunFilter, Store

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 300.0
_LOOK_EVERY_SECONDS = 0.05


@dataclass(slots=True)
class Lane:
    """One backend, one store, one way to go on."""

    kind: Kind
    store: Store
    orders: Orders
    name: str
    way: Way
    folder: Path
    _number: int = 0

    async def measure(self, point: Point) -> Cell:
        """Kill one process at that point, let the run go on, and count."""
        self._number += 1
        key = f"{self.way.name}-{self._number}"
        cell = Cell(self.kind.name, self.name, point, self.way)
        cell.is_allowed_doubt, cell.wants_accepting = not self.kind.knows, self.kind.accepts
        before = await self.kind.count()
        orders = self.orders.model_copy(update={"key": key, "text": f"hello {key}", "point": point})
        victim: Process | None = None
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                victim = await self._strike(orders, cell)
                began = time.monotonic()
                await self._go_on(orders, cell)
                cell.seconds = time.monotonic() - began
                if self.way is Way.PAUSED:
                    await self._wake(victim, cell)
                cell.found = await look_up(self.store, key, make_accounting(self.kind.currency))
        except TimeoutError:
            cell.trouble = f"not over after {LIMIT_SECONDS:g} s"
        except StoreError as error:
            cell.trouble = str(error)
        finally:
            if victim is not None and victim.returncode is None:
                victim.kill()
                await victim.wait()
        after = await self.kind.count()
        cell.submitted, cell.accepted = after[0] - before[0], after[1] - before[1]
        found = ", ".join(cell.find_broken()) or "as promised"
        print(
            f"{cell.adapter}, {cell.store}, {cell.way}, {point.name}: {cell.told}: {found}", file=sys.stderr
        )
        return cell

    async def _strike(self, orders: Orders, cell: Cell) -> Process:
        """Make the call in a process of its own, until it is killed, or paused, at its point."""
        pauses = self.way is Way.PAUSED
        self.kind.proxy.arm(cell.point, pauses=pauses)
        victim = await start(orders.model_copy(update={"pauses": pauses}), self.folder)
        self.kind.proxy.name_victim(victim)
        if not (pauses and await wait_until_paused(victim)):
            out, errors = await _finish(victim)
            if victim.returncode != -signal.SIGKILL:
                said = (out + errors).decode(errors="replace")[-500:]
                cell.trouble = f"it was not stopped, but ended with {victim.returncode}: {said}"
        await self.kind.proxy.settle()
        cell.was_stored = bool(await self.store.list_runs(RunFilter(idempotency_key=orders.key)))
        return victim

    async def _wake(self, victim: Process, cell: Cell) -> None:
        """Let a paused process go on, to its end: whatever it had begun must come to nothing."""
        victim.send_signal(signal.SIGCONT)
        _, errors = await _finish(victim)
        if victim.returncode:
            cell.trouble = f"the woken process broke: {errors.decode(errors='replace')[-500:]}"

    async def _go_on(self, orders: Orders, cell: Cell) -> None:
        if self.way is Way.RESTART:
            again = await start(orders.model_copy(update={"point": None}), self.folder)
            _, errors = await _finish(again)
            if again.returncode:
                cell.trouble = f"the restarted process broke: {errors.decode(errors='replace')[-500:]}"
            return
        while cell.was_stored:
            [run] = await self.store.list_runs(RunFilter(idempotency_key=orders.key))
            if run.status.is_final:
                return
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def measure_lane(
    kind: type[Kind], place: Place, way: Way, points: Sequence[Point] = POINTS
) -> list[Cell]:
    """Go through the points; those of accepting only where answers want that."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        backend = await stack.enter_async_context(kind.open())
        url = await stack.enter_async_context(place.open(folder))
        store = make_store(url)
        await store.open()
        stack.push_async_callback(store.aclose)
        orders = backend.make_orders(url)
        if way is not Way.RESTART:
            await stack.enter_async_context(_run_replica(orders, folder))
        lane = Lane(backend, store, orders, place.name, way, folder)
        return [await lane.measure(p) for p in points if kind.accepts or not p.needs_accepting]


async def start(orders: Orders, folder: Path) -> Process:
    """Start a process of ours."""
    file = folder / "orders.json"
    file.write_text(orders.model_dump_json(), encoding="utf-8")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.kill_matrix.process", str(file)),
        cwd=ROOT,
        stdout=PIPE,
        stderr=PIPE,
    )


async def _finish(process: Process) -> tuple[bytes, bytes]:
    """Wait for a process's end; one that takes too long is ended, so that the next cell is not mixed up."""
    try:
        return await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def _run_replica(orders: Orders, folder: Path) -> AsyncIterator[None]:
    replica = await start(orders.model_copy(update={"role": "replica"}), folder)
    try:
        if replica.stdout is None or (await replica.stdout.readline()).decode().strip() != READY:
            raise RuntimeError("the replica did not start")
        yield
    finally:
        replica.kill()
        await replica.communicate()
