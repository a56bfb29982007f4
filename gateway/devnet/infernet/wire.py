"""How the node's answers look: no reason phrase, sorted keys, a last newline, HTML for some errors."""

from __future__ import annotations

import json
import socket
import struct

from aiohttp import web

from gateway.types import JSON

BODY_LIMIT_BYTES = 16 * 1024 * 1024
HEAD_LIMIT_BYTES = 17_000  # nominally 16 KiB; what arrives in pieces is refused from about here on
SERVER = "hypercorn-h11"
HTML = "text/html; charset=utf-8"

_TOO_LARGE = "413 Request Entity Too Large: The data value transmitted exceeds the capacity limit."
_BAD_REQUEST = "400 Bad Request: The browser (or proxy) sent a request that this server could not understand."

_PAGES = {
    200: ("OK", "A page where JSON was expected."),
    404: ("Not Found", "There is nothing at this address."),
    405: ("Method Not Allowed", "This address does not know this method."),
    429: ("Too Many Requests", "Too many requests were sent. Try again later."),
    500: ("Internal Server Error", "The server failed at this request."),
}


class BadBodyError(ValueError):
    """A body that the node's server cannot read; the text is what the node puts into its 500."""


def encode_json(value: JSON) -> bytes:
    """Write JSON as the node does: sorted at every depth, compact, ASCII, NaN as it is, a last newline."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def make_json(value: JSON, status: int = 200) -> web.Response:
    """Make an answer in JSON."""
    headers = {"content-type": "application/json", "server": SERVER}
    return web.Response(status=status, reason="", body=encode_json(value), headers=headers)


def make_page(status: int) -> web.Response:
    """Make one of the HTML pages of the node's server."""
    title, text = _PAGES[status]
    page = (
        f"<!doctype html>\n<html lang=en>\n<title>{status} {title}</title>\n<h1>{title}</h1>\n<p>{text}</p>\n"
    )
    return web.Response(
        status=status, reason="", body=page.encode(), headers={"content-type": HTML, "server": SERVER}
    )


def make_empty(status: int) -> web.Response:
    """Make an answer without a body."""
    return web.Response(status=status, reason="", body=b"", headers={"content-type": HTML, "server": SERVER})


def measure_head(request: web.BaseRequest) -> int:
    """Return the size of the request's head in bytes."""
    line = len(request.method) + len(request.raw_path) + len("  HTTP/1.1\r\n")
    return (
        line
        + sum(len(name) + len(value) + len(": \r\n") for name, value in request.raw_headers)
        + len("\r\n")
    )


async def read_json(request: web.BaseRequest, *, any_type: bool) -> JSON:
    """Read the body as JSON; None when its type is not JSON and `any_type` is off.

    Raises BadBodyError for a body that is too large or broken.
    """
    if (request.content_length or 0) > BODY_LIMIT_BYTES:
        raise BadBodyError(_TOO_LARGE)
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise BadBodyError(_TOO_LARGE) from error
    kind = request.content_type
    if not (
        any_type or kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    ):
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadBodyError(str(error)) from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadBodyError(_BAD_REQUEST) from error


def cut(request: web.BaseRequest) -> None:
    """Close the connection after what was written so far, without the last chunk."""
    if request.transport is not None:
        request.transport.close()


def reset(request: web.BaseRequest) -> None:
    """Reset the connection at once (RST), so that the client sees no answer."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
