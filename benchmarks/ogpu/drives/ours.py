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
_CONFIG = (
    "contracts",
    "chain_id",
    "rpc_url",
    "private_key",
    "pin_url",
    "content_gateways",
    "content_cache",
)


def main(place: dict[str, Any]) -> None:
    """Do what the place says."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_drive(place, f"sqlite:///{Path(folder) / 'runs.db'}"))


def make_config(place: dict[str, Any]) -> OgpuConfig:
    """Make the adapter's configuration of what a place says."""
    return OgpuConfig.model_validate({name: place[name] for name in _CONFIG})


async def _drive(place: dict[str, Any], store: str) -> None:
    adapter = OgpuAdapter(_NAME, make_config(place))
    target = {"source": place["source"], "function": "echo", "payment": "0.01 OGPU", "expires_in": "1h"}
    async with AsyncGateway([adapter], {"echo": {"targets": {_NAME: target}}}, store=store) as gateway:
        print("ready", flush=True)
        run_ids: list[str] = []
        while (word := (await asyncio.to_thread(sys.stdin.readline)).strip()) in ("publish", "settle"):
            if word == "publish":
                said = await _publish_all(gateway, place["tasks"], run_ids)
            else:
                said = await _settle(gateway, run_ids)
            print(json.dumps(said), flush=True)


async def _publish_all(gateway: AsyncGateway, tasks: int, run_ids: list[str]) -> dict[str, Any]:
    began = time.monotonic()
    known = await asyncio.gather(*(_publish(gateway, number, run_ids) for number in range(tasks)))
    return {"seconds": time.monotonic() - began, "errors": [one for one in known if one]}


async def _publish(gateway: AsyncGateway, number: int, run_ids: list[str]) -> str:
    """Publish, and wait until the run knows its task to be on the chain; else say what came of it."""
    run = await gateway.submit(Task(model="echo", input={"text": f"task {number}"}))
    run_ids.append(run.id)
    async for event in gateway.events(run.id):
        seen = event.snapshot.detail if event.snapshot else None
        if isinstance(seen, dict) and "task" in seen:
            return ""
    return str((await gateway.get(run.id)).failure)


async def _settle(gateway: AsyncGateway, run_ids: list[str]) -> dict[str, Any]:
    """Wait until all runs have succeeded, so that nothing of them is asked for any more."""
    began = time.monotonic()
    await asyncio.gather(*(gateway.wait(run_id, timeout=120) for run_id in run_ids))
    run_ids.clear()
    return {"seconds": time.monotonic() - began}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
