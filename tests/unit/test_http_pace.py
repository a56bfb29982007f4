"""How often streams are read: what is alone at once, a crowd of fast ones in turns; nothing is lost by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.http import HttpClient
from gateway.http.connection import Connection
from gateway.http.pace import Pace
from tests.unit.http_listener import Listener, listener

__all__ = ["listener"]
pytestmark = pytest.mark.anyio
_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_MS = 0.001


class _Loop:
    """A clock, the timers that were set, and nothing else of a loop."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, call))

    def move(self, seconds: float) -> None:
        self.now += seconds
        due = [call for at, call in self.timers if at <= self.now]
        self.timers = [one for one in self.timers if one[0] > self.now]
        for call in due:
            call()


class _Transport:
    """Says whether its protocol wants to read."""

    def __init__(self) -> None:
        self.reads, self.is_aborted = True, False

    def write(self, data: bytes) -> None:
        pass

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        assert not self.is_aborted
        self.reads = True

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted


class _Stream:
    """One connection whose answer has begun."""

    def __init__(self, loop: _Loop, pace: Pace) -> None:
        self.transport = _Transport()
        self.connection = Connection(cast("asyncio.AbstractEventLoop", loop), pace, lambda _: None)
        self.connection.connection_made(cast("asyncio.BaseTransport", self.transport))

    async def begin(self) -> None:
        await self.connection.send(b"GET / HTTP/1.1\r\n\r\n", None, None)
        self.connection.data_received(_HEAD)

    def get(self, data: bytes) -> None:
        self.connection.data_received(b"%x\r\n%b\r\n" % (len(data), data))


async def make_crowd(count: int) -> tuple[_Loop, Pace, list[_Stream]]:
    loop, pace = _Loop(), Pace()
    streams = [_Stream(loop, pace) for _ in range(count)]
    for stream in streams:
        pace.begin()
        await stream.begin()
    return loop, pace, streams


async def test_a_few_streams_are_read_as_fast_as_they_come() -> None:
    loop, _, streams = await make_crowd(9)
    for _ in range(100):
        for stream in streams:
            stream.get(b"piece")
            assert stream.transport.reads
    assert not loop.timers


async def test_a_piece_that_comes_alone_is_handed_out_at_once_and_the_next_may_follow() -> None:
    loop, _, streams = await make_crowd(100)
    for _ in range(10):
        loop.move(6 * _MS)
        for stream in streams:
            stream.get(b"piece")
            assert await stream.connection.read(None) == b"piece"
            assert stream.transport.reads
    assert not loop.timers


@pytest.mark.parametrize(("count", "milliseconds"), [(10, 1), (20, 2), (50, 5), (1000, 5)])
async def test_a_crowd_of_fast_ones_is_read_in_turns(count: int, milliseconds: int) -> None:
    loop, _, streams = await make_crowd(count)
    loop.move(10 * _MS)
    for _ in range(3):
        for stream in streams:
            stream.get(b"a piece")
        assert all(stream.transport.reads for stream in streams)
        loop.move(0.4 * _MS)
        for stream in streams:
            stream.get(b" and more")
            assert await stream.connection.read(None) == b"a piece and more"  # nothing that came waits
        assert not any(stream.transport.reads for stream in streams)
        assert len(loop.timers) == 1
        loop.move((milliseconds - 0.2) * _MS)
        assert not any(stream.transport.reads for stream in streams)
        loop.move(0.3 * _MS)
        assert all(stream.transport.reads for stream in streams)
        loop.move(10 * _MS)


async def test_a_stream_that_goes_on_as_fast_rests_after_each_read() -> None:
    loop, _, (stream, *_) = await make_crowd(50)
    loop.move(10 * _MS)
    stream.get(b"1")
    for _ in range(5):
        stream.get(b"2")
        assert not stream.transport.reads
        loop.move(5 * _MS)
        assert stream.transport.reads


async def test_large_reads_never_rest() -> None:
    loop, _, streams = await make_crowd(50)
    for _ in range(3):
        for stream in streams:
            stream.get(b"x" * (1 << 14))
            assert stream.transport.reads
    assert not loop.timers


async def test_what_is_full_is_not_read_when_its_rest_is_over() -> None:
    loop, _, (stream, *_) = await make_crowd(50)
    loop.move(10 * _MS)
    for _ in range(17):  # 16 KiB less a byte each: as small as they are, 256 KiB are enough
        stream.get(b"x" * ((1 << 14) - 10))
    assert not stream.transport.reads
    loop.move(6 * _MS)
    assert not stream.transport.reads
    await stream.connection.read(None)
    assert stream.transport.reads


async def test_what_rests_is_not_read_because_somebody_took_what_had_come() -> None:
    loop, _, (stream, *_) = await make_crowd(50)
    loop.move(10 * _MS)
    stream.get(b"x" * (1 << 18))
    stream.get(b"x")
    assert not stream.transport.reads
    await stream.connection.read(None)
    assert not stream.transport.reads
    loop.move(6 * _MS)
    assert stream.transport.reads


async def test_what_was_hung_up_meanwhile_is_left_alone() -> None:
    loop, _, (stream, other, *_) = await make_crowd(50)
    loop.move(10 * _MS)
    for one in (stream, other):
        one.get(b"1")
        one.get(b"2")
    stream.transport.abort()
    loop.move(6 * _MS)
    assert not stream.transport.reads
    assert other.transport.reads


async def test_streams_that_ended_count_no_more() -> None:
    loop, pace, (stream, *others) = await make_crowd(50)
    for _ in others:
        pace.end()
    loop.move(10 * _MS)
    for _ in range(100):
        stream.get(b"piece")
        assert stream.transport.reads


async def test_a_crowd_comes_whole_and_in_order(listener: Listener) -> None:
    pieces, streams = 300, 40

    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD)
        for number in range(pieces):
            data = b"%d;" % number
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    client = HttpClient("node1", await listener.start(pour))

    async def read() -> bytes:
        async with client.stream("GET", "/x", lands=False) as stream:
            return b"".join([piece async for piece in stream.aiter_bytes()])

    whole = b"".join(b"%d;" % number for number in range(pieces))
    for _ in range(2):  # the second time over the connections of the first
        assert await asyncio.gather(*(read() for _ in range(streams))) == [whole] * streams
    assert len(listener.heads) == 2 * streams
    await client.aclose()
