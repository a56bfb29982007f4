"""This gateway: tells of each job how late its result was seen; so many at a time, batch by batch."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from gateway import AsyncGateway, Task
from gateway_infernet import InfernetAdapter

URL, SECONDS, COUNT, AT_ONCE = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
MODELS = {"echo": {"targets": {"node": {"containers": ["echo"]}}}}


async def main() -> None:
    """Run the jobs."""
    task = Task(model="echo", input={"seconds": SECONDS})
    adapter = InfernetAdapter("node", InfernetAdapter.config_type(url=URL))
    late: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'runs.db'}"
        async with AsyncGateway([adapter], MODELS, store=store) as gateway:

            async def run() -> None:
                done = await gateway.run(task)
                late.append(time.monotonic() - done.output["ended"])

            for _ in range(COUNT // AT_ONCE):
                await asyncio.gather(*(run() for _ in range(AT_ONCE)))
    print(json.dumps({"late_ms": [seconds * 1e3 for seconds in late]}))


asyncio.run(main())
