"""One client in a process of its own, told when to begin; and what the chain and its RPC saw of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.chain.rpc import fetch_head
from gateway.devnet.ogpu import OgpuDevnet
from gateway.types import JSON

ROOT = Path(__file__).resolve().parents[2]
_DRIVES = Path(__file__).parent / "drives"
_LIMIT_SECONDS = 300.0
_LINE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Client:
    """Who publishes.

    Attributes:
        name: heads its row.
        drive: its script.
        python: which runs it.
        threads: for the SDK.
    """

    name: str
    drive: str
    python: str = sys.executable
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One publication of all tasks.

    Attributes:
        seconds: from the call until the caller knows that all are in blocks, by the client's own clock.
        requests: HTTP requests to the RPC.
        calls: JSON-RPC calls in them.
        pins: uploads to the pin service, one HTTP request each.
        blocks: how many blocks hold the tasks.
        last_block: the last of them, counted from the newest block at the start, which is 0.
        on_chain: tasks that came to be.
        errors: what the caller got in place of a task.
    """

    seconds: float
    requests: int
    calls: int
    pins: int
    blocks: int
    last_block: int
    on_chain: int
    errors: tuple[str, ...] = ()


class Driven:
    """A client's process that waits for its word."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, word: str) -> dict[str, Any]:
        """Say "publish" or "settle"; return what it says of that."""
        self._write(f"{word}\n".encode())
        found: dict[str, Any] = json.loads(await self.read())
        return found

    async def read(self) -> str:
        """Read its next line. Raises RuntimeError if it broke."""
        if self._process.stdout is None or self._process.stderr is None:
            raise RuntimeError("the process has no pipes")
        line = await asyncio.wait_for(self._process.stdout.readline(), _LIMIT_SECONDS)
        if not line:
            raise RuntimeError((await self._process.stderr.read()).decode(errors="replace")[-2000:])
        return line.decode().strip()

    async def end(self) -> None:
        """Let it end, and end it if it does not."""
        try:
            self._write(b"end\n")
            await asyncio.wait_for(self._process.communicate(), 20)
        except (TimeoutError, OSError):
            self._process.kill()
            await self._process.wait()

    def _write(self, data: bytes) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(data)


@asynccontextmanager
async def start(client: Client, ogpu: OgpuDevnet, tasks: int) -> AsyncIterator[Driven]:
    """Start a client and wait until it is ready; end it afterwards."""
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONPATH": ""}
    process = await asyncio.create_subprocess_exec(
        *(client.python, str(_DRIVES / f"{client.drive}.py"), json.dumps(make_place(client, ogpu, tasks))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
        env=environment,
    )
    driven = Driven(process)
    try:
        if await driven.read() != "ready":
            raise RuntimeError(f"{client.drive} is not ready")
        yield driven
    finally:
        await driven.end()


def make_place(client: Client, ogpu: OgpuDevnet, tasks: int) -> dict[str, JSON]:
    """Say where a client publishes, and how many."""
    names = ("nexus", "controller", "terminal", "vault")
    return {
        "contracts": {name: getattr(ogpu.contracts, name) for name in names},
        "chain_id": ogpu.chain_id,
        "rpc_url": ogpu.rpc_url,
        "private_key": ogpu.client.key,
        "pin_url": ogpu.pin_url,
        "content_gateways": ogpu.gateway_url,
        "content_cache": False,  # the user's folder is no place for a benchmark's uploads
        "source": ogpu.first_response,
        "tasks": tasks,
        "threads": client.threads,
    }


async def publish(driven: Driven, ogpu: OgpuDevnet) -> Sample:
    """Let a client that is ready publish."""
    before = (await fetch_head(ogpu.chain.web3)).number
    ogpu.counters.reset()
    ogpu.content.counters.reset()
    said = await driven.ask("publish")
    requests, calls = ogpu.counters.http_requests, sum(ogpu.counters.calls.values())
    pins = ogpu.content.counters.http_requests
    blocks = await _fetch_blocks(ogpu, before + 1)
    return Sample(
        seconds=said["seconds"],
        requests=requests,
        calls=calls,
        pins=pins,
        blocks=len(set(blocks)),
        last_block=max(blocks, default=before) - before,
        on_chain=len(blocks),
        errors=tuple(said.get("errors", ())),
    )


async def _fetch_blocks(ogpu: OgpuDevnet, first: int) -> list[int]:
    """Fetch the block of each task that was published since."""
    head = (await fetch_head(ogpu.chain.web3)).number
    found: list[int] = []
    for block in range(first, head + 1):
        tasks = await ogpu.abi.fetch_events(ogpu.contracts.nexus, "TaskPublished", first=block, last=block)
        found += [block] * len(tasks)
    return found
