"""So many at a time, and how long each took. Runs in every environment: it imports nothing of ours."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable


async def drive(one: Callable[[int], Awaitable[object]], total: int, in_flight: int) -> dict[str, float]:
    """Do it `total` times, `in_flight` at a time; returns rate, times, and the process's CPU time each."""
    numbers = iter(range(total))
    seconds: list[float] = []

    async def work() -> None:
        for number in numbers:
            began = time.perf_counter()
            await one(number)
            seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(one(-1 - number) for number in range(20)))
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    whole = time.perf_counter() - began
    seconds.sort()
    return {
        "rate": total / whole,
        "p50_ms": seconds[len(seconds) // 2] * 1e3,
        "p99_ms": seconds[int(len(seconds) * 0.99)] * 1e3,
        "cpu_us": (time.process_time() - cpu) / total * 1e6,
    }


def tell(found: dict[str, float]) -> None:
    """Print the result where the benchmark looks for it."""
    print(json.dumps(found))
