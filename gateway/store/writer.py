"""One thread that writes to SQLite, many changes to a transaction: group commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from gateway.errors import GatewayError, StoreError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
_Job = tuple[Work, asyncio.AbstractEventLoop, "asyncio.Future[Any]"]

_MOST_PER_COMMIT = 512


class Writer:
    """Runs work on one connection in one thread; what is queued meanwhile shares the next transaction.

    A call returns after the commit is on the disk. Work that raises undoes only itself.
    """

    def __init__(self, path: Path, *, timeout_seconds: float = 10.0) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; it opens the database itself."""
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
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        going_on = True
        while going_on:
            jobs, going_on = self._take()
            try:
                connection = connection or self._connect()
                results = _do_together(connection, jobs)
            except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
                failure = StoreError(f"the store {self._path} can't be written: {error}")
                results = [failure] * len(jobs)
            _deliver(jobs, results)
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

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=self._timeout_seconds, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection


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
            except GatewayError as error:
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
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in pairs:
        if future.done():
            continue
        if isinstance(result, GatewayError):
            future.set_exception(result)
        else:
            future.set_result(result)
