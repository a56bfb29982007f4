"""Runs through several gateways that share one store. Words: store, runs, in flight, replicas.

With these it measures: runs and what is in flight are shared out. Each replica is a process of its own, which
is this script again, with one word less: its part of them.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.durability.drives.instant import Instant
from benchmarks.durability.drives.measure import drive, tell
from gateway import AsyncGateway, Task

_READY = b"ready\n"


async def measure(store: str, total: int, in_flight: int, replicas: int) -> None:
    """Start the replicas, let all of them go at once, and count from the first's start to the last's end."""
    words = (store, total // replicas, in_flight // replicas)
    started = [await _start(*words) for _ in range(replicas)]
    told = await asyncio.gather(*(process.communicate(b"go\n") for process in started))
    found = [json.loads(out.splitlines()[-1]) for out, _ in told]
    tell(add_up(found, words[1]))


def add_up(found: list[dict[str, float]], each: int) -> dict[str, float]:
    """Return what the replicas did together; of the times that of the slowest one."""
    whole = max(one["ended_at"] for one in found) - min(one["began_at"] for one in found)
    return {
        "rate": each * len(found) / whole,
        "p50_ms": max(one["p50_ms"] for one in found),
        "p99_ms": max(one["p99_ms"] for one in found),
        "cpu_us": sum(one["cpu_us"] for one in found) / len(found),
    }


async def work(store: str, total: int, in_flight: int) -> None:
    """Be one replica."""
    async with AsyncGateway([Instant("mock")], store=store) as gateway:

        async def one(number: int) -> None:
            await gateway.run(Task(target={}, input={"text": "hello", "number": number}), "mock")

        await drive(one, in_flight, in_flight)  # all is loaded and connected
        sys.stdout.buffer.write(_READY)
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        began = time.monotonic()  # one clock for all processes of a machine
        found = await drive(one, total, in_flight)
        tell({**found, "began_at": began, "ended_at": time.monotonic()})


async def _start(*words: object) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__)), *map(str, words)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if process.stdout is None or await process.stdout.readline() != _READY:
        raise RuntimeError("a replica did not start")
    return process


if __name__ == "__main__":
    given, *numbers = sys.argv[1:]
    asyncio.run((measure if len(numbers) == 3 else work)(given, *map(int, numbers)))
