"""A thread that writes to SQLite, many changes to a transaction: group commit; and one that reads."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from gateway.errors import GatewayError
from gateway.store.changes import Change
from gateway.store.intake import Act, Entry, Intake, inherit
from gateway.store.sqlite_trouble import check_identity, explain, get_identity, is_general, is_spoiling
from gateway.store.sqlite_writes import write_many

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
Job: TypeAlias = Change | Act

_STATEMENTS_KEPT = 256
_PAGE_BYTES = 8192  # a run's attempt and events, of some kB, fit into their tables' pages then
_LOCKED_PAUSE_SECONDS = 0.01
_BEGIN_TO_WRITE = "BEGIN IMMEDIATE"


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
        batch.sort(key=lambda entry: isinstance(entry, Act))
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
        """Return the jobs' results, changes before acts; see Intake.settle."""
        results: list[Any] = []
        try:
            connection = self._connection = self._connection or self._connect()
            self._file.check()
            results += _write_changes(connection, [job for job in jobs if isinstance(job, Change)])
            results += _do_acts(connection, [job for job in jobs if isinstance(job, Act)], self._BEGIN)
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
            results += [error] * (len(jobs) - len(results))
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

    _BEGIN = _BEGIN_TO_WRITE
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
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a new file; others stay as they are
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


def _do_acts(db: sqlite3.Connection, acts: Sequence[Act], begin: str) -> list[Any]:
    """Do acts in one transaction; what raises is rolled back alone and its error is its result."""
    if not acts:
        return []
    with _transaction(db, begin):
        return [_try(db, act.work) for act in acts]


def _write_changes(db: sqlite3.Connection, changes: Sequence[Change]) -> list[Any]:
    """Write changes in one transaction; if one can't be written, in two, and so on: the good ones stay."""
    if not changes:
        return []
    try:
        with _transaction(db, _BEGIN_TO_WRITE):
            write_many(db, changes)
    except Exception as error:  # noqa: BLE001  it is told to who waits
        if len(changes) > 1 and not is_general(error):
            half = len(changes) // 2
            return [*_write_changes(db, changes[:half]), *_write_changes(db, changes[half:])]
        parts = changes[0].pile.split()
        if len(changes) > 1 or len(parts) == 1 or is_general(error):
            return [error] * len(changes)
    else:
        return [None] * len(changes)
    results: list[Any] = []
    for part in parts:
        refused = inherit(results[-1]) if results else None
        results += [refused] if refused else _write_changes(db, [Change(part)])
    return [results]


@contextmanager
def _transaction(db: sqlite3.Connection, begin: str) -> Iterator[None]:
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


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
