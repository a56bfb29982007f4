"""What stands between the socket and the application: heads that do not come, and addresses to listen on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.server import noise, protocol
from gateway.server.app import App
from gateway.server.service import Service
from gateway.server.serving import _take_over, bind, check_reach, get_url, make_server
from gateway.server.wire import Response

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server(service: Service) -> AsyncIterator[Any]:
    listening = bind("127.0.0.1", 0)
    server: Any = make_server(App(service), service)
    serving = asyncio.create_task(server.serve([listening]))
    server.port = listening.getsockname()[1]
    yield server
    server.stop()
    await serving


@pytest.fixture
async def port(server: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the port of a server that waits for no head for long."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    return int(server.port)


async def talk(port: int, *parts: bytes) -> bytes:
    """Say these parts, and return all that is answered until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()


GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"


@pytest.mark.parametrize("parts", [(), (b"GET /heal",), (GET,), (GET, b"x-slow: 1")])
async def test_a_head_that_does_not_end_is_given_up(port: int, parts: tuple[bytes, ...]) -> None:
    assert await talk(port, *parts) == b""


async def test_a_second_head_on_a_kept_connection_is_given_up_as_well(port: int) -> None:
    answered = await talk(port, GET + b"\r\n", GET)
    assert answered.count(b"HTTP/1.1 200") == 1


async def test_a_head_without_end_is_given_up(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 3600)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    sent = 0
    async with asyncio.timeout(60):
        with suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"x-long: " + b"y" * 1_000 + b"\r\n")
                sent += 1_000
                await writer.drain()
                await asyncio.sleep(0.001)
    writer.close()
    assert abs(sent - protocol.MOST_HEAD_BYTES) < 2_000_000  # what the kernel has taken meanwhile
    assert sent + len(GET) > protocol.MOST_HEAD_BYTES - 1_100


@pytest.mark.parametrize("path", [b"GET /healthz", b"POST /nowhere"])
async def test_a_body_that_nobody_reads_is_not_waited_for(
    port: int, path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "REST_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(path + b" HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n")
    reading = asyncio.create_task(reader.read())
    async with asyncio.timeout(30):
        with suppress(ConnectionError):
            while not reading.done():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
            assert (await reading).startswith((b"HTTP/1.1 200", b"HTTP/1.1 404"))
    writer.close()


async def test_a_request_may_follow_a_body_that_nobody_reads(port: int) -> None:
    late = b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(late)
    assert await reader.read(12) == b"HTTP/1.1 404"
    writer.write(b"xyz" + GET + b"connection: close\r\n\r\n")
    async with asyncio.timeout(60):
        assert (await reader.read()).count(b"HTTP/1.1 200") == 1
    writer.close()


async def test_a_slow_body_gets_its_own_time(server: Any) -> None:
    head = b"POST /v1/runs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head += b"connection: close\r\ncontent-length: 17\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head)
    async with asyncio.timeout(60):
        while all(one._in_head for one in server.server_state.connections):  # noqa: ASYNC110  nobody tells of it
            await asyncio.sleep(0.01)
    (connection,) = server.server_state.connections
    assert connection._waiting is None  # nobody waits for its head any more
    writer.write(b'{"model": "echo"}')
    async with asyncio.timeout(60):
        assert (await reader.read()).startswith(b"HTTP/1.1 202")
    writer.close()


async def test_what_is_no_http_is_refused_and_does_not_fill_the_log(
    port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, seconds = logging.getLogger("uvicorn.error"), 1000.0
    assert [type(one) for one in source.filters] == [noise.SumUp]
    monkeypatch.setattr(source, "filters", [noise.SumUp(lambda: seconds)])
    upgrade = GET + b"upgrade: websocket\r\nconnection: close, upgrade\r\n\r\n"
    for _ in range(20):
        assert (await talk(port, b"\0\1\2 no HTTP\r\n\r\n")).startswith(b"HTTP/1.1 400")
        assert (await talk(port, upgrade)).startswith(b"HTTP/1.1 200")
    assert [record.name for record in caplog.records] == ["gateway.server"]
    seconds += noise.TOLD_EVERY_SECONDS
    await talk(port, b"\0\r\n\r\n")
    assert "60, now: Invalid HTTP" in caplog.messages[-1]
    assert len(caplog.records) == 2
    source.error("a defect")
    assert caplog.messages[-1] == "a defect"


@pytest.mark.parametrize(
    ("method", "more"), [(b"GET", b""), (b"GET", b"connection: close\r\n"), (b"HEAD", b"")]
)
async def test_an_answer_is_whole_whatever_way_it_is_written(port: int, method: bytes, more: bytes) -> None:
    answered = await talk(port, method + GET[3:] + more + b"\r\n")
    head, _, body = answered.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    told = dict(line.split(b": ", 1) for line in lines[1:])
    assert len(told) == len(lines) - 1
    assert told.keys() >= {b"date", b"content-type", b"content-length"}
    assert (told.get(b"connection") == b"close") == bool(more)
    assert len(body) == (0 if method == b"HEAD" else int(told[b"content-length"]))


BODY = b'{"model": "echo", "input": {"text": "x"}}'


@pytest.mark.parametrize("size", [0, 10, len(BODY)])
@pytest.mark.parametrize(("most", "status"), [(len(BODY), 200), (len(BODY) - 1, 413)])
async def test_a_body_is_the_same_whether_it_comes_with_its_head_or_after(
    port: int, service: Service, size: int, most: int, status: int
) -> None:
    service.settings = service.settings.model_copy(update={"max_body": most})
    head = b"POST /v1/plans HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    framed = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    for rest in (b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY), framed):
        whole = head + b"connection: close\r\n" + rest
        end = len(whole) - len(BODY) + size
        answered = await talk(port, whole[:end], whole[end:])
        assert answered.split(b" ", 2)[1] == b"%d" % status


async def test_requests_that_come_together_are_answered_in_order(port: int) -> None:
    answered = await talk(port, GET + b"\r\n" + GET.replace(b"healthz", b"none") + b"\r\n")
    assert [part[:3] for part in answered.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404"]


@pytest.mark.parametrize("value", [b"a\r\nx-more: b", b"a\nb", b"a\rb", b"a\x00b"])
async def test_a_header_can_have_no_lines_of_its_own(
    port: int, service: Service, monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    async def answer(*_: object) -> Response:
        return Response(200, b"", ((b"x-one", value),))

    monkeypatch.setattr(App, "_dispatch", answer)
    answered = await talk(port, GET + b"\r\n")
    assert b"x-one" not in answered
    assert b"x-more" not in answered


def test_only_loopback_is_reached_without_a_key() -> None:
    for host in ("127.0.0.1", "::1"):
        with bind(host, 0) as listening:
            check_reach(listening, is_open=True)
            assert get_url(listening).startswith("http://")
    with bind("0.0.0.0", 0) as listening:
        check_reach(listening, is_open=False)
        with pytest.raises(ConfigError, match="anybody could spend"):
            check_reach(listening, is_open=True)


def test_an_address_that_is_taken_is_said_to_be() -> None:
    with bind("127.0.0.1", 0) as listening, pytest.raises(ConfigError, match="can't listen"):
        bind("127.0.0.1", listening.getsockname()[1])
    with pytest.raises(ConfigError, match="can't listen"):
        bind("no.such.host.invalid", 0)


def test_what_is_no_socket_is_not_listened_on(tmp_path: Path) -> None:
    with (tmp_path / "a file").open("w") as file, pytest.raises(ConfigError, match="no socket at the"):
        _take_over(file.fileno())
