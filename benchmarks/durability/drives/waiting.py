"""Runs that wait for a backend that never ends them: memory, tasks, looks, recovery. Words: store, runs."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from benchmarks.durability.drives.instant import Endless
from benchmarks.durability.drives.measure import tell
from gateway import AsyncGateway, Task
from gateway.lifecycle import AttemptStatus

_LOOKED_FOR_SECONDS = 10.0


async def main(store: str, total: int) -> None:
    """Measure: submit them, watch them wait, then leave them and open a second gateway over the store."""
    found: dict[str, float] = {"idle_mb": read_mb()}
    backend = Endless("mock")
    async with AsyncGateway([backend], store=store) as gateway:
        began = time.perf_counter()
        for start in range(0, total, 500):
            numbers = range(start, min(start + 500, total))
            await asyncio.gather(*(gateway.submit(make_task(number), "mock") for number in numbers))
        await wait_for_all(gateway, total)
        found["submitted_per_second"] = total / (time.perf_counter() - began)
        polls, cpu = backend.polls, time.process_time()
        await asyncio.sleep(_LOOKED_FOR_SECONDS)
        found["mb"], found["tasks"] = read_mb(), len(asyncio.all_tasks())
        found["polls_per_second"] = (backend.polls - polls) / _LOOKED_FOR_SECONDS
        found["cpu_share"] = (time.process_time() - cpu) / _LOOKED_FOR_SECONDS
    began = time.perf_counter()
    async with AsyncGateway([Endless("mock")], store=store) as second:
        await wait_for_all(second, total)
        found["recovered_per_second"] = total / (time.perf_counter() - began)
    found["peak_mb"] = read_mb("VmHWM")
    tell(found)


def make_task(number: int) -> Task:
    """Make a small task."""
    return Task(target={}, input={"text": "hello", "number": number})


async def wait_for_all(gateway: AsyncGateway, total: int) -> None:
    """Wait until so many runs have landed in this process."""
    while True:
        lives = [live.run.attempt for live in gateway._engine._worker.live.values()]  # noqa: SLF001  to count
        if sum(one is not None and one.status is AttemptStatus.SUBMITTED for one in lives) >= total:
            return
        await asyncio.sleep(0.2)


def read_mb(word: str = "VmRSS") -> float:
    """Return this process's memory; Linux tells it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(word))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
