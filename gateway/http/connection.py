"""One HTTP/1.1 connection: what is written goes to the socket at once, what comes is read as it comes.

Every error is the one that httpx2's own transport would raise. Nothing is ever called "not sent" that may
have been.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import cast

import httpx2

from gateway.bell import Bell
from gateway.http.incoming import Incoming
from gateway.http.pace import Pace, Reading

_MOST_UNREAD_BYTES = 1 << 18  # of a body that is streamed; then the server has to wait
_WRITTEN_AT_ONCE_BYTES = 1 << 18
_MOST_EXCHANGES = 900  # Hypercorn, and so an Infernet node, hangs up after 1,000 without a word before


class Connection(asyncio.Protocol):
    """One connection, for one exchange at a time: `send`, then `read_whole`, or `read_head` and `read`.

    `seconds` is always the longest silence: between two reads of the socket, or until it takes more.

    Attributes:
        transport: asyncio's.
        answer: what has come of the answer.
        idle_since: when the last exchange was over, by the monotonic clock.
        lost: done once the connection is closed.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pace: Pace, on_lost: Callable[[Connection], None]
    ) -> None:
        self._loop, self._pace, self._on_lost = loop, pace, on_lost
        self.answer = Incoming()
        self._bell = Bell(loop)
        self._room: asyncio.Future[None] | None = None
        self._error: httpx2.TransportError | None = None
        self._wants_whole = False
        self._exchanges = 0
        self.idle_since = 0.0
        self.lost: asyncio.Future[None] = loop.create_future()

    @property
    def is_reusable(self) -> bool:
        """Say whether the exchange is over and another may follow."""
        answer = self.answer
        is_over = answer.is_whole and answer.keeps and self._exchanges < _MOST_EXCHANGES
        return is_over and self._error is None and not self.transport.is_closing()

    async def send(
        self, head: bytes, body: bytes | AsyncIterable[bytes] | None, seconds: float | None
    ) -> None:
        """Begin an exchange: write a whole request. A body without known length is written as chunks."""
        if self._error is not None:
            raise httpx2.ConnectError("the server hung up before anything was sent")
        self.answer.begin()
        self._exchanges += 1
        self._wants_whole = False
        if body is None or (isinstance(body, bytes) and len(body) <= _WRITTEN_AT_ONCE_BYTES):
            self.transport.write(head + body if body else head)
            return
        self.transport.write(head)
        if isinstance(body, bytes):
            for start in range(0, len(body), _WRITTEN_AT_ONCE_BYTES):
                await self._write(body[start : start + _WRITTEN_AT_ONCE_BYTES], seconds)
            return
        is_chunked = b"content-length:" not in head.lower()
        async for piece in body:
            if piece:
                await self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece, seconds)
        if is_chunked:
            await self._write(b"0\r\n\r\n", seconds)

    async def read_head(self, seconds: float | None) -> None:
        """Wait until `answer` has its status and headers."""
        self._bell.hear()
        while not self.answer.has_head:
            await self._wait(seconds)

    async def read_whole(self, seconds: float | None) -> bytes:
        """Return the body once it has come whole; `answer` has the rest then."""
        self._wants_whole = True
        self._bell.hear()
        while not self.answer.is_whole:
            await self._wait(seconds)
        return self.answer.take()

    async def read(self, seconds: float | None) -> bytes:
        """Return what has come of the body, at least a byte; b"" at its end."""
        self._bell.hear()
        while not self.answer.chunks and not self.answer.is_whole:
            await self._wait(seconds)
        self._reading.note_taken()
        return self.answer.take()

    async def _write(self, data: bytes, seconds: float | None) -> None:
        if not self.answer.has_head:
            self.transport.write(data)
        if self._room is not None and not self.answer.has_head:
            try:
                async with asyncio.timeout(seconds):
                    await self._room
            except TimeoutError:
                raise httpx2.WriteTimeout("the server does not read") from None
        if self.answer.has_head:  # it has answered without reading all
            self.answer.keeps = False
        elif self._error is not None:
            raise self._error

    async def _wait(self, seconds: float | None) -> None:
        if self._error is not None:
            raise self._error
        if not await self._bell.wait(seconds):
            raise httpx2.ReadTimeout(f"nothing came for {seconds:g} s")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._reading = Reading(self._loop, self._pace, self.transport)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        self._bell.hear()
        answer = self.answer
        try:
            answer.feed(data)
        except httpx2.RemoteProtocolError as error:
            self._error = error
            self._bell.ring()
            self.transport.abort()
            return
        if answer.is_whole or (answer.has_head and not self._wants_whole):
            self._bell.ring()
        if not (self._wants_whole or answer.is_whole):
            is_full = bool(answer.chunks) and answer.unread_bytes > _MOST_UNREAD_BYTES
            self._reading.note(len(data), is_full=is_full)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        if exc is None:
            self.answer.end()
            self._error = self._error or httpx2.RemoteProtocolError("the server closed the connection")
        else:
            self._error = self._error or httpx2.ReadError(f"the connection broke: {exc}")
        self._bell.ring()
        self._bell.close()
        self.resume_writing()
        if not self.lost.done():
            self.lost.set_result(None)
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Let whoever writes wait."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let them go on."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
