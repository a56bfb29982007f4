"""Lets so many callers work at the same time, and tells the time and the CPU time per piece of work."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable

URL, COUNT, AT_ONCE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


async def measure(work: Callable[[], Awaitable[object]]) -> None:
    """Warm up with a tenth of the work, then measure."""
    await _crowd(work, max(AT_ONCE, COUNT // 10))
    began, cpu = time.perf_counter(), _get_cpu()
    await _crowd(work, COUNT)
    seconds, cpu = time.perf_counter() - began, _get_cpu() - cpu
    print(json.dumps({"rate": COUNT / seconds, "cpu_ms": cpu / COUNT * 1e3}))


async def _crowd(work: Callable[[], Awaitable[object]], count: int) -> None:
    left = count

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await work()

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


def _get_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)  # of all threads
    return used.ru_utime + used.ru_stime
