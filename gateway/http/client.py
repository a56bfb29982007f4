"""One pooled client per backend, and its errors in the gateway's words.

The one question that matters is asked of each request: `lands`, may it have an effect if it arrives? Where it
may, a lost answer is InDoubt; where not, it is Unavailable, and one stale keep-alive socket is forgiven.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from gateway.errors import InDoubt, Misbehaved, Unavailable
from gateway.http.answer import Answer, encode_json
from gateway.http.rates import parse_rate_limit
from gateway.observe.context import get_trace_headers
from gateway.types import JSON, RateLimit, hide_userinfo

if TYPE_CHECKING:
    import httpx2

    from gateway.http.direct import Arriving, Direct
    from gateway.http.prepared import Prepared


# Names of errors of httpx and httpx2 that are raised before the first byte of a request has left.
_NEVER_SENT = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "ProxyError",
        "UnsupportedProtocol",
        "InvalidURL",
        "LocalProtocolError",
    }
)
_STALE_SOCKET = frozenset({"RemoteProtocolError", "ReadError", "WriteError", "CloseError"})
_UNREADABLE = frozenset({"DecodingError", "TooManyRedirects"})
_HEADERS_FOR_ALL = frozenset(
    {"host", "content-type", "content-length", "user-agent", "accept", "accept-encoding", "connection"}
)


class StreamAnswer:
    """An HTTP answer whose body is still coming."""

    def __init__(
        self, status: int, headers: Mapping[str, str], arriving: Arriving | httpx2.Response, backend: str
    ) -> None:
        self.status, self.headers = status, headers
        self._arriving = arriving
        self._backend = backend

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; chunk borders mean nothing. Raises Unavailable if it breaks off."""
        try:
            async for chunk in self._arriving.aiter_bytes():
                if chunk:
                    yield chunk
        except _transport_errors() as error:
            raise Unavailable(f"the stream broke off ({_describe(error)})", backend=self._backend) from error

    async def aread(self) -> Answer:
        """Read the rest as a whole Answer, for error bodies."""
        body = b"".join([chunk async for chunk in self.aiter_bytes()])
        return Answer(self.status, self.headers, body)

    async def aclose(self) -> None:
        """Hang up."""
        await self._arriving.aclose()


AnswerT = TypeVar("AnswerT", Answer, StreamAnswer)


class HttpClient:
    """One backend over HTTP.

    Connections are pooled and reused, redirects are not followed, and nothing is retried but a read that met
    a socket which the server had closed while it was idle.

    Attributes:
        rate_limit: what the newest answer to a request that `lands` told of the backend's rate limit.
    """

    def __init__(
        self,
        backend: str,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 30.0,
        keepalive_seconds: float = 30.0,
        max_connections: int = 100,
        client: Any = None,
    ) -> None:
        """Make it without I/O.

        Args:
            backend: the configured name, for errors.
            base_url: without or with a trailing slash.
            headers: sent with every request to this backend (and to no other host).
            timeout_seconds: for connecting, and between two reads or writes.
            keepalive_seconds: how long an idle connection is trusted; less than the server's own limit.
            max_connections: at the same time.
            client: an httpx.AsyncClient or httpx2.AsyncClient to use instead; it is not closed here.
        """
        self.backend = backend
        self.base_url = base_url.rstrip("/")
        self._headers = dict(headers or {})
        self._timeout_seconds = timeout_seconds
        self._keepalive_seconds = keepalive_seconds
        self._max_connections = max_connections
        self._own = client is None
        self._client = client
        self._prepared: Prepared | None = None
        self.rate_limit: RateLimit | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        lands: bool,
        json: JSON = None,
        params: Mapping[str, Any] | list[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Send one request to a path below the base URL and read the whole answer, whatever its status.

        `json` that is bytes is sent as it stands. Raises Unavailable (nothing landed), InDoubt (`lands` and
        the answer is lost) or Misbehaved (the answer can't be read).
        """
        content, headers, seconds = self._complete(json, headers, timeout_seconds)

        async def send() -> Answer:
            direct = self._find_direct()
            if direct is not None:
                return await direct.request(method, path, content, params, headers, seconds)
            request = self._make_request(method, path, content, params, headers, seconds)
            return await self._fetch(request)

        return await self._send(send, method, path, lands=lands)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        lands: bool,
        json: JSON = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> AsyncIterator[StreamAnswer]:
        """Send one request and hand out the answer as soon as its head is there. Raises as `request` does."""
        answer = await self.open_stream(
            method, path, lands=lands, json=json, headers=headers, timeout_seconds=timeout_seconds
        )
        try:
            yield answer
        finally:
            await answer.aclose()

    async def open_stream(
        self,
        method: str,
        path: str,
        *,
        lands: bool,
        json: JSON = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> StreamAnswer:
        """As `stream`, for an answer that outlives the call; the caller closes it."""
        content, headers, seconds = self._complete(json, headers, timeout_seconds)

        async def send() -> StreamAnswer:
            direct = self._find_direct()
            if direct is not None:
                found = await direct.open(method, path, content, headers, seconds)
                return StreamAnswer(found.status, found.headers, found, self.backend)
            request = self._make_request(method, path, content, None, headers, seconds)
            response = await self._get_client().send(request, stream=True, follow_redirects=False)
            return StreamAnswer(response.status_code, _lower_headers(response), response, self.backend)

        return await self._send(send, method, path, lands=lands)

    async def put_elsewhere(self, url: str, body: bytes, *, content_type: str) -> Answer:
        """PUT bytes to a URL on another host (a presigned upload), with no header of ours but the type."""

        async def send() -> Answer:
            request = self._make_upload(url, body, content_type)
            return await self._fetch(request, auth=None)

        return await self._send(send, "the", "upload", lands=False)

    async def _fetch(self, request: httpx2.Request, **how: None) -> Answer:
        from gateway.http.prepared import read_decoded

        client = self._get_client()
        response = await client.send(request, stream=True, follow_redirects=False, **how)
        try:
            return Answer(response.status_code, _lower_headers(response), await read_decoded(response))
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close the connections, if they are ours."""
        if self._own and self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _send(
        self, send: Callable[[], Awaitable[AnswerT]], method: str, path: str, *, lands: bool
    ) -> AnswerT:
        """Do what `send` does; a read that meets a stale socket is sent a second time."""
        try:
            try:
                found = await send()
            except _transport_errors() as error:
                if lands or _name(error) not in _STALE_SOCKET:
                    raise
                found = await send()
        except _transport_errors() as error:
            self._raise_translated(error, f"{method} {path}", lands=lands)
        if lands:
            self.rate_limit = parse_rate_limit(found.headers)
        return found

    def _complete(
        self, json: JSON, headers: Mapping[str, str] | None, timeout_seconds: float | None
    ) -> tuple[bytes | None, Mapping[str, str] | None, float]:
        """Return a request's content, its own headers with the trace's, and its time limit."""
        if (trace := get_trace_headers()) is not None:
            headers = {**trace, **(headers or {})}
        content = None if json is None else json if isinstance(json, bytes) else encode_json(json)
        return content, headers, self._timeout_seconds if timeout_seconds is None else timeout_seconds

    def _make_request(
        self,
        method: str,
        path: str,
        content: bytes | None,
        params: Any,
        headers: Mapping[str, str] | None,
        seconds: float,
    ) -> httpx2.Request:
        if self._own:
            return self._get_prepared().make_request(method, path, content, params, headers, seconds)
        kind = {} if content is None else {"content-type": "application/json"}
        request: httpx2.Request = self._client.build_request(
            method,
            self.base_url + path,
            content=content,
            params=params,
            headers={**kind, **self._headers, **(headers or {})},
            timeout=_make_timeout(seconds),
        )
        return request

    def _make_upload(self, url: str, body: bytes, content_type: str) -> httpx2.Request:
        from gateway.http.prepared import make_upload

        if self._own:
            return make_upload(url, body, content_type, self._timeout_seconds)
        request: httpx2.Request = self._client.build_request(
            "PUT",
            url,
            content=body,
            headers={"content-type": content_type},
            timeout=_make_timeout(self._timeout_seconds),
        )
        for name in set(request.headers) - _HEADERS_FOR_ALL:  # an injected client may have its own key
            del request.headers[name]
        return request

    def _find_direct(self) -> Direct | None:
        """Return the way past httpx2's objects, where the client is our own and goes over our transport."""
        return self._get_prepared().find_direct(self._get_client()) if self._own else None

    def _get_prepared(self) -> Prepared:
        if self._prepared is None:
            from gateway.http.prepared import Prepared

            self._prepared = Prepared(self.base_url, self._headers)
        return self._prepared

    def _get_client(self) -> Any:
        if self._client is None:
            from gateway.http.prepared import make_client

            self._client = make_client(
                max_connections=self._max_connections, keepalive_seconds=self._keepalive_seconds
            )
        return self._client

    def _raise_translated(self, error: Exception, what: str, *, lands: bool) -> NoReturn:
        name = _name(error)
        if name in _NEVER_SENT:
            raise Unavailable(
                f"{hide_userinfo(self.base_url)} can't be reached ({_describe(error)})", backend=self.backend
            ) from error
        if name in _UNREADABLE:
            raise Misbehaved(
                f"{what}: unreadable answer ({_describe(error)})", backend=self.backend
            ) from error
        if lands:
            raise InDoubt(
                f"{what} was sent and its answer is lost ({_describe(error)})", backend=self.backend
            ) from error
        raise Unavailable(f"{what}: no answer ({_describe(error)})", backend=self.backend) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """Return the error roots of httpx and httpx2 as far as loaded; an injected client may be of either."""
    found: list[type[Exception]] = []
    for name in ("httpx2", "httpx"):
        module = sys.modules.get(name)
        if module is not None:
            found += [module.HTTPError, module.InvalidURL, module.StreamError]
    return tuple(found)


def _make_timeout(seconds: float) -> tuple[float | None, ...]:
    """Return it as a tuple, so that a client of httpx takes it as well as one of httpx2."""
    from gateway.http.prepared import make_timeout

    timeout = make_timeout(seconds)
    return timeout.connect, timeout.read, timeout.write, timeout.pool


def _lower_headers(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _name(error: Exception) -> str:
    for cls in type(error).__mro__:
        if cls.__name__ in _NEVER_SENT | _STALE_SOCKET | _UNREADABLE:
            return cls.__name__
    return type(error).__name__


def _describe(error: Exception) -> str:
    if _name(error) == "LocalProtocolError":  # its words may hold a header, and that a key
        return "LocalProtocolError: a header can't be sent"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
