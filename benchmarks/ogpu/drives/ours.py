"""Publish tasks with this gateway, all at once; a task counts when its run knows it to be in a block."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gateway import AsyncGateway, Task
from gateway_ogpu import OgpuAdapter, OgpuConfig

_NAME = "chain"
_CONFIG = ("contracts", "chain_id", "rpc_url", "private_key", "pin_url", "content_gateways")


def main(place: dict[str, Any]) -> None:
    """Do what the place says."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_drive(place, f"sqlite:///{Path(folder) / 'runs.db'}"))


async def _drive(place: dict[str, Any], store: str) -> None:
    adapter = OgpuAdapter(_NAME, OgpuConfig.model_validate({name: place[name] for name in _CONFIG}))
    target = {"source": place["source"], "function": "echo", "payment": "0.01 OGPU", "expires_in": "1h"}
    async with AsyncGateway([adapter], {"echo": {"targets": {_NAME: target}}}, store=store) as gateway:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began = time.monotonic()
        published = await asyncio.gather(*(_publish(gateway, number) for number in range(place["tasks"])))
        seconds = time.monotonic() - began
        print(json.dumps({"seconds": seconds, "published": sum(published)}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)


async def _publish(gateway: AsyncGateway, number: int) -> bool:
    """Say whether the task came to be on the chain."""
    run = await gateway.submit(Task(model="echo", input={"text": f"task {number}"}))
    async for event in gateway.events(run.id):
        seen = event.snapshot.detail if event.snapshot else None
        if isinstance(seen, dict) and "task" in seen:
            return True
    return False


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
