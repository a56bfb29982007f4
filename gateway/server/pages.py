"""The page at /: files of the package, sent as they are. It asks the API for everything it shows."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from gateway.server.problems import NO_ROUTE, Refusal
from gateway.server.routes import Route
from gateway.server.wire import Answer, Header, Request, Response

_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: tuple[Header, ...] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


async def send_page(request: Request) -> Answer:
    """Send the page."""
    return _send(request, "index.html")


async def send_asset(request: Request) -> Answer:
    """Send one of its files."""
    name = request.params["name"]
    if name not in _list_assets():
        raise Refusal(NO_ROUTE, "the page has no such file")
    return _send(request, name)


def _send(request: Request, name: str) -> Response:
    content, tag = _load(name)
    headers = (*_HEADERS, (b"content-type", _TYPES[name.rpartition(".")[2]]), (b"etag", tag))
    if request.get_header(b"if-none-match") == tag.decode():
        return Response(304, b"", headers)
    return Response(200, content, headers)


@cache
def _list_assets() -> frozenset[str]:
    folder = files("gateway.server") / "page"
    return frozenset(
        one.name for one in folder.iterdir() if one.name.rpartition(".")[2] in _TYPES and one.name[0] != "."
    )


@cache
def _load(name: str) -> tuple[bytes, bytes]:
    content = (files("gateway.server") / "page" / name).read_bytes()
    return content, b'"' + hashlib.sha256(content).hexdigest()[:32].encode() + b'"'


ROUTES = (
    Route("GET", "/", send_page, None),
    Route("GET", "/assets/{name}", send_asset, None),
)
