"""This gateway, idle: open, with its store and a backend, after a number of runs."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from resident import read_resident_mb  # type: ignore[import-not-found]  # beside this script

from gateway import AsyncGateway, Task
from gateway_infernet import InfernetAdapter

URL, COUNT = sys.argv[1], int(sys.argv[2])
MODELS = {"echo": {"targets": {"node": {"containers": ["echo"]}}}}


async def main() -> None:
    """Run that many tasks, then look."""
    adapter = InfernetAdapter("node", InfernetAdapter.config_type(url=URL))
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'runs.db'}"
        async with AsyncGateway([adapter], MODELS, store=store) as gateway:
            task = Task(model="echo", input={"text": "hello"})
            for _ in range(COUNT // 50):
                await asyncio.gather(*(gateway.run(task) for _ in range(50)))
            print(json.dumps({"mb": read_resident_mb()}))


asyncio.run(main())
