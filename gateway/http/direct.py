"""A backend's own requests, straight to the socket: their heads are prepared, no object stands between."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote_plus

import httpx2

from gateway.http.answer import Answer
from gateway.http.httptools_transport import (
    Body,
    HttptoolsTransport,
    RawHeaders,
    find_origin,
    make_head,
)
from gateway.http.prepared import LONGEST_CONNECT_SECONDS, read_decoded

_PLAIN = re.compile(r"/[A-Za-z0-9_~:@!$&'()*+,;=/-]{0,2000}")  # needs no parser of URLs
_WORD = re.compile(r"[A-Za-z0-9_.~-]*")  # stands in a query as it is


class Direct:
    """One backend through our own transport."""

    def __init__(self, base_url: httpx2.URL, headers: httpx2.Headers, transport: HttptoolsTransport) -> None:
        """Make it; `headers` go with every request. Raises UnsupportedProtocol."""
        self._base = base_url
        self._base_path = base_url.raw_path.decode("ascii").rstrip("/")
        self._origin = find_origin(base_url)
        self._transport = transport
        own: dict[str, str] = {}
        if base_url.userinfo:
            auth = httpx2.BasicAuth(base_url.username, base_url.password)
            authorized = next(auth.auth_flow(httpx2.Request("GET", base_url)))
            own["authorization"] = authorized.headers["authorization"]
        self._headers = httpx2.Headers({"host": base_url.netloc.decode("ascii"), **own})
        self._headers.update(headers)
        self._tail = make_head("", "", self._headers.raw).partition(b"\r\n")[2][:-2]

    async def request(
        self,
        method: str,
        path: str,
        content: bytes | None,
        params: Any,
        headers: Mapping[str, str] | None,
        seconds: float,
    ) -> Answer:
        """Send a request to a path below the base URL and return the whole answer. Raises as httpx2."""
        head = self._make_head(method, path, content, params, headers)
        status, raw, body = await self._transport.exchange(
            self._origin, head, content, seconds, min(seconds, LONGEST_CONNECT_SECONDS)
        )
        told = lower_headers(raw)
        if "content-encoding" in told:
            body = await read_decoded(httpx2.Response(status, headers=raw, stream=_Whole(body)))
        return Answer(status, told, body)

    async def open(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        seconds: float,
    ) -> Arriving:
        """Send a request and return the answer whose head is there. Raises as httpx2."""
        head = self._make_head(method, path, content, None, headers)
        connect_seconds = min(seconds, LONGEST_CONNECT_SECONDS)
        body = await self._transport.open(self._origin, head, content, seconds, connect_seconds)
        return Arriving(body)

    def _make_head(
        self, method: str, path: str, content: bytes | None, params: Any, headers: Mapping[str, str] | None
    ) -> bytes:
        if _PLAIN.fullmatch(path):
            target = self._base_path + path
        else:
            target = httpx2.URL(f"{self._base}".rstrip("/") + path).raw_path.decode("ascii")
        if params:
            pairs = params.items() if isinstance(params, Mapping) else params
            query = "&".join([f"{_make_word(name)}={_make_word(value)}" for name, value in pairs])
            target = f"{target.partition('?')[0]}?{query}"
        tail = self._tail if not headers else self._lay_over(headers)
        if content is None:
            length = b"content-length: 0\r\n" if method in ("POST", "PUT", "PATCH") else b""
            return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method.encode(), target.encode("ascii"), tail, length)
        kind = b"" if b"content-type:" in tail else b"content-type: application/json\r\n"
        return b"%b %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n" % (
            method.encode(),
            target.encode("ascii"),
            tail,
            kind,
            len(content),
        )

    def _lay_over(self, headers: Mapping[str, str]) -> bytes:
        laid = self._headers.copy()
        laid.update({name.lower(): value for name, value in headers.items()})
        return make_head("", "", laid.raw).partition(b"\r\n")[2][:-2]


class Arriving:
    """An answer whose body is still coming.

    Attributes:
        status: of HTTP.
        headers: names in lower case.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        raw = body.answer.headers
        self.status, self.headers = body.answer.status, lower_headers(raw)
        is_encoded = "content-encoding" in self.headers
        self._decoding = httpx2.Response(self.status, headers=raw, stream=body) if is_encoded else None

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises as httpx2."""
        return aiter(self._body) if self._decoding is None else self._decoding.aiter_bytes()

    async def aclose(self) -> None:
        """Hang up."""
        await self._body.aclose()


class _Whole(httpx2.AsyncByteStream):
    """A body that has come, for those who read it bit by bit."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


def lower_headers(raw: RawHeaders) -> dict[str, str]:
    """Return headers by their names in lower case; several of a name with commas between."""
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), _decode(value)
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _make_word(value: object) -> str:
    """Return a name or a value of a query as httpx writes it."""
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    text = str(value)
    return text if _WORD.fullmatch(text) else quote_plus(text)


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
