"""A local server that sends a task's stream byte for byte as told, and how to follow it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.clock import Clock
from gateway.lifecycle import Status
from gateway.task import Event, Handle
from gateway.testing.clock import FakeClock
from gateway_inferencesh import InferenceshAdapter, InferenceshConfig

HEARTBEAT = {"type": "heartbeat"}
DONE = {"id": "t1", "status": 10, "output": {"response": "over the lazy dog", "output_meta": {"n": 1}}}
JOB = Handle("hosted", "t1")

Script = Callable[[asyncio.StreamWriter], Awaitable[bool | None]]
"""Returns whether the connection stays open."""


class Server:
    """Answers GET /tasks/t1 and /tasks/t1/status with `task`, and each stream with the next of `scripts`."""

    def __init__(self) -> None:
        self.task: dict[str, Any] | None = {"id": "t1", "status": 7}
        self.light: dict[str, Any] | None = None
        self.scripts: list[Script] = []
        self.asked: list[str] = []
        self.headers: list[str] = []
        self.connections = 0
        self.url = ""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, _, headers = head.decode().partition("\r\n")
                method, path, _ = line.split(" ")
                self.asked.append(f"{method} {path}")
                self.headers.append(headers.lower())
                if path.endswith("/stream"):
                    if not await self.scripts.pop(0)(writer):
                        return
                    continue
                task = self.light if path.endswith("/status") and self.light else self.task
                self._answer(writer, 200 if task else 404, task or {"detail": "gone"})
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        writer.write(head.encode() + raw)


def stream(*steps: Any, then: str = "end", kind: str = "application/x-ndjson") -> Script:
    """Make a script.

    A dict is a line, bytes are sent as they stand, a number is a pause, a function is called.
    `then`: "end" ends the body properly, "cut" breaks off, "hang" stays silent.
    """

    async def play(writer: asyncio.StreamWriter) -> bool:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        for step in steps:
            if callable(step):
                step()
            elif isinstance(step, int | float):
                await asyncio.sleep(step)
            else:
                raw = step if isinstance(step, bytes) else json.dumps(step).encode() + b"\n"
                writer.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
            await writer.drain()
        if then == "hang":
            await asyncio.Event().wait()
        writer.write(b"0\r\n\r\n" if then == "end" else b"5\r\nab")
        await writer.drain()
        return then == "end"

    return play


def refuse(status: int, body: bytes = b"{}", kind: str = "application/problem+json") -> Script:
    async def play(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nRetry-After: 4\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return play


def part(**data: Any) -> dict[str, Any]:
    return {"data": data, "fields": list(data)}


def delta(seq: int, **data: Any) -> dict[str, Any]:
    return {"event": "delta", "data": {"delta": data, "seq": seq}}


def make_adapter(server: Server, *, clock: Clock | None = None, **config: Any) -> InferenceshAdapter:
    """Make an adapter whose waits between two streams take no time, unless it is given another clock."""
    words = {"api_key": "k", "url": server.url, "heartbeat_seconds": 0.5, **config}
    return InferenceshAdapter("hosted", InferenceshConfig.model_validate(words), clock=clock or FakeClock())


async def follow(adapter: InferenceshAdapter, patience_seconds: float = 20) -> list[Event]:
    async with asyncio.timeout(patience_seconds):
        return [event async for event in adapter.events(JOB)]


def get_statuses(events: list[Event]) -> list[Status]:
    return [event.snapshot.status for event in events if event.snapshot]


def get_last(events: list[Event]) -> Any:
    return events[-1].snapshot


def end(server: Server, task: dict[str, Any] | None = None) -> Callable[[], None]:
    """Let the task be over for GET from here on."""

    def set_task() -> None:
        server.task = task or DONE

    return set_task
