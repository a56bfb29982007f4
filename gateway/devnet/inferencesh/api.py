"""The stand-in itself: what starts, stops and forgets."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from gateway.devnet.faults import Accepted, Faults
from gateway.devnet.inferencesh.account import Account, RateLimit, Throttle
from gateway.devnet.inferencesh.admission import Admission
from gateway.devnet.inferencesh.clock import Clock
from gateway.devnet.inferencesh.demo_apps import make_catalogue
from gateway.devnet.inferencesh.dto import Quirks, TaskEncoder
from gateway.devnet.inferencesh.envelopes import DEFAULT_ENVELOPE, Envelope
from gateway.devnet.inferencesh.files import FileRoutes, FileStore
from gateway.devnet.inferencesh.misbehaviour import make_key_check, make_misbehaviour, write_problems
from gateway.devnet.inferencesh.routes import RunRoutes, TaskFileRoutes, TaskRoutes
from gateway.devnet.inferencesh.runner import Runner
from gateway.devnet.inferencesh.sessions import SessionRoutes, SessionStore
from gateway.devnet.inferencesh.store_routes import StoreRoutes
from gateway.devnet.inferencesh.streams import StreamWriter
from gateway.devnet.inferencesh.tasks import TaskStore

HOST = "127.0.0.1"
MAX_BODY_BYTES = 256 * 1024 * 1024


class _Routes(Protocol):
    def add_to(self, router: web.UrlDispatcher) -> None: ...


class InferenceshApi:
    """A local api.inference.sh: tasks that really run, streams, sessions, files, prices.

    Args:
        name: what the devnet calls it.
        port: where to listen on loopback; 0 picks a free port, which is then kept.
        api_key: the key that may do everything; `account.add_key` makes others.
        envelope: how answers without `X-API-Version: 2` look: "v1", "v2", "v3" or "superset" (V3 and V1 in
            one).
        heartbeat_seconds: silence on a stream after which a heartbeat is sent; 0 for none.
        step_seconds: how long a task stays in each status on its way.
        rate_limit: runs a minute, or a RateLimit that also says how a 429 is written.

    Between requests a test may change `account` (keys, balance, secrets, concurrency), `quirks`, the apps in
    `catalogue`, arm `faults`, and jump with `clock.skip(seconds)`. `journal` has one line per task that
    was admitted; a REJECTED one never was. `files.leaked_keys_on` tells of uploads that carried the API key.
    Stopping only takes the API away: the workers behind it go on, as those of a hosted service do.
    """

    def __init__(
        self,
        name: str = "hosted",
        port: int = 0,
        api_key: str = "inf_devnet",
        envelope: str = "v3",
        heartbeat_seconds: float = 10.0,
        step_seconds: float = 0.002,
        rate_limit: RateLimit | int | None = None,
    ) -> None:
        self.name = name
        self.faults = Faults()
        self.journal: list[Accepted] = []
        self.account = Account({api_key: None})
        self.clock = Clock()
        self.quirks = Quirks()
        self.catalogue = make_catalogue()
        self.files = FileStore(self.clock)
        self.sessions = SessionStore(self.clock)
        self.tasks = TaskStore(self.clock)
        limit = rate_limit if isinstance(rate_limit, RateLimit) else RateLimit(per_minute=rate_limit)
        self.throttle = Throttle(limit, self.clock)
        self._envelope = Envelope(envelope)
        self._port = port
        self._heartbeat_seconds = heartbeat_seconds
        self._step_seconds = step_seconds
        self._runner: web.AppRunner | None = None
        self._routes = self._make_routes()

    @property
    def url(self) -> str:
        """The base URL. Raises RuntimeError before the first start, if the port is still to be picked."""
        if not self._port:
            raise RuntimeError("the stand-in has no address before it was started")
        return f"http://{HOST}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises OSError if the port is taken."""
        app = web.Application(
            middlewares=[
                write_problems,
                make_misbehaviour(self.faults, self.throttle, self.forget),
                make_key_check(self.account),
            ],
            client_max_size=MAX_BODY_BYTES,
        )
        app[DEFAULT_ENVELOPE] = self._envelope
        for routes in self._routes:
            routes.add_to(app.router)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, HOST, self._port)
        await site.start()
        self._port = runner.addresses[0][1]
        self.files.url = self.url
        self._runner = runner

    async def stop(self) -> None:
        """Stop listening and break every connection. Tasks go on, and the next start still knows them."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        for site in list(runner.sites):
            await site.stop()
        server = runner.server
        for connection in list(server.connections) if server else []:
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    async def restart(self) -> None:
        """Stop and start; tasks that have not ended are lost."""
        await self.stop()
        self.forget()
        await self.start()

    def forget(self) -> None:
        """Lose every task that has not ended: asking for it answers 404."""
        self.tasks.forget_running()

    def _make_routes(self) -> tuple[_Routes, ...]:
        encoder = TaskEncoder(self.quirks)
        admission = Admission(self.account, self.catalogue, self.sessions, self.tasks)
        runner = Runner(self.clock, self.account, self.files, self.sessions, encoder, self._step_seconds)
        streams = StreamWriter(encoder, self._heartbeat_seconds)
        return (
            RunRoutes(admission, runner, encoder, self.throttle, self.journal),
            TaskRoutes(self.tasks, runner, self.files, encoder, streams, self.faults),
            TaskFileRoutes(self.tasks, self.files),
            SessionRoutes(self.sessions),
            FileRoutes(self.files),
            StoreRoutes(self.catalogue, self.account, self.tasks),
        )
