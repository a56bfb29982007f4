"""The backend of the comparison: it begins jobs, which cost money, counts them, and can kill who asks."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from typing import Self

from aiohttp import web

NEVER_ARRIVES = "submit, sent, never arrives"
ANSWER_LOST = "submit, carried out, its answer lost"


class Backend:
    """Counts submissions.

    Attributes:
        url: where it listens.
        begun: ids of the jobs, one for each submission that was carried out.
        point: NEVER_ARRIVES or ANSWER_LOST kills the next sender of a submission, once.
    """

    def __init__(self) -> None:
        self.url = ""
        self.begun: list[str] = []
        self.point = ""
        self.victim: asyncio.Future[Process] | None = None
        app = web.Application()
        app.router.add_post("/jobs/{id}", self._begin)
        app.router.add_get("/jobs/{id}", self._look)
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._runner.cleanup()

    async def _begin(self, request: web.Request) -> web.Response:
        point, self.point = self.point, ""
        if point == NEVER_ARRIVES:
            await self._kill()
            return web.Response(status=499)
        self.begun.append(request.match_info["id"])
        if point == ANSWER_LOST:
            await self._kill()
        return web.Response(status=201, text="begun")

    async def _look(self, request: web.Request) -> web.Response:
        if request.match_info["id"] in self.begun:
            return web.Response(text="done")
        return web.Response(status=404)

    async def _kill(self) -> None:
        if self.victim is not None:
            process = await self.victim
            process.kill()
            await process.wait()
