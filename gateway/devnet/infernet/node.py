"""The stand-in for an Infernet node: listening, dispatch, faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from aiohttp import web

from gateway.devnet.faults import Accepted, Faults
from gateway.devnet.infernet.containers import Container, make_containers
from gateway.devnet.infernet.delegated import ChainSide
from gateway.devnet.infernet.front import Front, make_request
from gateway.devnet.infernet.job_routes import JobRoutes
from gateway.devnet.infernet.jobs import JobTable, Runner
from gateway.devnet.infernet.limiter import Limiter
from gateway.devnet.infernet.routes import NodeRoutes, make_routes
from gateway.devnet.infernet.streams import Streams

VERSIONS = ("1.4.0", "1.3.1", "1.0.0", "0.2.0")
_HUGE = 1024 * 1024  # so that the head's limit is the node's and not the library's


class InfernetNode:
    """An Infernet node on loopback, as the versions in VERSIONS behave on the wire; jobs run in this process.

    Operations: POST /api/jobs and /api/jobs/batch are SUBMIT, GET /api/jobs is POLL, POST /api/jobs/stream is
    STREAM (and not SUBMIT); everything else is struck only by faults that are armed for ANY.

    Faults:
    - REFUSE: is not the node's affair; stop it
    - ANSWER_LOST: the job is accepted and runs, then the connection is reset; a stream's job stays "running"
    - HANG: the request is read and never answered; nothing is accepted
    - RATE_LIMIT, SERVER_ERROR: the HTML 429 (Retry-After: 0) or 500; nothing is accepted
    - ERROR_AFTER, GARBAGE: the job is accepted and runs, then an HTML 500 or an HTML 200 is the answer
    - CUT_STREAM, STALL_STREAM: half of the container's first piece, then the connection is closed without a
      last chunk, or stays silent up to the limit of streams; the job stays "running" until it expires
    - FORGET: running jobs are gone for good, finished ones stay. At a poll before the answer is made, at a
      submission after it (accepted and lost); a stream is cut as well
    """

    def __init__(  # noqa: PLR0913 - one argument per line of a node's configuration
        self,
        name: str = "node1",
        *,
        version: str = "1.4.0",
        containers: Sequence[Container] | None = None,
        port: int = 0,
        rate_limit: tuple[int, float] | None = (60, 60.0),
        chain: ChainSide | None = None,
        stream_limit_seconds: float = 60.0,
        keep_alive_seconds: float = 5.0,
        container_timeout_seconds: float = 180.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a node that does not listen yet.

        `rate_limit` is a count of requests and their period in seconds; None is off (as always at 0.2.0).
        `now` is the clock, in seconds, of the rate limit and of the expiry of running jobs. Raises ValueError
        for an unknown version, and for a chain on 0.2.0, whose contracts were others.
        """
        if version not in VERSIONS:
            raise ValueError(f"no stand-in for an Infernet node {version}; there are {', '.join(VERSIONS)}")
        if chain is not None and version == "0.2.0":
            raise ValueError("a node 0.2.0 has no chain here: its contracts were others")
        self.name = name
        self.faults = Faults()
        self.journal: list[Accepted] = []
        self._port = port
        self._keep_alive_seconds = keep_alive_seconds
        known = {
            container.id: container for container in (make_containers() if containers is None else containers)
        }
        self._table = JobTable(now)
        self._runner = Runner(known, self._table, self.journal, container_timeout_seconds)
        streams = Streams(self._table, self._runner, stream_limit_seconds)
        jobs = JobRoutes(version, self._table, self._runner, streams, chain)
        routes = make_routes(version, NodeRoutes(version, self._table, self._runner, chain), jobs)
        self._limiter = Limiter(*rate_limit, now) if rate_limit is not None and version != "0.2.0" else None
        self._front = Front(routes, self._limiter, self.faults, self._forget_running)
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The base URL. Raises RuntimeError before the first start, when the port is still to be found."""
        if not self._port:
            raise RuntimeError(f"{self.name} has not been started yet, so it has no port")
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen on 127.0.0.1 (a node knows no IPv6). Raises OSError if the port is taken."""
        if self._listener is not None:
            return
        loop = asyncio.get_running_loop()
        self._server = web.Server(
            self._front.serve,
            request_factory=make_request,
            handler_cancellation=True,
            keepalive_timeout=self._keep_alive_seconds,
            lingering_time=0,
            access_log=None,
            max_line_size=_HUGE,
            max_field_size=_HUGE,
        )
        self._listener = await loop.create_server(self._server, "127.0.0.1", self._port, reuse_address=True)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Drop everything as a killed process does. Finished jobs stay; running ones are forgotten."""
        if self._listener is None or self._server is None:
            return
        self._listener.close()
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await self._server.shutdown(timeout=1.0)
        await self._listener.wait_closed()
        self._listener = self._server = None
        await self._forget_running()
        if self._limiter is not None:
            self._limiter.clear()

    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()

    async def _forget_running(self) -> None:
        await self._runner.stop()
        self._table.forget_running()
