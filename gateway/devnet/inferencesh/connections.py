"""Breaking a connection on purpose."""

from __future__ import annotations

import socket
import struct

from aiohttp import web

_NO_LINGER = struct.pack("ii", 1, 0)


def abort(request: web.BaseRequest, *, reset: bool = True) -> None:
    """Break the connection of a request without another byte.

    With `reset` the client gets a TCP reset; without it the connection merely ends, so that what was written
    before still arrives.
    """
    transport = request.transport
    if transport is None:
        return
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
