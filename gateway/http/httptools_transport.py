"""What carries the bytes below httpx2's client where httptools is installed: many times as fast.

HTTP/1.1 that repeats nothing, follows nothing and keeps no cookies. An adapter's own requests go past
httpx2's objects altogether (`exchange`, `open`); see gateway.http.direct.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator

import httpx2

from gateway.http.connection import Connection
from gateway.http.pool import Origin, Pool

_BREAK = re.compile(rb"[\r\n\x00]")
_PORTS = {"http": 80, "https": 443}

RawHeaders = list[tuple[bytes, bytes]]


class HttptoolsTransport(httpx2.AsyncBaseTransport):
    """Connections and what goes over them."""

    def __init__(self, limits: httpx2.Limits) -> None:
        """Make it without I/O: the connections belong to the loop of the first request."""
        self.pool = Pool(limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the answer as soon as its head is there. Raises as httpx2's own."""
        target = request.url.raw_path.decode("ascii")
        head = make_head(request.method, target, request.headers.raw)
        given = request.extensions.get("timeout", {})
        read_seconds = given.get("read")
        body = await self.open(
            find_origin(request.url), head, _get_content(request), read_seconds, given.get("connect")
        )
        if request.method == "HEAD":
            body.answer.is_whole, body.answer.keeps = True, False  # nothing follows, whatever the head says
        return httpx2.Response(
            body.answer.status,
            headers=body.answer.headers,
            stream=body,
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def exchange(
        self,
        origin: Origin,
        head: bytes,
        body: bytes | None,
        read_seconds: float | None,
        connect_seconds: float | None,
    ) -> tuple[int, RawHeaders, bytes]:
        """Send a request and return the whole answer: status, headers, body."""
        connection = await self.pool.take(origin, connect_seconds)
        try:
            await connection.send(head, body, read_seconds)
            content, answer = await connection.read_whole(read_seconds), connection.answer
        except BaseException:
            self.pool.drop(connection)
            raise
        self.pool.give_back(connection)
        return answer.status, answer.headers, content

    async def open(
        self,
        origin: Origin,
        head: bytes,
        body: bytes | AsyncIterable[bytes] | None,
        read_seconds: float | None,
        connect_seconds: float | None,
    ) -> Body:
        """Send a request and return the answer's body, its head being there."""
        connection = await self.pool.take(origin, connect_seconds)
        try:
            await connection.send(head, body, read_seconds)
            await connection.read_head(read_seconds)
        except BaseException:
            self.pool.drop(connection)
            raise
        return Body(connection, self.pool, read_seconds)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.pool.aclose()


class Body(httpx2.AsyncByteStream):
    """The body as it comes.

    Attributes:
        answer: has the status and the headers, until the body is closed.
    """

    def __init__(self, connection: Connection, pool: Pool, read_seconds: float | None) -> None:
        self._connection, self._pool, self._read_seconds = connection, pool, read_seconds
        self.answer = connection.answer
        self._is_closed = False
        pool.pace.begin()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._is_closed and (chunk := await self._connection.read(self._read_seconds)):
            yield chunk

    async def aclose(self) -> None:
        """Hang up, unless all of it has come: then its connection serves the next request."""
        if not self._is_closed:
            self._is_closed = True
            self._pool.pace.end()
            self._pool.give_back(self._connection)


def make_head(method: str, target: str, headers: RawHeaders) -> bytes:
    """Return a request's head. Raises LocalProtocolError for what would break it."""
    lines = [f"{method} {target} HTTP/1.1".encode("ascii")]
    for name, value in headers:
        if _BREAK.search(value) or _BREAK.search(name):
            raise httpx2.LocalProtocolError("a header has a line break")
        lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join([*lines, b"", b""])


def find_origin(url: httpx2.URL) -> Origin:
    """Return where a request goes. Raises UnsupportedProtocol."""
    if url.scheme not in _PORTS or not url.raw_host:
        raise httpx2.UnsupportedProtocol(f"{url.scheme!r} is not spoken here")
    return Origin(url.scheme == "https", url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme])


def _get_content(request: httpx2.Request) -> bytes | AsyncIterable[bytes] | None:
    try:
        return request.content
    except httpx2.RequestNotRead:
        if not isinstance(request.stream, httpx2.AsyncByteStream):
            raise
        return request.stream
