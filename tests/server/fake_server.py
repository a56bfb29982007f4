"""A server of its own process, over a backend that answers what it is asked: `python fake_server.py [STORE]`.

It prints its address. For tools that want a real one.
"""

from __future__ import annotations

import asyncio
import sys

from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.config import ServerSettings
from gateway.lifecycle import Status
from gateway.server.app import App
from gateway.server.keys import KeyBook
from gateway.server.service import Service
from gateway.server.serving import bind, make_server
from gateway.testing import FakeAdapter

QUICK = ((0.0, Status.RUNNING), (0.02, Status.COMPLETED))
MODELS = {
    "sentiment": {"targets": {"fake": {"app": "echo"}}, "description": "answers what it is asked"},
}


async def main(store: str) -> None:
    clock, settings = SystemClock(), ServerSettings()
    gateway = AsyncGateway([FakeAdapter("fake", steps=QUICK)], MODELS, store=store)
    service = Service(gateway, settings, clock, KeyBook(clock))
    listening = bind("127.0.0.1", 0)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)  # noqa: T201  for who started it
    await make_server(App(service), service).serve([listening])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory:"))
