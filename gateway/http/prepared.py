"""Requests and the client of a backend that gets no client from outside: all that stays is made once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

import httpx2

if TYPE_CHECKING:
    from gateway.http.direct import Direct

_HEADERS = {"accept": "*/*", "accept-encoding": "gzip, deflate", "user-agent": "inference-gateway"}
_JSON = {"content-type": "application/json"}
_MOST_URLS = 128
_DECODED_BYTES = 1 << 26  # that a compressed answer may come to, whatever its size ...
_TIMES_LONGER = 100  # ... or so many times that: text comes to 20 times, and a bomb to 1,000
LONGEST_CONNECT_SECONDS = 10.0


class Prepared:
    """What one backend's requests have in common."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        """Make it; `headers` go with every request to the backend."""
        self._base_url = base_url
        self._base = httpx2.URL(base_url)
        self._over: httpx2.AsyncBaseTransport | None = None
        self._direct: Direct | None = None
        self._headers = {**_HEADERS, **{name.lower(): value for name, value in headers.items()}}
        self._bare = httpx2.Headers(self._headers)
        self._with_json = httpx2.Headers({**_JSON, **self._headers})
        self._make_url = lru_cache(_MOST_URLS)(lambda path: httpx2.URL(base_url + path))

    def find_direct(self, client: httpx2.AsyncClient) -> Direct | None:
        """Return the way past a client that goes over our own transport; None where it goes over another.

        It is asked as the client itself asks: what stands in for a transport in a test is found as well.
        """
        transport = client._transport_for_url(self._base)  # noqa: SLF001  there is no public word for it
        if transport is self._over:
            return self._direct
        try:
            from gateway.http.direct import Direct
            from gateway.http.httptools_transport import HttptoolsTransport
        except ImportError:
            return None
        if not isinstance(transport, HttptoolsTransport):
            return None
        self._over, self._direct = transport, Direct(self._base, self._bare, transport)
        return self._direct

    def make_request(
        self,
        method: str,
        path: str,
        content: bytes | None,
        params: Any,
        headers: Mapping[str, str] | None,
        timeout_seconds: float,
    ) -> httpx2.Request:
        """Make one; `content` is JSON. Raises httpx2.InvalidURL."""
        common = self._bare if content is None else self._with_json
        if headers:
            common = common.copy()
            common.update(headers)
        return httpx2.Request(
            method,
            self._make_url(path) if params is None else self._base_url + path,
            params=params,
            headers=common,
            content=content,
            extensions={"timeout": make_timeout(timeout_seconds).as_dict()},
        )


def make_upload(url: str, body: bytes, content_type: str, timeout_seconds: float) -> httpx2.Request:
    """Make a PUT to another host, with nothing that belongs to the backend."""
    return httpx2.Request(
        "PUT",
        url,
        content=body,
        headers={**_HEADERS, "content-type": content_type},
        extensions={"timeout": make_timeout(timeout_seconds).as_dict()},
    )


async def read_decoded(response: httpx2.Response) -> bytes:
    """Read a body that may be compressed; a little one does not fill the memory. Raises DecodingError."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > max(_DECODED_BYTES, _TIMES_LONGER * response.num_bytes_downloaded):
            raise httpx2.DecodingError("it is compressed to less than a hundredth, as no answer is")
    return b"".join(parts)


@lru_cache(64)
def make_timeout(seconds: float) -> httpx2.Timeout:
    """Return the timeouts of one request: for connecting, and between two reads or writes."""
    return httpx2.Timeout(seconds, connect=min(seconds, LONGEST_CONNECT_SECONDS), pool=None)


def make_client(*, max_connections: int, keepalive_seconds: float) -> httpx2.AsyncClient:
    """Make a client without I/O, over httptools where that is installed.

    Through a proxy that the environment names, httpx2's own transport goes: it knows which hosts need none.
    """
    limits = httpx2.Limits(
        max_connections=max_connections,
        max_keepalive_connections=max_connections,
        keepalive_expiry=keepalive_seconds,
    )
    transport: httpx2.AsyncBaseTransport | None = None
    if not getproxies().keys() - {"no"}:
        try:
            from gateway.http.httptools_transport import HttptoolsTransport
        except ImportError:  # it is in the extra `fast`
            transport = None
        else:
            transport = HttptoolsTransport(limits)
    return httpx2.AsyncClient(transport=transport, limits=limits, follow_redirects=False)
