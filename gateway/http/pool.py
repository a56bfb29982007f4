"""Connections that are kept, and how many there may be."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass

import httpx2

from gateway.http.connection import Connection
from gateway.http.pace import Pace

_CLOSING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection goes."""

    is_tls: bool
    host: str
    port: int


class Pool:
    """Connections to any number of origins, and no more of them than allowed at the same time.

    Attributes:
        pace: of the answers that are streamed over them.
    """

    def __init__(self, limits: httpx2.Limits) -> None:
        """Make it without I/O."""
        self.pace = Pace()
        self._most = limits.max_connections
        self._kept_seconds = limits.keepalive_expiry
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._open: dict[Connection, Origin] = {}
        self._connecting = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._sweeping: asyncio.TimerHandle | None = None
        self._ssl: ssl.SSLContext | None = None

    async def take(self, origin: Origin, connect_seconds: float | None) -> Connection:
        """Return a connection; hand it to `give_back` or `drop`. Raises ConnectError, ConnectTimeout."""
        while True:
            kept = self._take_idle(origin)
            if kept is not None:
                return kept
            if self._most is None or len(self._open) + self._connecting < self._most:
                return await self._connect(origin, connect_seconds)
            if not self._drop_one_idle():
                await self._wait_for_room()

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next exchange, if it can be used again."""
        origin = self._open.get(connection)
        if origin is None or not connection.is_reusable:
            self.drop(connection)
            return
        connection.idle_since = time.monotonic()
        self._idle[origin].append(connection)
        if self._sweeping is None and self._kept_seconds is not None:
            self._sweep_later(self._kept_seconds)
        self._tell_one()

    def drop(self, connection: Connection) -> None:
        """Close a connection. More than once is fine."""
        origin = self._open.pop(connection, None)
        if origin is None:
            return
        with suppress(ValueError):
            self._idle[origin].remove(connection)
        connection.transport.abort()
        self._tell_one()

    async def aclose(self) -> None:
        """Close all."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        closing = list(self._open)
        for connection in closing:
            self.drop(connection)
        if closing:
            await asyncio.wait([connection.lost for connection in closing], timeout=_CLOSING_SECONDS)

    def get_ssl(self) -> ssl.SSLContext:
        """Return what TLS is checked with."""
        if self._ssl is None:
            self._ssl = httpx2.create_ssl_context()
        return self._ssl

    def _take_idle(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_reusable and not self._is_old(connection):
                return connection
            self.drop(connection)
        return None

    def _is_old(self, connection: Connection) -> bool:
        return (
            self._kept_seconds is not None and time.monotonic() - connection.idle_since > self._kept_seconds
        )

    def _drop_one_idle(self) -> bool:
        for idle in self._idle.values():
            if idle:
                self.drop(idle[0])
                return True
        return False

    async def _connect(self, origin: Origin, seconds: float | None) -> Connection:
        loop = asyncio.get_running_loop()
        self._connecting += 1
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self.pace, self.drop),
                    origin.host,
                    origin.port,
                    ssl=self.get_ssl() if origin.is_tls else None,
                    server_hostname=origin.host if origin.is_tls else None,
                )
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("no connection in time") from error
        except (OSError, ValueError) as error:  # ValueError: a name that can't be one
            raise httpx2.ConnectError(str(error)) from error
        finally:
            self._connecting -= 1
            self._tell_one()
        self._open[connection] = origin
        return connection

    async def _wait_for_room(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._tell_one()  # the room is for somebody else
            raise

    def _tell_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _sweep_later(self, seconds: float) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        """Close what was not used for long."""
        self._sweeping = None
        for idle in list(self._idle.values()):
            for connection in [one for one in idle if self._is_old(one)]:
                self.drop(connection)
        if any(self._idle.values()) and self._kept_seconds is not None:
            self._sweep_later(self._kept_seconds)
