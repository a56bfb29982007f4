"""One thread that writes to SQLite, many changes to a transaction: group commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from gateway.errors import GatewayError, StoreError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
_Job = tuple[Work, asyncio.AbstractEventLoop, "asyncio.Future[Any]"]

_MOST_PER_COMMIT = 512
_LOCKED_PAUSE_SECONDS = 0.01


class Writer:
    """Runs work on one connection in one thread; what is queued meanwhile shares the next transaction.

    A call returns after the commit is on the disk. Work that raises undoes only itself. What is called after
    `stop` was is refused, and not left waiting.
    """

    def __init__(self, path: Path, *, timeout_seconds: float = 10.0) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, if it does not run; it opens the database itself."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="gateway-store", daemon=True)
        self._thread.start()

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work in the writer's thread and return what it returned, once it is committed.

        Raises:
            StoreError: the database refused; nothing of this work was written.
        """
        if self._thread is None:
            raise StoreError(f"the store {self._path} is not open")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put((work, loop, future))
        return await future

    async def stop(self) -> None:
        """Write what is queued, then close."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            while thread.is_alive():  # noqa: ASYNC110  at the interpreter's end no pool can join it for us
                await asyncio.sleep(0.001)

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        going_on = True
        while going_on:
            jobs, going_on = self._take()
            try:
                connection = connection or self._connect()
                results = _do_together(connection, jobs)
            except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
                results = [error] * len(jobs)
            _deliver(jobs, [self._explain(result) for result in results])
        if connection is not None:
            connection.close()

    def _take(self) -> tuple[list[_Job], bool]:
        jobs: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) >= _MOST_PER_COMMIT or self._queue.empty():
                return jobs, True
            job = self._queue.get()
        return jobs, False

    def _explain(self, result: Any) -> Any:
        if not isinstance(result, Exception) or isinstance(result, GatewayError):
            return result
        kind = "" if isinstance(result, sqlite3.Error | OSError) else f"{type(result).__name__}: "
        failure = StoreError(f"the store {self._path} refused: {kind}{result}")
        failure.__cause__ = result
        return failure

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=self._timeout_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        until = time.monotonic() + self._timeout_seconds
        while True:  # SQLite does not wait for its lock when two processes turn one new file to WAL at once
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(_LOCKED_PAUSE_SECONDS)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")


def _do_together(connection: sqlite3.Connection, jobs: list[_Job]) -> list[Any]:
    """Do all jobs in one transaction; one that raises is rolled back alone and its error is its result."""
    if not jobs:
        return []
    results: list[Any] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for work, _, _ in jobs:
            connection.execute("SAVEPOINT job")
            try:
                results.append(work(connection))
            except Exception as error:
                if not connection.in_transaction:
                    raise  # SQLite gave the whole transaction up: a full disk, for one
                connection.execute("ROLLBACK TO job")
                results.append(error)
            connection.execute("RELEASE job")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


def _deliver(jobs: list[_Job], results: list[Any]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for (_, loop, future), result in zip(jobs, results, strict=True):
        by_loop.setdefault(loop, []).append((future, result))
    for loop, pairs in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in pairs:
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
