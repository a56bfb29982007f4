"""What became of a request, where it depends on what a socket does: on a server that sends raw bytes."""

from __future__ import annotations

import asyncio
import socket
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.errors import BackendError, InDoubt, Misbehaved, Unavailable
from gateway.http import HttpClient

pytestmark = pytest.mark.anyio

Step = Callable[[asyncio.StreamWriter], Awaitable[bool]]
"""What the server does with one request; says whether the connection stays open."""


class RawServer:
    """Does the next of `steps` with each request, in whatever connection it comes; then answers 200."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.asked: list[str] = []
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            stays = True
            while stays:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                self.asked.append(head.split("\r\n")[0])
                length = head.partition("content-length: ")[2].partition("\r\n")[0]
                await reader.readexactly(int(length or 0))
                stays = await (self.steps.pop(0) if self.steps else answer())(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()


def send(raw: bytes, *, stays: bool = False) -> Step:
    async def step(writer: asyncio.StreamWriter) -> bool:
        writer.write(raw)
        await writer.drain()
        return stays

    return step


def answer(body: bytes = b"{}", head: str = "") -> Step:
    return send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body, stays=True)


async def hang(writer: asyncio.StreamWriter) -> bool:
    await asyncio.Event().wait()
    return False


async def reset(writer: asyncio.StreamWriter) -> bool:
    """Close with RST, so that the client's read fails instead of ending."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()
    return False


HANG_UP = send(b"")
HALF_HEAD = send(b"HTTP/1.1 200 OK\r\nContent-Len")
HALF_BODY = send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
GARBAGE = send(b"hello, who is there?\r\n\r\n")
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    server = RawServer()
    yield server
    await server.stop()


@pytest.fixture(params=["httptools", "httpx2"], autouse=True)
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test with httptools and as if it were not installed."""
    if request.param == "httpx2":
        monkeypatch.setitem(sys.modules, "httptools", None)
        for name in ("incoming", "connection", "pool", "httptools_transport", "direct"):
            monkeypatch.delitem(sys.modules, f"gateway.http.{name}", raising=False)
    return str(request.param)


@pytest.fixture
async def client(server: RawServer) -> AsyncIterator[HttpClient]:
    client = HttpClient("node1", await server.start(), timeout_seconds=20)
    yield client
    await client.aclose()


@pytest.mark.parametrize("lands", [True, False])
async def test_who_refuses_the_connection_took_nothing(lands: bool) -> None:  # noqa: FBT001
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # bound, but nobody listens
        client = HttpClient("node1", f"http://127.0.0.1:{port}")
        with pytest.raises(
            Unavailable, match=rf"127\.0\.0\.1:{port} can't be reached \(ConnectError"
        ) as caught:
            await client.request("POST", "/x", lands=lands)
        with pytest.raises(Unavailable):
            await client.open_stream("POST", "/x", lands=lands)
        await client.aclose()
    assert caught.value.backend == "node1"


@pytest.mark.parametrize("step", [HANG_UP, reset, HALF_HEAD, HALF_BODY, GARBAGE])
async def test_a_lost_answer_leaves_a_submission_in_doubt(
    server: RawServer, client: HttpClient, step: Step
) -> None:
    server.steps = [step]
    with pytest.raises(InDoubt, match="POST /x was sent and its answer is lost") as caught:
        await client.request("POST", "/x", lands=True, json={"a": 1})
    assert caught.value.backend == "node1"
    assert server.asked == ["post /x http/1.1"]  # and it is never sent a second time


@pytest.mark.parametrize("step", [HANG_UP, reset, HALF_HEAD, HALF_BODY, GARBAGE])
async def test_a_lost_read_is_asked_once_more_and_no_more(
    server: RawServer, client: HttpClient, step: Step
) -> None:
    server.steps = [step]
    assert (await client.request("GET", "/x", lands=False)).status == 200
    assert len(server.asked) == 2
    server.steps = [step, step]
    with pytest.raises(Unavailable, match="GET /x: no answer"):
        await client.request("GET", "/x", lands=False)
    assert len(server.asked) == 4


async def test_a_stale_socket_is_forgiven_a_read(server: RawServer, client: HttpClient) -> None:
    """The server closes an idle connection in the moment in which the next request is on its way."""
    await client.request("GET", "/warm", lands=False)
    server.steps = [HANG_UP]
    assert (await client.request("GET", "/x", lands=False)).status == 200
    assert (server.connections, len(server.asked)) == (2, 3)


async def test_a_stale_socket_is_not_forgiven_a_submission(server: RawServer, client: HttpClient) -> None:
    await client.request("GET", "/warm", lands=False)
    server.steps = [HANG_UP]
    with pytest.raises(InDoubt):
        await client.request("POST", "/x", lands=True, json={})
    assert server.asked[1:] == ["post /x http/1.1"]


async def test_a_stale_socket_is_forgiven_a_stream_that_only_reads(
    server: RawServer, client: HttpClient
) -> None:
    await client.request("GET", "/warm", lands=False)
    server.steps = [HANG_UP, answer(b"all")]
    async with client.stream("GET", "/x", lands=False) as stream:
        assert (await stream.aread()).body == b"all"
    server.steps = [HANG_UP]
    with pytest.raises(InDoubt):
        await client.open_stream("POST", "/x", lands=True)
    assert len(server.asked) == 4


@pytest.mark.parametrize(("lands", "kind"), [(True, InDoubt), (False, Unavailable)])
async def test_who_does_not_answer_in_time_may_have_taken_it(
    server: RawServer,
    client: HttpClient,
    lands: bool,  # noqa: FBT001
    kind: type[BackendError],
) -> None:
    server.steps = [hang]
    with pytest.raises(kind, match="ReadTimeout"):
        await client.request("POST", "/x", lands=lands, json={}, timeout_seconds=0.05)
    assert len(server.asked) == 1  # a slow answer is no stale socket


@pytest.mark.parametrize("lands", [True, False])
async def test_an_unreadable_answer_misbehaves(server: RawServer, client: HttpClient, lands: bool) -> None:  # noqa: FBT001
    server.steps = [answer(b"no gzip", "Content-Encoding: gzip\r\n")]
    with pytest.raises(Misbehaved, match=r"POST /x: unreadable answer \(DecodingError"):
        await client.request("POST", "/x", lands=lands)


async def test_one_connection_serves_many_requests(server: RawServer, client: HttpClient) -> None:
    for _ in range(10):
        await client.request("GET", "/x", lands=False)
    assert server.connections == 1
    await asyncio.gather(*(client.request("GET", "/x", lands=False) for _ in range(10)))
    assert server.connections <= 10


async def test_a_big_answer_comes_whole(server: RawServer, client: HttpClient) -> None:
    body = zlib.compress(b"x" * (16 << 20))
    server.steps = [answer(body, "Content-Encoding: deflate\r\n"), answer(b"y" * (16 << 20))]
    assert (await client.request("GET", "/x", lands=False)).body == b"x" * (16 << 20)
    assert (await client.request("GET", "/x", lands=False)).body == b"y" * (16 << 20)


async def test_a_stream_is_handed_out_as_it_comes(server: RawServer, client: HttpClient) -> None:
    go_on = asyncio.Event()

    async def step(writer: asyncio.StreamWriter) -> bool:
        writer.write(CHUNKS)
        await go_on.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        return True

    server.steps = [step]
    async with client.stream("GET", "/x", lands=False) as stream:
        pieces = stream.aiter_bytes()
        assert (stream.status, await anext(pieces)) == (200, b"first")
        go_on.set()
        assert [piece async for piece in pieces] == [b"second"]
    await client.request("GET", "/x", lands=False)
    assert server.connections == 1


@pytest.mark.parametrize("end", [b"", b"what?", b"ffffffffffffffffffffff\r\n"])
async def test_a_stream_that_breaks_off_says_so_after_its_pieces(
    server: RawServer, client: HttpClient, end: bytes
) -> None:
    go_on = asyncio.Event()

    async def step(writer: asyncio.StreamWriter) -> bool:
        writer.write(CHUNKS)
        await go_on.wait()
        writer.write(end)
        return False

    server.steps = [step]
    async with client.stream("POST", "/x", lands=True, timeout_seconds=1) as stream:
        pieces = stream.aiter_bytes()
        assert await anext(pieces) == b"first"
        go_on.set()
        why = "RemoteProtocolError|ReadTimeout"  # aiohttp sees no end in what is no chunk
        with pytest.raises(Unavailable, match=rf"node1: the stream broke off \(({why})"):
            await anext(pieces)


async def test_a_stream_that_stalls_breaks_off(server: RawServer, client: HttpClient) -> None:
    async def stall(writer: asyncio.StreamWriter) -> bool:
        await send(CHUNKS)(writer)
        return await hang(writer)

    server.steps = [stall]
    async with client.stream("GET", "/x", lands=False, timeout_seconds=0.05) as stream:
        with pytest.raises(Unavailable, match="ReadTimeout"):
            await stream.aread()


async def test_hanging_up_on_a_stream_frees_its_connection(server: RawServer, client: HttpClient) -> None:
    small = HttpClient("node1", client.base_url, max_connections=1, timeout_seconds=5)

    async def endless(writer: asyncio.StreamWriter) -> bool:
        await send(CHUNKS)(writer)
        return await hang(writer)

    server.steps = [endless]
    stream = await small.open_stream("GET", "/x", lands=False)
    await stream.aclose()
    assert (await small.request("GET", "/x", lands=False)).status == 200
    await small.aclose()


async def test_each_wait_of_a_connection_has_its_own_limit(server: RawServer, client: HttpClient) -> None:
    async def slow(writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.1)
        return await answer()(writer)

    server.steps = [answer(), slow, hang]
    assert (await client.request("GET", "/x", lands=False, timeout_seconds=0.05)).status == 200
    assert (await client.request("GET", "/x", lands=False, timeout_seconds=60)).status == 200
    with pytest.raises(InDoubt, match="ReadTimeout"):
        await client.request("POST", "/x", lands=True, timeout_seconds=0.05)
    assert server.connections == 1


async def test_what_is_no_body_is_not_waited_to_be_read(
    server: RawServer, client: HttpClient, carrier: str
) -> None:
    if carrier != "httptools":
        pytest.skip("not everyone reads so long an extension of a chunk")
    words = b"5;" + b"a" * (1 << 20) + b"\r\nfirst\r\n0\r\n\r\n"
    server.steps = [send(CHUNKS.partition(b"5\r\n")[0] + words)]
    async with client.stream("GET", "/x", lands=False) as stream:
        assert (await stream.aread()).body == b"first"
