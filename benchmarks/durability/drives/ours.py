"""Runs through the whole gateway, on a backend that costs no time. Words: store, runs, in flight."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.durability.drives.instant import Instant
from benchmarks.durability.drives.measure import drive, tell
from gateway import AsyncGateway, Task


async def main(store: str, total: int, in_flight: int) -> None:
    """Measure."""
    async with AsyncGateway([Instant("mock")], store=store) as gateway:

        async def one(number: int) -> None:
            await gateway.run(Task(target={}, input={"text": "hello", "number": number}), "mock")

        tell(await drive(one, total, in_flight))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
