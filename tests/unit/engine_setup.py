"""What the engine's tests share: a gateway over fake adapters, a fake clock and one store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway import AsyncGateway, Limits, Run, RunFailed, Task
from gateway.store.memory import MemoryStore
from gateway.testing import FakeAdapter, FakeClock


def make_task(text: str = "hello", **limits: Any) -> Task:
    return Task(model="m", input={"text": text}, limits=Limits(**limits))


@asynccontextmanager
async def open_gateway(
    *adapters: FakeAdapter, clock: FakeClock, store: MemoryStore | None = None, **model: Any
) -> AsyncIterator[AsyncGateway]:
    targets = {adapter.name: {"app": "echo"} for adapter in adapters}
    gateway = AsyncGateway(
        adapters, {"m": {"targets": targets, **model}}, store=store or MemoryStore(), clock=clock
    )
    async with gateway:
        yield gateway


async def run_to_end(gateway: AsyncGateway, task: Task, backend: str | list[str] = "auto") -> Run:
    try:
        return await gateway.run(task, backend)
    except RunFailed as failed:
        return failed.run
