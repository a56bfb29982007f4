"""Where the database is, how it is reached, and what its errors mean. A password is in none of the words."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.errors import ConfigError, StoreError

T = TypeVar("T")
Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

_PATIENCE_SECONDS = 10.0  # a restart or a fail-over is shorter, as a rule
_ANSWER_SECONDS = 30.0  # no statement of ours takes that long
_PAUSE_SECONDS = (0.05, 1.0)  # between two tries to connect: at first, at most
_DEFAULTS = {
    "application_name": "gateway",
    "connect_timeout": "5",
    "keepalives_idle": "5",  # a server whose machine is gone is noticed in about ten seconds
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",  # of several hosts the one that may be written to
}
_PASSING = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "25006",  # read-only: it has become a standby
    "53300",  # too many connections
    "55P03",  # a lock was not given
    "57P01",  # it shuts down
    "57P02",  # it crashed
    "57P03",  # it starts up
    "57P05",  # it closed an idle connection
    "25P03",  # likewise one in a transaction
}
_SET_UP = """
SELECT set_config('idle_in_transaction_session_timeout', '10s', false),
    set_config('lock_timeout', '5s', false),
    set_config('statement_timeout', '30s', false),
    set_config('bytea_output', 'hex', false),
    CASE WHEN current_setting('synchronous_commit') = 'off'
        THEN set_config('synchronous_commit', 'on', false) END
"""


class Address:
    """A database's address."""

    def __init__(self, url: str) -> None:
        """Read a postgresql:// URL. Raises ConfigError."""
        try:
            words = conninfo_to_dict(url)
        except psycopg.Error:  # its message would show a part of the URL
            raise ConfigError(
                "gateway.store: what begins with postgresql:// is not an address; write"
                ' "postgresql://user:password@host:5432/database", special characters as %XX'
            ) from None
        self._conninfo = make_conninfo("", **{**_DEFAULTS, **words})
        self._secret = str(words.get("password") or "")
        user, host, port = (words.get(name) for name in ("user", "host", "port"))
        place = f"{host or 'localhost'}{f':{port}' if port else ''}"
        self._text = f"postgresql://{f'{user}@' if user else ''}{place}/{words.get('dbname') or user or ''}"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Address({self._text!r})"

    async def connect(self) -> Connection:
        """Open a connection that begins no transaction by itself. Raises psycopg's errors."""
        connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        try:
            await connection.execute(_SET_UP)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def keep_trying(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something that changes nothing when it fails, until it is done or patience is over.

        Raises:
            StoreError: the database refused, or has not come back.
        """
        until, pause = time.monotonic() + _PATIENCE_SECONDS, _PAUSE_SECONDS[0]
        while True:
            try:
                return await work()
            except psycopg.Error as error:
                if not is_passing(error) or time.monotonic() > until:
                    raise self.explain(error) from error
            except ValueError as error:  # half a character in what is asked for, damage in what was found
                raise self.explain(error) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS[1])

    def explain(self, error: Exception) -> StoreError:
        """Say in a sentence what happened, and what to do."""
        told = " ".join(str(error).split())
        if self._secret:
            told = told.replace(self._secret, "***")
        if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
            return StoreError(
                f"the store {self} can't be reached: {told}; is PostgreSQL running, and are user, password"
                " and database right? What is under way goes on by itself when it is back"
            )
        kind = "" if isinstance(error, psycopg.Error) else f"{type(error).__name__}: "
        return StoreError(f"the store {self} refused: {kind}{told}")


@contextmanager
def cut_off(connection: Connection) -> Iterator[None]:
    """Cut the connection if its server hangs meanwhile: who waits for it gets psycopg's OperationalError."""
    cutting = asyncio.get_running_loop().call_later(_ANSWER_SECONDS, _shut_down, connection)
    try:
        yield
    finally:
        cutting.cancel()


def _shut_down(connection: Connection) -> None:
    if not connection.closed:
        with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)


def is_passing(error: psycopg.Error) -> bool:
    """Say whether the same may succeed a little later, on another connection."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InternalError):
        return False
    if error.sqlstate is not None:
        return error.sqlstate in _PASSING or error.sqlstate.startswith("08")
    told = str(error)
    return not any(words in told for words in ("authentication failed", "does not exist", "pg_hba.conf"))
