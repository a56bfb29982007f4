"""Runs that wait, and go on waiting after a restart. Words: store, runs, what they wait for.

`landed`: jobs at a backend that never ends them. `room`: a full gate, before they have a job.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from benchmarks.durability.drives.instant import Endless
from benchmarks.durability.drives.measure import tell
from gateway import AsyncGateway, Task
from gateway.policy.capacity import Capacity

_LOOKED_FOR_SECONDS = 10.0
_PLACES = 10


async def main(store: str, total: int, way: str) -> None:
    """Measure: submit them, watch them wait, then leave them and open a second gateway over the store."""
    found: dict[str, float] = {"idle_mb": read_mb()}
    backend = Endless("mock")
    async with make_gateway(backend, store, way) as gateway:
        began = time.perf_counter()
        for start in range(0, total, 500):
            numbers = range(start, min(start + 500, total))
            await asyncio.gather(*(gateway.submit(make_task(number), "mock") for number in numbers))
        await wait_for_all(gateway, total, way)
        found["submitted_per_second"] = total / (time.perf_counter() - began)
        polls, cpu = backend.polls, time.process_time()
        await asyncio.sleep(_LOOKED_FOR_SECONDS)
        found["mb"], found["tasks"] = read_mb(), len(asyncio.all_tasks())
        found["timers"] = len(getattr(asyncio.get_running_loop(), "_scheduled", ()))
        found["polls_per_second"] = (backend.polls - polls) / _LOOKED_FOR_SECONDS
        found["cpu_share"] = (time.process_time() - cpu) / _LOOKED_FOR_SECONDS
    began = time.perf_counter()
    async with make_gateway(Endless("mock"), store, way) as second:
        found["most_tasks"] = await wait_for_all(second, total, way)
        found["recovered_per_second"] = total / (time.perf_counter() - began)
        found["recovered_mb"] = read_mb()
    found["peak_mb"] = read_mb("VmHWM")
    tell(found)


def make_gateway(backend: Endless, store: str, way: str) -> AsyncGateway:
    """Make a gateway with room for all, or hardly any."""
    capacities = {"mock": Capacity(max_in_flight=_PLACES)} if way == "room" else {}
    return AsyncGateway([backend], store=store, capacities=capacities)


def make_task(number: int) -> Task:
    """Make a small task."""
    return Task(target={}, input={"text": "hello", "number": number})


async def wait_for_all(gateway: AsyncGateway, total: int, way: str = "landed") -> int:
    """Wait until so many runs have landed, or wait for room, in this process; returns the most tasks seen."""
    lives, most = gateway._engine._worker.live, 0  # noqa: SLF001  to count
    parks = way == "room"
    while sum(live.has_landed or (parks and live.stay is not None) for live in list(lives.values())) < total:
        most = max(most, len(asyncio.all_tasks()))
        await asyncio.sleep(0.2)
    return most


def read_mb(word: str = "VmRSS") -> float:
    """Return this process's memory; Linux tells it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(word))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
