"""A local server for content: answers as told, and counts who came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answerer = Callable[[web.Request], Awaitable[web.StreamResponse]]
CAR, RAW = "application/vnd.ipld.car", "application/vnd.ipld.raw"


@dataclass
class Asked:
    """A server as the test sees it: where it is, and what it was asked."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def serve(answer: Answerer) -> AsyncIterator[Asked]:
    asked = Asked()

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.requests.append(f"{request.method} {request.path_qs}")
        asked.headers.append({name.lower(): value for name, value in request.headers.items()})
        asked.bodies.append(await request.read())
        return await answer(request)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    asked.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield asked
    finally:
        await runner.cleanup()


def say(body: bytes, kind: str = CAR, status: int = 200, headers: dict[str, str] | None = None) -> Answerer:
    """Answer everything the same."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers={"content-type": kind, **(headers or {})})

    return answer


def cut(body: bytes, kind: str = CAR) -> Answerer:
    """Send this, then reset the connection before the promised rest."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": kind, "content-length": str(len(body) + 10)})
        await response.prepare(request)
        await response.write(body)
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def endless(kind: str = CAR, chunk: bytes = bytes(65_536)) -> Answerer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": kind})
        await response.prepare(request)
        while True:
            await response.write(chunk)

    return answer
