"""A gateway that kills itself at a given step; run by test_ogpu_crashes as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gateway import AsyncGateway, Task
from gateway.task import Event, Handle
from gateway_ogpu import OgpuAdapter, OgpuConfig


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(adapter: OgpuAdapter, step: str) -> None:
    """Let the process be killed at that step, which is "<before|after> <act> <what>"."""
    when, operation, wanted = step.split()
    inner = getattr(adapter, operation)
    if operation == "events":

        async def read(handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:
            async for event in inner(handle, after=after):
                yield event
                kill()

        setattr(adapter, operation, read)
        return

    async def wrapped(first: Any, *args: Any, **words: Any) -> Any:
        ours = getattr(first, "act", wanted) == wanted
        if ours and when == "before":
            kill()
        result = await inner(first, *args, **words)
        if ours and when == "after":
            kill()
        return result

    setattr(adapter, operation, wrapped)


async def main(config: str, store: str, source: str, step: str) -> None:
    adapter = OgpuAdapter("chain", OgpuConfig.model_validate_json(config))
    die_at(adapter, step)
    target = {"source": source, "function": "echo", "payment": "0.01 OGPU"}
    async with AsyncGateway([adapter], {"m": {"targets": {"chain": target}}}, store=store) as gateway:
        await gateway.run(Task(model="m", input={"text": "hello"}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_text(), *sys.argv[2:]))
