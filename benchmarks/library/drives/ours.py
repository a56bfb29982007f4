"""This gateway, with its durable store; `bare`: its adapter alone, which is what the bytes cost."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import uuid
from pathlib import Path

from crowd import URL, measure  # type: ignore[import-not-found]  # beside this script

from gateway import AsyncGateway, Task
from gateway.types import AttemptId
from gateway_infernet import InfernetAdapter

MODELS = {"echo": {"targets": {"node": {"containers": ["echo"]}}}}


async def main() -> None:
    """Run tasks from submission to result."""
    adapter = InfernetAdapter("node", InfernetAdapter.config_type(url=URL))
    task = Task(model="echo", input={"text": "hello"})
    if "bare" in sys.argv:

        async def work() -> None:
            made = await adapter.prepare(
                task, {"containers": ["echo"]}, attempt_id=AttemptId(str(uuid.uuid4()))
            )
            handle = await adapter.submit(made)
            while not (await adapter.poll([handle]))[handle].status.is_final:  # noqa: ASYNC110  a poll
                await asyncio.sleep(0.03)

        await measure(work)
        await adapter.aclose()
        return
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'runs.db'}"
        async with AsyncGateway([adapter], MODELS, store=store) as gateway:
            await measure(lambda: gateway.run(task))


asyncio.run(main())
