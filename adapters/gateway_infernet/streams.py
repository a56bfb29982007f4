"""Streams: the id line, then the container's bytes, and an end that says nothing about success."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from gateway.errors import BackendError, InDoubt, Misbehaved, Unavailable
from gateway.http import StreamAnswer
from gateway_infernet import wire
from gateway_infernet.node import Node
from gateway_infernet.submission import Doubts, is_lost


@dataclass(slots=True)
class IdLine:
    """Splits a stream at its first newline, wherever the chunks are cut.

    Attributes:
        job_id: what stood before the newline; None until it came.
    """

    job_id: str | None = None
    _head: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes) -> bytes:
        """Take in a chunk and return what of it is output.

        Raises:
            ValueError: if what comes can't be an id line.
        """
        if self.job_id is not None:
            return chunk
        self._head += chunk
        line, newline, output = bytes(self._head).partition(b"\n")
        if len(line) > wire.MAX_ID_LENGTH:
            raise ValueError(f"it begins with {line[:40]!r}... and not with an id")
        if not newline:
            return b""
        job_id = line.decode()  # UnicodeDecodeError is a ValueError
        if not job_id or not job_id.isprintable():
            raise ValueError(f"it begins with {line!r} and not with an id")
        self.job_id = job_id
        self._head.clear()
        return output


@dataclass(slots=True)
class _Open:
    answer: StreamAnswer
    chunks: AsyncIterator[bytes]
    first: bytes
    is_read: bool = False


class Streams:
    """The open answers of streamed jobs, from their submission until they are read to the end."""

    def __init__(self, node: Node, doubts: Doubts, *, open_seconds: float) -> None:
        """Make it without I/O. `open_seconds`: how long the id line may take."""
        self._node = node
        self._doubts = doubts
        self._open_seconds = open_seconds
        self._open: dict[str, _Open] = {}
        self._over: set[str] = set()

    async def open(self, job_id: str, body: bytes) -> str:
        """Submit a streamed job, read its id line and keep the rest. Raises as `Adapter.submit`."""
        self._doubts.begin([job_id])
        error: BackendError | None = InDoubt("it was interrupted", backend=self._node.name)
        try:
            async with asyncio.timeout(self._open_seconds):
                found = await self._open_one(job_id, body)
            error = None
        except TimeoutError:
            error = InDoubt("the stream did not begin in time", backend=self._node.name, job_id=job_id)
            raise error from None
        except BackendError as caught:
            error = caught
            raise
        finally:
            self._doubts.end(job_id, is_lost=is_lost(error))
        return found

    async def read(self, job_id: str) -> AsyncGenerator[bytes, None]:
        """Yield the output as it comes, until it ends or breaks off; nothing if it is not open here.

        Neither end proves anything: a node ends the stream of a failed job like that of a good one.
        """
        stream = self._open.get(job_id)
        if stream is None:
            return
        stream.is_read = True
        try:
            if stream.first:
                yield stream.first
            async for chunk in stream.chunks:
                yield chunk
        except Unavailable:
            return
        finally:
            await self._close(job_id)

    def is_open(self, job_id: str) -> bool:
        """Say whether the job's stream is still to be read here."""
        return job_id in self._open

    def is_over(self, job_id: str) -> bool:
        """Say whether the job's stream was read here and has ended: nothing happens to the job any more."""
        return job_id in self._over

    def mark_over(self, job_id: str) -> None:
        """Note that what the stream left behind was looked at."""
        self._over.add(job_id)

    def forget(self, job_id: str) -> None:
        """Let go of a job whose end is known."""
        self._over.discard(job_id)

    async def drop_unread(self, job_id: str) -> None:
        """Hang up a stream that nobody came to read."""
        stream = self._open.get(job_id)
        if stream is not None and not stream.is_read:
            await self._close(job_id)

    async def aclose(self) -> None:
        """Hang up all streams. Their jobs die with them."""
        for job_id in list(self._open):
            await self._close(job_id)

    async def _open_one(self, job_id: str, body: bytes) -> str:
        answer = await self._node.open_stream(job_id, body)
        chunks = answer.aiter_bytes()
        line = IdLine()
        try:
            async for chunk in chunks:
                first = line.feed(chunk)
                if line.job_id is not None:
                    self._open[line.job_id] = _Open(answer, chunks, first)
                    return line.job_id
            raise Misbehaved("the stream ended before its id", backend=self._node.name, job_id=job_id)
        except ValueError as error:
            raise Misbehaved(f"the stream: {error}", backend=self._node.name, job_id=job_id) from error
        except Unavailable as error:  # of reading, so the node had taken the job
            raise InDoubt(error.message, backend=self._node.name, job_id=job_id) from error
        finally:
            if line.job_id is None:
                await answer.aclose()

    async def _close(self, job_id: str) -> None:
        stream = self._open.pop(job_id, None)
        if stream is not None:
            await stream.answer.aclose()
