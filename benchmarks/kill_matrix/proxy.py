"""The wire between the gateway and a backend, on which a request can outlive its sender."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from benchmarks.kill_matrix.points import At, Point
from benchmarks.lost_answer.losses import IsSubmission, Loss, LossyProxy

_LOOK_SECONDS = 0.02


async def wait_until_paused(process: Process) -> bool:
    """Wait until a process stands still, or has ended; says whether it stands still."""
    while process.returncode is None:
        if _is_paused(process.pid):
            return True
        await asyncio.sleep(_LOOK_SECONDS)
    return False


def _is_paused(pid: int) -> bool:
    """Ask Linux."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False  # it has just ended
    return stat.rpartition(")")[2].split()[0] == "T"


@dataclass(slots=True)
class _Strike:
    at: At
    pauses: bool
    left: int  # submissions up to and including the one that is struck
    victim: asyncio.Future[Process]
    body: bytes | None = None  # of the request that is struck, once it is there

    async def kill(self) -> None:
        process = await self.victim
        if self.pauses:
            process.send_signal(signal.SIGSTOP)
            await wait_until_paused(process)
        else:
            process.kill()
            await process.wait()


class DeadlyProxy(LossyProxy):
    """Passes everything on; the sender of one submission, once armed, is killed while that is under way."""

    def __init__(self, upstream: str, is_submission: IsSubmission) -> None:
        super().__init__(upstream, self._is_struck, Loss.DROP)
        self._tells_submission = is_submission
        self._strike: _Strike | None = None
        self._striking: asyncio.Task[web.StreamResponse] | None = None

    def arm(self, point: Point, *, pauses: bool = False) -> None:
        """Kill (or pause) at that point, if it is one on the wire; `name_victim` says whom."""
        on_wire = point.at in (At.WIRE_LOST, At.WIRE_LATE, At.WIRE_ANSWERED)
        victim = asyncio.get_running_loop().create_future()
        self._strike, self._striking = _Strike(point.at, pauses, point.nth, victim) if on_wire else None, None

    def name_victim(self, process: Process) -> None:
        """Say which process is to be killed."""
        if self._strike is not None:
            self._strike.victim.set_result(process)

    async def settle(self) -> None:
        """Wait until the request that was struck has come to wherever it comes."""
        if self._striking is not None:
            await asyncio.gather(self._striking, return_exceptions=True)

    def _is_struck(self, _method: str, _path: str, body: bytes) -> bool:
        """Say whether the request that the backend just answered is the very one."""
        return self._strike is not None and body is self._strike.body

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body, strike = await request.read(), self._strike
        if strike is None or not self._tells_submission(request.method, request.path, body):
            return await super()._serve(request)
        strike.left -= 1
        if strike.left != 0:
            return await super()._serve(request)
        strike.body = body
        self._striking = asyncio.create_task(self._strike_down(request, strike))
        return await asyncio.shield(self._striking)  # its sender's death ends this handler, not the request

    async def _strike_down(self, request: web.Request, strike: _Strike) -> web.StreamResponse:
        if strike.at is not At.WIRE_ANSWERED:
            await strike.kill()
        if strike.at is At.WIRE_LOST:
            return await super()._lose(request)
        return await super()._serve(request)

    async def _lose(self, request: web.Request) -> web.Response:
        if self._strike is not None and self._strike.at is At.WIRE_ANSWERED:
            await self._strike.kill()
        return await super()._lose(request)
