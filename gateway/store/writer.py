"""A thread that writes to SQLite, many changes to a transaction: group commit; and one that reads."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from gateway.errors import GatewayError
from gateway.store.changes import Change
from gateway.store.intake import Act, Entry, Intake, inherit
from gateway.store.sqlite_trouble import check_identity, explain, get_identity, is_spoiling
from gateway.store.sqlite_writes import write_many

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
Job: TypeAlias = Change | Act

_STATEMENTS_KEPT = 256
_LOCKED_PAUSE_SECONDS = 0.01


@dataclass(slots=True)
class _File:
    """The file of both threads; `identity` tells it from another one of its name, while it is open."""

    path: Path
    timeout_seconds: float
    identity: tuple[int, int] | None = None

    def check(self) -> None:
        """Raise FileGone if it is not where it was."""
        if self.identity is not None:
            check_identity(self.path, self.identity)


class Reader:
    """Does work on one connection in one thread, a batch to a transaction. What raises undoes only itself.

    What is called after `stop` was is refused, and not left waiting.
    """

    _BEGIN = "BEGIN"
    _NAME = "gateway-reader"

    def __init__(self, file: _File) -> None:
        self._file = file
        self._intakes: dict[asyncio.AbstractEventLoop, Intake] = {}
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None

    def start(self) -> None:
        """Start the thread, if it does not run; it opens the database itself."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name=self._NAME, daemon=True)
        self._thread.start()

    @property
    def intake(self) -> Intake:
        """Return what takes the work of this event loop."""
        loop = asyncio.get_running_loop()
        intake = self._intakes.get(loop)
        if intake is None:
            for gone in [other for other in self._intakes if other.is_closed()]:
                del self._intakes[gone]
            is_open = self._thread is not None
            intake = Intake(self._file.path, lambda batch: self._hand_over(loop, batch), is_open=is_open)
            if is_open:
                self._intakes[loop] = intake
        return intake

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work in the thread and return what it returned, once it is committed.

        Raises:
            StoreError: the database refused; nothing of this work was written.
        """
        result: T = await self.intake.act(work)
        return result

    async def stop(self) -> None:
        """Write what is queued, then close."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        await self.intake.close()
        self._intakes.clear()
        self._queue.put(None)
        while thread.is_alive():  # noqa: ASYNC110  at the interpreter's end no pool can join it for us
            await asyncio.sleep(0.001)

    def _hand_over(self, loop: asyncio.AbstractEventLoop, batch: list[Entry]) -> None:
        jobs = [entry if isinstance(entry, Act) else Change(entry) for entry in batch]
        intake = self._intakes[loop]

        def write() -> None:
            results = self._write(jobs)
            with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(intake.settle, batch, results)

        self._queue.put(write)

    def _run(self) -> None:
        while (write := self._queue.get()) is not None:
            write()
        self._disconnect()

    def _write(self, jobs: Sequence[Job]) -> list[Any]:
        """Return the jobs' results; see Intake.settle."""
        try:
            connection = self._connection = self._connection or self._connect()
            self._file.check()
            results = _do_together(connection, jobs, self._BEGIN)
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
            results = [error] * len(jobs)
        if any(is_spoiling(result) for result in results):
            self._disconnect()
        return [self._tell(job, result) for job, result in zip(jobs, results, strict=True)]

    def _tell(self, job: Job, result: Any) -> Any:
        if isinstance(job, Change) and isinstance(result, Exception):
            return [self._explain(result) for _ in job.pile.writes]
        return [self._explain(one) for one in result] if isinstance(result, list) else self._explain(result)

    def _explain(self, result: Any) -> Any:
        is_ours = not isinstance(result, Exception) or isinstance(result, GatewayError)
        return result if is_ours else explain(self._file.path, result)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        file = self._file
        file.check()  # what was there once is not made anew, empty
        file.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            file.path,
            timeout=file.timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS_KEPT,
        )
        try:
            self._set_up(connection)
            file.identity = get_identity(file.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only = ON")


class Writer(Reader):
    """Writes, and has a reader of its own beside it: reading waits for no writing.

    Between two statements the thread waits for Python's lock, for milliseconds when the event loop is busy.
    So the event loop encodes, and changes of different runs share a few statements.
    """

    _BEGIN = "BEGIN IMMEDIATE"
    _NAME = "gateway-store"

    def __init__(self, path: Path, *, timeout_seconds: float = 10.0) -> None:
        super().__init__(_File(path, timeout_seconds))
        self._reader = Reader(self._file)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do what only reads, beside the writing: it sees all that was written before. Raises StoreError."""
        if self._thread is not None:
            self._reader.start()
        return await self._reader.call(work)

    async def stop(self) -> None:
        """Write what is queued, then close."""
        await self._reader.stop()
        await super().stop()
        self._file.identity = None

    def _set_up(self, connection: sqlite3.Connection) -> None:
        until = time.monotonic() + self._file.timeout_seconds
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
        connection.execute("PRAGMA temp_store = MEMORY")  # what a savepoint keeps: else each end makes a file


def _do_together(db: sqlite3.Connection, jobs: Sequence[Job], begin: str) -> list[Any]:
    """Do everything in one transaction; what raises is rolled back alone and its error is its result."""
    results: list[Any] = []
    db.execute(begin)
    try:
        for kind, group in groupby(jobs, type):
            if kind is Change:
                results += _write_changes(db, list(group))  # type: ignore[arg-type]  # they are
            else:
                results += [_try(db, act.work) for act in group]  # type: ignore[union-attr]  # likewise
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return results


def _write_changes(db: sqlite3.Connection, changes: Sequence[Change]) -> Sequence[Any]:
    """Write changes together; if that fails, run by run, and then change by change: the good ones stay."""
    error = _try(db, lambda db: write_many(db, changes))
    if error is None:
        return [None] * len(changes)
    if len(changes) > 1:
        return [result for change in changes for result in _write_changes(db, [change])]
    results: list[Any] = []
    parts = changes[0].pile.split()
    for part in parts if len(parts) > 1 else ():
        one = Change(part)
        refused = inherit(results[-1]) if results else None
        results.append(refused or _try(db, lambda db: write_many(db, [one])))  # noqa: B023  it is called here only
    return [results or error]


def _try(db: sqlite3.Connection, work: Work) -> Any:
    """Return what the work returned, or the error that undid it."""
    result: Any
    db.execute("SAVEPOINT job")
    try:
        result = work(db)
    except Exception as error:
        if not db.in_transaction:
            raise  # SQLite gave the whole transaction up: a full disk, for one
        db.execute("ROLLBACK TO job")
        result = error
    db.execute("RELEASE job")
    return result
