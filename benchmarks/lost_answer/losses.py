"""A server whose answers to submissions are lost: a proxy before one that works."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeAlias

from aiohttp import ClientSession, web

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})
_RESET = struct.pack("ii", 1, 0)
_PIECE_BYTES = 65_536

IsSubmission: TypeAlias = Callable[[str, str, bytes], bool]
"""Says of a request's method, path and body whether it starts a job."""


def is_post(pattern: str, method: str, path: str, _body: bytes) -> bool:
    """Say whether a request is a POST to a path of this pattern."""
    return method == "POST" and re.fullmatch(pattern, path) is not None


class Loss(StrEnum):
    """What the client gets after the server has taken the job; the value heads a column.

    NOTHING is the control: every answer arrives, so each client must finish with one job.
    """

    NOTHING = "nothing lost"
    DROP = "connection dropped"
    BAD_GATEWAY = "502"
    HANG = "no answer"
    THROTTLED = "429"
    SERVER_ERROR = "500"


_STATUS = {Loss.BAD_GATEWAY: 502, Loss.THROTTLED: 429, Loss.SERVER_ERROR: 500}


class LossyProxy:
    """Passes every request on to `upstream`, and loses the answer to each submission: always, not once.

    A submission is answered only after the upstream has answered it, so that it counts there in any case.
    """

    def __init__(self, upstream: str, is_submission: IsSubmission, loss: Loss) -> None:
        self._upstream = upstream.rstrip("/")
        self._is_submission = is_submission
        self._loss = loss
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        """Listen on a free port of loopback."""
        self._session = ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, and drop every connection."""
        server = self._runner.server
        for connection in list(server.connections) if server else []:
            if connection.transport is not None:
                connection.transport.abort()
        await self._runner.cleanup()
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        async with self._session.request(
            request.method, self._upstream + request.raw_path, headers=headers, data=body or None
        ) as answer:
            lost = self._loss is not Loss.NOTHING
            if lost and self._is_submission(request.method, request.path, body):
                await answer.read()
                return await self._lose(request)
            response = web.StreamResponse(status=answer.status)
            for key, value in answer.headers.items():
                if key.lower() not in _HOP:
                    response.headers.add(key, value)
            await response.prepare(request)
            async for piece in answer.content.iter_chunked(_PIECE_BYTES):
                await response.write(piece)
            await response.write_eof()
            return response

    async def _lose(self, request: web.Request) -> web.Response:
        if self._loss is Loss.HANG:
            await asyncio.Event().wait()  # until the client hangs up, or we stop
        if self._loss is Loss.DROP:
            if request.transport is not None:
                connection = request.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                request.transport.abort()
            return web.Response()
        status = _STATUS[self._loss]
        return web.json_response({"error": {"message": "the answer is lost", "code": status}}, status=status)
