"""What happens to a request before and after its endpoint: sizes, routing, the rate limit, faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from gateway.devnet.faults import Fault, Faults, Operation
from gateway.devnet.infernet.calls import Call, Route
from gateway.devnet.infernet.limiter import Limiter
from gateway.devnet.infernet.wire import (
    BODY_LIMIT_BYTES,
    HEAD_LIMIT_BYTES,
    cut,
    make_empty,
    make_page,
    measure_head,
    reset,
)

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage

REQUESTS_PER_CONNECTION = 1000
_ANYWHERE = (
    Fault.ANSWER_LOST,
    Fault.HANG,
    Fault.RATE_LIMIT,
    Fault.SERVER_ERROR,
    Fault.ERROR_AFTER,
    Fault.GARBAGE,
    Fault.FORGET,
)
_IN_STREAMS = (*_ANYWHERE, Fault.CUT_STREAM, Fault.STALL_STREAM)


def make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """Make a request whose body may have the node's 16 MiB."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_LIMIT_BYTES)


class Front:
    """The node's HTTP server around its endpoints."""

    def __init__(
        self,
        routes: Mapping[str, Mapping[str, Route]],
        limiter: Limiter | None,
        faults: Faults,
        forget_running: Callable[[], Awaitable[None]],
    ) -> None:
        self._routes = routes
        self._limiter = limiter
        self._faults = faults
        self._forget_running = forget_running
        self._served: WeakKeyDictionary[asyncio.Transport, int] = WeakKeyDictionary()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; the last one on a connection is followed by a close that nothing announces."""
        response = await self._answer(request)
        connection = request.transport
        if connection is None:
            return response
        self._served[connection] = self._served.get(connection, 0) + 1
        if self._served[connection] >= REQUESTS_PER_CONNECTION:
            await response.prepare(request)
            await response.write_eof()
            cut(request)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if measure_head(request) > HEAD_LIMIT_BYTES:
            response = make_empty(431)
            response.force_close()
            return response
        methods = self._routes.get("/" + request.path.lstrip("/"))
        if methods is None:
            return make_page(404)
        allow = ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
        method = "GET" if request.method == "HEAD" else request.method
        if method == "OPTIONS":
            response = make_empty(200)
            response.headers["allow"] = allow
            return await self._limit(request, next(iter(methods.values())), response)
        if method not in methods:
            response = make_page(405)
            response.headers["allow"] = allow
            return response
        return await self._limit(request, methods[method])

    async def _limit(
        self, request: web.BaseRequest, route: Route, response: web.StreamResponse | None = None
    ) -> web.StreamResponse:
        """Count the request, then answer it with what its route says, or with the given response."""
        if self._limiter is None or not route.limited:
            return response or await self._serve_route(request, route, {})
        # Unlike the scope of jobs, the limit believes the header.
        address = request.headers.get("x-forwarded-for", request.remote or "").split(",")[0].strip()
        retry_after = self._limiter.take(route.name, address)
        headers = self._limiter.make_headers(route.name, address)
        if retry_after is not None:
            response = make_page(429)
            for _ in range(2 if retry_after else 1):  # the node says it twice, unless it is 0
                response.headers.add("retry-after", str(retry_after))
        elif response is None:
            response = await self._serve_route(request, route, headers)
        if not response.prepared:
            response.headers.update(headers)
        return response

    async def _serve_route(
        self, request: web.BaseRequest, route: Route, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        operation = route.operation
        among = _IN_STREAMS if operation is Operation.STREAM else _ANYWHERE
        fault = self._faults.take(operation, *among)
        if fault is Fault.HANG:
            await request.read()
            await asyncio.Event().wait()
        if fault is Fault.RATE_LIMIT:
            response = make_page(429)
            response.headers["retry-after"] = "0"
            return response
        if fault is Fault.SERVER_ERROR:
            return make_page(500)
        early = operation in (Operation.POLL, Operation.ANY)
        if fault is Fault.FORGET and early:
            await self._forget_running()
        answer = await route.serve(Call(request, request.remote or "", fault, headers))
        if fault is Fault.FORGET and not early:
            await self._forget_running()
        if fault is Fault.ANSWER_LOST:
            reset(request)
        if fault in (Fault.ERROR_AFTER, Fault.GARBAGE):
            return make_page(500 if fault is Fault.ERROR_AFTER else 200)
        return answer
