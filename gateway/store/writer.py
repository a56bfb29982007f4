"""One thread that writes to SQLite, many changes to a transaction: group commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from gateway.errors import GatewayError, StoreError
from gateway.store.sqlite_trouble import check_identity, explain, get_identity, is_spoiling

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]


class Sharing(Protocol):
    """A change of one run that may be written with those of others, in a few statements for all."""

    run_id: str

    def write(self, db: sqlite3.Connection, /) -> Any:
        """Carry it out alone."""


WriteMany = Callable[[sqlite3.Connection, Sequence[Sharing]], None]
"""Carries many changes of different runs out, or raises; then each is tried alone."""

_Job = tuple[Work | Sharing, asyncio.AbstractEventLoop, "asyncio.Future[Any]"]

_MOST_PER_COMMIT = 512
_STATEMENTS_KEPT = 256
_LOCKED_PAUSE_SECONDS = 0.01


class Writer:
    """Runs work on one connection in one thread; what is queued meanwhile shares the next transaction.

    Between two statements the thread waits for Python's lock, for milliseconds when the event loop is busy.
    So what can share statements does: see Sharing.

    A call returns after the commit is on the disk. Work that raises undoes only itself. What is called after
    `stop` was is refused, and not left waiting.
    """

    def __init__(self, path: Path, write_many: WriteMany, *, timeout_seconds: float = 10.0) -> None:
        self._path = path
        self._write_many = write_many
        self._timeout_seconds = timeout_seconds
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._identity: tuple[int, int] | None = None  # of the file, while it is open

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
        result: T = await self._put(work)
        return result

    async def share(self, change: Sharing) -> None:
        """Write a change down, together with others if there are any; returns and raises as `call` does."""
        await self._put(change)

    async def _put(self, work: Work | Sharing) -> Any:
        if self._thread is None:
            raise StoreError(f"the store {self._path} is not open")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.put((work, loop, future))
        return await future

    async def stop(self) -> None:
        """Write what is queued, then close."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            while thread.is_alive():  # noqa: ASYNC110  at the interpreter's end no pool can join it for us
                await asyncio.sleep(0.001)
            self._identity = None

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        going_on = True
        while going_on:
            jobs, going_on = self._take()
            try:
                connection = connection or self._connect()
                self._check_file()
                results = _do_together(connection, [job[0] for job in jobs], self._write_many)
            except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
                results = [error] * len(jobs)
            if connection is not None and any(is_spoiling(result) for result in results):
                connection.close()
                connection = None
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
        is_ours = not isinstance(result, Exception) or isinstance(result, GatewayError)
        return result if is_ours else explain(self._path, result)

    def _check_file(self) -> None:
        if self._identity is not None:
            check_identity(self._path, self._identity)

    def _connect(self) -> sqlite3.Connection:
        self._check_file()  # what was there once is not made anew, empty
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path,
            timeout=self._timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS_KEPT,
        )
        try:
            self._set_up(connection)
            self._identity = get_identity(self._path)
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


def _do_together(
    connection: sqlite3.Connection, works: Sequence[Work | Sharing], write_many: WriteMany
) -> list[Any]:
    """Do everything in one transaction; what raises is rolled back alone and its error is its result."""
    if not works:
        return []
    results: list[Any] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for group in _group(works):
            done = len(group) > 1 and _try(connection, _share(write_many, group)) is None
            results += [None] * len(group) if done else [_try(connection, _get_call(work)) for work in group]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


def _group(works: Sequence[Work | Sharing]) -> Iterator[list[Any]]:
    """Yield neighbours that can be written together: each run once, so that the order among them is free."""
    group: dict[str, Sharing] = {}
    for work in works:
        run_id = getattr(work, "run_id", None)
        if group and (run_id is None or run_id in group):
            yield list(group.values())
            group = {}
        if run_id is None:
            yield [work]
        else:
            group[run_id] = work  # type: ignore[assignment]  # what has a run's id is Sharing
    if group:
        yield list(group.values())


def _share(write_many: WriteMany, group: Sequence[Sharing]) -> Work:
    return lambda db: write_many(db, group)


def _get_call(work: Any) -> Work:
    call: Work = getattr(work, "write", work)
    return call


def _try(connection: sqlite3.Connection, work: Work) -> Any:
    """Return what the work returned, or the error that undid it."""
    result: Any
    connection.execute("SAVEPOINT job")
    try:
        result = work(connection)
    except Exception as error:
        if not connection.in_transaction:
            raise  # SQLite gave the whole transaction up: a full disk, for one
        connection.execute("ROLLBACK TO job")
        result = error
    connection.execute("RELEASE job")
    return result


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
