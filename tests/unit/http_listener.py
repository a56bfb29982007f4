"""A server of raw sockets, and both ways in which bytes are carried to it, for tests of HTTP."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(params=["httptools", "httpx2"], autouse=True)
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test with httptools and as if it were not installed."""
    if request.param == "httpx2":
        monkeypatch.setitem(sys.modules, "httptools", None)
        for name in ("incoming", "connection", "pool", "httptools_transport", "direct"):
            monkeypatch.delitem(sys.modules, f"gateway.http.{name}", raising=False)
    return str(request.param)


class Listener:
    """A server that does what it is told, and remembers the heads of requests."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.ended = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self, after_head: Serve) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            try:
                while True:
                    self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                    await after_head(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.ended.set()
            finally:
                writer.close()

        self._server = await asyncio.start_server(serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    yield listener
    await listener.stop()


async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
