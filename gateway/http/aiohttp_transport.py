"""What carries the bytes below httpx2's client where aiohttp is installed: several times as fast.

Every error of aiohttp is told as the one that httpx2's own transport would raise. Nothing is ever called
"not sent" that may have been: only errors of making the connection are.
"""

from __future__ import annotations

import asyncio
import io
import re
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache

import aiohttp
import httpx2
from yarl import URL

_LONGEST_LINE_BYTES = 1 << 16  # of an answer's head; aiohttp's own limit is 8 KiB
_LARGEST_AT_ONCE_BYTES = 1 << 20  # aiohttp warns of larger ones
_BREAK = re.compile(rb"[\r\n\x00]")

# The first that fits counts. What fits none came after the request may have been sent.
_ERRORS: tuple[tuple[type[Exception], type[httpx2.TransportError]], ...] = (
    (aiohttp.ClientConnectorError, httpx2.ConnectError),  # refused, no such name, no trust in its TLS
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx2.UnsupportedProtocol),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    (aiohttp.ClientConnectionResetError, httpx2.WriteError),
    (TimeoutError, httpx2.ReadTimeout),
)
_CAUGHT = (aiohttp.ClientError, TimeoutError, OSError)


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """HTTP/1.1 through aiohttp: it repeats nothing, follows nothing, and keeps no cookies."""

    def __init__(self, limits: httpx2.Limits) -> None:
        """Make it without I/O: the connections belong to the loop of the first request."""
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None
        self._ssl: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the answer as soon as its head is there. Raises as httpx2's own."""
        session = self._session or self._open_session()
        url = request.url
        if url.userinfo:
            url = url.copy_with(userinfo=b"")
        connect, read, pool = _get_timeouts(request)
        try:
            answer = await session.request(
                request.method,
                URL(str(url), encoded=True),
                data=_get_content(request),
                headers=_make_headers(request),
                allow_redirects=False,
                ssl=self._get_ssl() if url.scheme == "https" else True,
                timeout=_make_timeout(connect, read, pool),
            )
        except _CAUGHT as error:
            raise _translate(error) from error
        return httpx2.Response(
            answer.status,
            headers=answer.raw_headers,
            stream=_take_whole(answer) or _Body(answer, read),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (answer.reason or "").encode()},
        )

    async def aclose(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._limits.max_connections or 0,
            keepalive_timeout=self._limits.keepalive_expiry,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # httpx2 does that
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            max_line_size=_LONGEST_LINE_BYTES,
            max_field_size=_LONGEST_LINE_BYTES,
        )
        # By itself it sends again what it takes for idempotent; what has no effect is known above only.
        session._retry_connection = False  # noqa: SLF001  there is no public word for it
        self._session = session
        return session

    def _get_ssl(self) -> ssl.SSLContext:
        if self._ssl is None:
            self._ssl = httpx2.create_ssl_context()
        return self._ssl


class _Body(httpx2.AsyncByteStream):
    """The body as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse, read_seconds: float | None) -> None:
        self._answer = answer
        self._read_seconds = read_seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._read():
                yield chunk
        except _CAUGHT as error:
            raise _translate(error) from error

    async def _read(self) -> bytes:
        # aiohttp forgets its own timeout where what comes is no chunk, and then waits for ever (3.14).
        async with asyncio.timeout(self._read_seconds):
            return await self._answer.content.readany()

    async def aclose(self) -> None:
        """Hang up, unless all of it was read: then its connection serves the next request already."""
        self._answer.close()


def _take_whole(answer: aiohttp.ClientResponse) -> httpx2.ByteStream | None:
    """Return the body if all of it came together with the head, as short ones do."""
    content = answer.content
    if content.exception() is not None or not content.is_eof():
        return None
    return httpx2.ByteStream(content.read_nowait())


def _get_content(request: httpx2.Request) -> bytes | io.BytesIO | httpx2.AsyncByteStream | None:
    try:
        content = request.content
        return io.BytesIO(content) if len(content) > _LARGEST_AT_ONCE_BYTES else content or None
    except httpx2.RequestNotRead:
        if not isinstance(request.stream, httpx2.AsyncByteStream):
            raise
        return request.stream


def _make_headers(request: httpx2.Request) -> list[tuple[str, str]]:
    """Return a request's headers. Raises LocalProtocolError for what would break its head."""
    headers: list[tuple[str, str]] = []
    for name, value in request.headers.raw:
        if name.lower() == b"transfer-encoding":
            continue  # aiohttp says so itself
        if _BREAK.search(value):
            raise httpx2.LocalProtocolError("a header's value has a line break", request=request)
        try:
            headers.append((name.decode("ascii"), value.decode("utf-8")))
        except UnicodeDecodeError as error:
            raise httpx2.LocalProtocolError(f"a header is no text: {error}", request=request) from error
    return headers


def _get_timeouts(request: httpx2.Request) -> tuple[float | None, float | None, float | None]:
    given = request.extensions.get("timeout", {})
    return given.get("connect"), given.get("read"), given.get("pool")


@lru_cache(maxsize=64)
def _make_timeout(connect: float | None, read: float | None, pool: float | None) -> aiohttp.ClientTimeout:
    # aiohttp's `connect` holds for the wait for a free connection and for making one, both together.
    whole = None if pool is None or connect is None else pool + connect
    return aiohttp.ClientTimeout(total=None, connect=whole, sock_connect=connect, sock_read=read)


def _translate(error: Exception) -> httpx2.TransportError:
    for theirs, ours in _ERRORS:
        if isinstance(error, theirs):
            return ours(str(error))
    return httpx2.ReadError(str(error))
