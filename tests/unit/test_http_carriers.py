"""Both carriers, httptools and httpx2's own, must tell the same: what landed is judged by their errors."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import warnings
from typing import Any

import httpx2
import pytest
from http_listener import OK, Listener, answer, carrier, listener

from gateway.errors import InDoubt, Unavailable
from gateway.http import HttpClient
from gateway.http.prepared import make_client

__all__ = ["carrier", "listener"]  # fixtures

pytestmark = pytest.mark.anyio


async def test_the_carrier_is_the_one_that_is_there(carrier: str) -> None:
    async with make_client(max_connections=1, keepalive_seconds=1) as client:
        name = type(client._transport).__name__
    assert name == {"httptools": "HttptoolsTransport", "httpx2": "AsyncHTTPTransport"}[carrier]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
async def test_through_a_proxy_goes_httpx2(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with make_client(max_connections=1, keepalive_seconds=1) as client:
        assert isinstance(client._transport, httpx2.AsyncHTTPTransport)
        assert client._mounts


async def test_where_a_proxy_refuses_nothing_landed(
    monkeypatch: pytest.MonkeyPatch, listener: Listener
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, but nobody listens
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free.getsockname()[1]}")
        url = await listener.start(answer)
        client = HttpClient("node1", url)
        with pytest.raises(Unavailable):
            await client.request("POST", "/x", lands=True, json={})
        await client.aclose()
    assert not listener.heads


@pytest.mark.parametrize("lands", [True, False])
async def test_a_name_that_nobody_has_took_nothing(lands: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    async def fail(*args: Any, **words: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    client = HttpClient("node1", "http://nobody.test")
    with pytest.raises(Unavailable, match=r"can't be reached \(ConnectError"):
        await client.request("POST", "/x", lands=lands, json={})
    await client.aclose()


@pytest.mark.parametrize("lands", [True, False])
async def test_where_tls_fails_nothing_landed(listener: Listener, lands: bool) -> None:  # noqa: FBT001
    """It speaks no TLS at all."""

    async def no_tls(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(no_tls, "127.0.0.1", 0)
    client = HttpClient("node1", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(Unavailable, match=r"can't be reached \(ConnectError"):
        await client.request("POST", "/x", lands=lands, json={})
    await client.aclose()
    server.close()
    await listener.start(answer)


async def test_a_connection_that_was_never_made_in_time_took_nothing(
    carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*args: Any, **words: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", hang)
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", hang)
    client = HttpClient("node1", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"can't be reached \(ConnectTimeout"):
        await client.request("POST", "/x", lands=True, json={}, timeout_seconds=0.05)
    await client.aclose()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_nothing_that_lands_is_ever_sent_twice(listener: Listener, method: str) -> None:
    """Whatever a carrier takes for idempotent, on a fresh connection and on one that was idle."""
    answers = [True, False, False]

    async def step(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answers.pop(0):
            writer.write(OK)
        else:
            writer.close()

    client = HttpClient("node1", await listener.start(step))
    await client.request("GET", "/warm", lands=False)
    for sent in (2, 3):
        with pytest.raises(InDoubt):
            await client.request(method, "/x", lands=True)
        assert len(listener.heads) == sent
    await client.aclose()


async def test_a_server_that_closed_an_idle_connection_gets_a_new_one(listener: Listener) -> None:
    async def answer_and_close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        writer.close()

    client = HttpClient("node1", await listener.start(answer_and_close))
    for number in range(1, 6):
        assert (await client.request("POST", "/x", lands=True, json={})).status == 200
        await asyncio.wait_for(listener.ended.wait(), 30)
        listener.ended.clear()
        await asyncio.sleep(0.01)  # what tells the client is on its way through loopback
        assert len(listener.heads) == number
    await client.aclose()


async def test_cookies_are_not_kept(listener: Listener) -> None:
    async def set_cookie(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: session=1; Path=/\r\n\r\n"))

    client = HttpClient("node1", await listener.start(set_cookie))
    for _ in range(2):
        found = await client.request("GET", "/x", lands=False)
        assert found.headers["set-cookie"] == "session=1; Path=/"
    assert not any(b"cookie" in head.lower() for head in listener.heads)
    await client.aclose()


async def test_a_request_has_the_headers_that_were_given_and_no_others(listener: Listener) -> None:
    url = await listener.start(answer)
    client = HttpClient("node1", url, headers={"X-Key": "secret", "Accept": "application/json"})
    await client.request("GET", "/a?b=%2F", lands=False, headers={"x-more": "m"})
    lines = listener.heads[0].decode().split("\r\n")
    assert lines[0] == "GET /a?b=%2F HTTP/1.1"
    told = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    assert told == {
        "host": url.removeprefix("http://"),
        "accept": "application/json",
        "accept-encoding": "gzip, deflate",
        "user-agent": "inference-gateway",
        "x-key": "secret",
        "x-more": "m",
    }
    await client.aclose()


async def test_a_large_body_is_sent_whole_with_nothing_added(listener: Listener) -> None:
    body, came = b"x" * (3 << 20), bytearray()

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.extend(await reader.readexactly(len(body)))
        writer.write(OK)

    client = HttpClient("node1", await listener.start(read))
    await client.request("POST", "/x", lands=True, json=body)
    assert came == body
    names = {line.split(b":")[0].lower() for line in listener.heads[0].splitlines()[1:] if line}
    assert names == {
        b"host",
        b"accept",
        b"accept-encoding",
        b"user-agent",
        b"content-type",
        b"content-length",
    }
    await client.aclose()


async def test_a_header_that_would_break_the_head_is_never_sent(listener: Listener) -> None:
    client = HttpClient("node1", await listener.start(answer))
    with pytest.raises(Unavailable, match="LocalProtocolError"):
        await client.request("POST", "/x", lands=True, headers={"x-key": "a\r\nx-other: b"})
    assert not listener.heads
    await client.aclose()


@pytest.mark.parametrize("url", ["http://me:hidden@127.0.0.1:9", "http://hidden@127.0.0.1:9"])
async def test_no_error_tells_the_password_of_an_address(carrier: str, url: str) -> None:
    client = HttpClient("node1", url, timeout_seconds=5)
    with pytest.raises(Unavailable) as caught:
        await client.request("GET", "/x", lands=False)
    assert "hidden" not in str(caught.value)
    assert "http://127.0.0.1:9 can't be reached" in str(caught.value)
    await client.aclose()


@pytest.mark.parametrize("key", ["hidden\n", "hidden\x00"])
async def test_no_error_tells_a_header_that_cannot_be_sent(
    carrier: str, listener: Listener, key: str
) -> None:
    client = HttpClient("node1", await listener.start(answer), headers={"authorization": f"Bearer {key}"})
    with pytest.raises(Unavailable) as caught:
        await client.request("POST", "/x", lands=True, json={})
    assert "hidden" not in str(caught.value)
    await client.aclose()


async def test_who_is_cancelled_leaves_a_pool_that_works(listener: Listener) -> None:
    came, hung = asyncio.Event(), [True] * 3

    async def hang_at_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not hung:
            writer.write(OK)
            return
        hung.pop()
        came.set()
        await reader.read()
        raise ConnectionResetError

    client = HttpClient("node1", await listener.start(hang_at_first), max_connections=2)
    for _ in range(3):
        task = asyncio.create_task(client.request("POST", "/x", lands=True))
        await asyncio.wait_for(came.wait(), 30)
        came.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    answers = await asyncio.gather(*(client.request("GET", "/x", lands=False) for _ in range(10)))
    assert [one.status for one in answers] == [200] * 10
    await client.aclose()


async def test_no_more_connections_than_allowed(listener: Listener) -> None:
    at_once = most = 0
    full = asyncio.Event()

    async def count(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0.002)
        at_once -= 1
        writer.write(OK)

    client = HttpClient("node1", await listener.start(count), max_connections=3)
    await asyncio.gather(*(client.request("GET", "/x", lands=False) for _ in range(30)))
    assert most == 3
    await client.aclose()


async def test_nothing_is_left_open(listener: Listener) -> None:
    async def stream(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = HttpClient("node1", await listener.start(stream))
        answer = await client.open_stream("POST", "/x", lands=True, json={"a": 1})
        pieces = answer.aiter_bytes()
        assert await anext(pieces) == b"first"
        await pieces.aclose()  # type: ignore[attr-defined]  # it is a generator
        await answer.aclose()
        await answer.aclose()
        await asyncio.wait_for(listener.ended.wait(), 30)  # hanging up reached the server
        await client.aclose()
        del client, answer, pieces
        gc.collect()
    assert [str(one.message) for one in caught if one.category is ResourceWarning] == []


async def test_tls_is_checked_against_trusted_roots(carrier: str) -> None:
    if carrier == "httptools":
        from gateway.http.pool import Pool

        context = Pool(httpx2.Limits()).get_ssl()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
