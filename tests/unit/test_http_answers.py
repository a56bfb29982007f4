"""Requests as they are written, and answers of every form, the same over both carriers."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections import Counter
from typing import Any

import pytest
from http_listener import OK, Listener, answer, carrier, listener

from gateway.errors import Misbehaved
from gateway.http import HttpClient

__all__ = ["carrier", "listener"]  # fixtures

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("path", "params", "target"),
    [
        (
            "/x",
            [("id", "a b"), ("id", "ü/~*'(),:@!$&=")],
            "/x?id=a+b&id=%C3%BC%2F~%2A%27%28%29%2C%3A%40%21%24%26%3D",
        ),
        ("/x", {"t": True, "n": None, "k": 5}, "/x?t=true&n=&k=5"),
        ("/x?y=1", {"z": "2"}, "/x?z=2"),
        ("/a b/../c", None, "/c"),
        ("/ü%2Fx?q=a b", None, "/%C3%BC%2Fx?q=a%20b"),
    ],
)
async def test_addresses_are_written_the_same_way(
    listener: Listener, path: str, params: Any, target: str
) -> None:
    client = HttpClient("node1", await listener.start(answer))
    await client.request("GET", path, lands=False, params=params)
    assert listener.heads[0].splitlines()[0] == f"GET {target} HTTP/1.1".encode()
    await client.aclose()


async def test_a_name_and_a_password_in_the_address_are_sent(listener: Listener) -> None:
    url = (await listener.start(answer)).replace("http://", "http://me:secret@")
    client = HttpClient("node1", url)
    await client.request("GET", "/x", lands=False)
    assert b"authorization: basic " + base64.b64encode(b"me:secret").lower() in listener.heads[0].lower()
    assert b"secret" not in listener.heads[0].replace(base64.b64encode(b"me:secret"), b"")
    await client.aclose()


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"{}"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"until the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", b"{}"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-late: 1\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n", gzip.compress(b"{}")),
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_answers_of_every_form(
    listener: Listener,
    head: bytes,
    body: bytes,
    is_streamed: bool,  # noqa: FBT001
) -> None:
    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in (head[:10], head[10:], body):  # cut anywhere
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    client = HttpClient("node1", await listener.start(say))
    if is_streamed:
        async with client.stream("GET", "/x", lands=False) as stream:
            found = await stream.aread()
    else:
        found = await client.request("GET", "/x", lands=False)
    assert (found.status, found.headers.get("link"), found.headers.get("x-late")) == (200, None, None)
    assert found.body in (b"{}", b"until the end")
    await client.aclose()


async def test_an_answer_before_the_whole_request_counts(listener: Listener) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await reader.read()  # to the end, or a reset would overtake the answer

    client = HttpClient("node1", await listener.start(refuse))
    found = await client.request("POST", "/x", lands=True, json=b"x" * (32 << 20))
    assert (found.status, found.body) == (413, b"{}")
    await client.aclose()


@pytest.mark.parametrize(("size", "is_taken"), [(60 << 20, True), (80 << 20, False)])
async def test_a_little_answer_does_not_fill_the_memory(
    listener: Listener,
    size: int,
    is_taken: bool,  # noqa: FBT001
) -> None:
    bomb = gzip.compress(bytes(size), compresslevel=1)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + bomb)

    client = HttpClient("node1", await listener.start(serve))
    if is_taken:
        assert (await client.request("GET", "/x", lands=False)).body == bytes(size)
    else:
        with pytest.raises(Misbehaved, match="compressed"):
            await client.request("POST", "/x", lands=True)
    await client.aclose()


async def test_an_idle_connection_is_not_trusted_for_ever(listener: Listener) -> None:
    client = HttpClient("node1", await listener.start(answer), keepalive_seconds=0)
    await client.request("GET", "/x", lands=False)
    await asyncio.wait_for(listener.ended.wait(), 30)  # nobody asked for another
    await client.request("GET", "/x", lands=False)
    assert len(listener.heads) == 2
    await client.aclose()


async def test_a_server_that_hangs_up_after_a_thousand_requests_leaves_no_doubt(
    listener: Listener, carrier: str
) -> None:
    """As Hypercorn does, without a `Connection: close` before: then nobody knows of the request behind."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        counts[writer] += 1
        if counts[writer] == 1000:
            raise ConnectionResetError

    counts: Counter[asyncio.StreamWriter] = Counter()
    client = HttpClient("node1", await listener.start(serve))
    if carrier == "httpx2":
        pytest.skip("httpx2's own transport does not count")
    for _ in range(2100):
        await client.request("POST", "/x", lands=True)
    assert (len(counts), counts.total()) == (3, 2100)
    await client.aclose()


async def test_what_nobody_asked_for_is_no_answer(listener: Listener) -> None:
    said = asyncio.Event()

    async def say_more(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        if len(listener.heads) == 1:
            await asyncio.sleep(0.01)
            writer.write(OK.replace(b"200 OK", b"500 No"))
            await writer.drain()
            said.set()

    client = HttpClient("node1", await listener.start(say_more))
    assert (await client.request("GET", "/x", lands=False)).status == 200
    await asyncio.wait_for(said.wait(), 30)
    await asyncio.sleep(0.01)  # until it is through loopback
    assert (await client.request("GET", "/x", lands=False)).status == 200
    await client.aclose()


async def test_a_server_is_not_read_faster_than_its_stream_is(listener: Listener) -> None:
    piece, written = b"x" * (1 << 20), 0

    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * len(piece)))
        for _ in range(64):
            writer.write(piece)
            await writer.drain()
            written += 1

    client = HttpClient("node1", await listener.start(pour))
    async with client.stream("GET", "/x", lands=False) as stream:
        pieces = stream.aiter_bytes()
        read = len(await anext(pieces))
        before = -1
        while before != written:
            before = written
            await asyncio.sleep(0.05)
        assert written < 64
        async for one in pieces:
            read += len(one)
    assert read == 64 * len(piece)
    await client.aclose()
