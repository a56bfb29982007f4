"""The default store: one SQLite file in WAL mode, one writer thread, group commit, fsync before every act."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gateway.errors import RunExists, RunNotFound, RunTakenOver, StoreError, StoreTooNew
from gateway.policy.budget import Spend
from gateway.policy.learning import Outcome
from gateway.store.ledger import Entry, Ledger, book
from gateway.store.protocol import SCHEMA_VERSION, Claimed, RunFilter, Scope, Wish
from gateway.store.rows import decode_entry, decode_run, encode_attempt, encode_plan, encode_run, encode_task
from gateway.store.writer import Writer
from gateway.task import Event, Run

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    status INTEGER NOT NULL,
    phase TEXT NOT NULL,
    model TEXT,
    backend TEXT,
    address TEXT,
    owner TEXT,
    fence INTEGER NOT NULL DEFAULT 1,
    cancel_requested_at REAL,
    accept_answer TEXT,
    idempotency_key TEXT UNIQUE,
    api_key TEXT,
    task BLOB NOT NULL,
    plan BLOB,
    state BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_by_time ON runs (created_at);
CREATE INDEX IF NOT EXISTS runs_open ON runs (owner) WHERE phase = 'running';
CREATE INDEX IF NOT EXISTS runs_by_phase ON runs (phase, created_at);
CREATE INDEX IF NOT EXISTS runs_by_model ON runs (model, created_at);
CREATE INDEX IF NOT EXISTS runs_by_backend ON runs (backend, created_at);
CREATE INDEX IF NOT EXISTS runs_by_api_key ON runs (api_key, created_at) WHERE api_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS attempts (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    backend TEXT NOT NULL,
    model TEXT,
    created_at REAL NOT NULL,
    ended_at REAL,
    succeeded INTEGER,
    doubted INTEGER,
    seconds REAL,
    envelope BLOB,
    state BLOB NOT NULL,
    PRIMARY KEY (run_id, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS attempts_by_time ON attempts (created_at);
CREATE INDEX IF NOT EXISTS attempts_ended ON attempts (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (scope TEXT PRIMARY KEY, used TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
"""

_OPEN = "phase = 'running'"


class SqliteStore:
    """Runs in one file. Several processes may share it; each run has one owner among them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._writer = Writer(self.path)
        self.ledger: Ledger = SqliteLedger(self._writer)
        self._open = False

    async def open(self) -> None:
        """See Store."""
        if not self._open:
            self._writer.start()
            try:
                await self._writer.call(lambda db: _migrate(db, self.path))
            except StoreError:
                await self._writer.stop()
                raise
            self._open = True

    async def create(self, run: Run, *, owner: str) -> int:
        """See Store."""
        times = (run.created_at.timestamp(), _get_time(run.cancel_requested_at))
        row = (run.id, *times, run.status, run.status.phase, run.task.model, owner)
        blobs = (encode_task(run.task), encode_plan(run), encode_run(run))

        def work(db: sqlite3.Connection) -> int:
            key = run.idempotency_key
            query = "SELECT id FROM runs WHERE idempotency_key = ?"
            if key is not None and (taken := db.execute(query, (key,)).fetchone()) is not None:
                raise RunExists(f"the key {key!r} has run {taken[0]}", run_id=taken[0])
            db.execute(
                "INSERT INTO runs (id, created_at, cancel_requested_at, status, phase, model, owner,"
                " idempotency_key, api_key, task, plan, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, key, run.api_key, *blobs),
            )
            return 1

        return await self._writer.call(work)

    async def save(
        self, run: Run, *, fence: int, events: Sequence[Event] = (), spends: Sequence[Spend] = ()
    ) -> None:
        """See Store. Only the newest attempt is written: older ones never change again."""
        place = (run.attempt.backend, run.attempt.address) if run.attempt else (None, None)
        cancel = _get_time(run.cancel_requested_at)
        row = (run.status, run.status.phase, *place, encode_run(run), cancel, run.id, fence)
        attempt_row = encode_attempt(run, run.attempt) if run.attempt else None
        event_rows = [(run.id, event.seq, event.model_dump_json()) for event in events]

        def work(db: sqlite3.Connection) -> None:
            changed = db.execute(
                "UPDATE runs SET status = ?, phase = ?, backend = ?, address = ?, state = ?,"
                " cancel_requested_at = COALESCE(cancel_requested_at, ?) WHERE id = ? AND fence = ?",
                row,
            )
            if changed.rowcount == 0:
                raise RunTakenOver(f"run {run.id} was taken over by another process", run_id=run.id)
            _book(db, spends)
            if attempt_row is not None:
                db.execute(
                    "INSERT INTO attempts (run_id, number, backend, model, created_at, ended_at, succeeded,"
                    " doubted, seconds, envelope, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (run_id, number) DO UPDATE SET ended_at = excluded.ended_at,"
                    " succeeded = excluded.succeeded, doubted = excluded.doubted,"
                    " seconds = excluded.seconds, state = excluded.state, envelope = excluded.envelope",
                    attempt_row,
                )
            db.executemany("INSERT INTO events (run_id, seq, event) VALUES (?, ?, ?)", event_rows)

        await self._writer.call(work)

    async def get(self, run_id: str) -> Run:
        """See Store."""
        return await self._writer.call(lambda db: _load_run(db, run_id))

    async def list_runs(self, which: RunFilter) -> list[Run]:
        """See Store."""
        terms = {
            "phase = ?": which.phase,
            "status = ?": which.status,
            "model = ?": which.model,
            "backend = ?": which.backend,
            "idempotency_key = ?": which.idempotency_key,
            "api_key = ?": which.api_key,
            "created_at < ?": which.before.timestamp() if which.before else None,
        }
        used = {term: value for term, value in terms.items() if value is not None}
        where = f" WHERE {' AND '.join(used)}" if used else ""
        query = f"SELECT id FROM runs{where} ORDER BY created_at DESC, rowid DESC LIMIT ?"  # noqa: S608  the terms are ours

        def work(db: sqlite3.Connection) -> list[Run]:
            ids = db.execute(query, (*used.values(), which.limit)).fetchall()
            return [_load_run(db, run_id) for (run_id,) in ids]

        return await self._writer.call(work)

    async def list_events(self, run_id: str, *, after: int = 0) -> list[Event]:
        """See Store."""

        def work(db: sqlite3.Connection) -> list[Event]:
            if db.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone() is None:
                raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
            rows = db.execute(
                "SELECT event FROM events WHERE run_id = ? AND seq > ? ORDER BY seq", (run_id, after)
            )
            return [Event.model_validate_json(event) for (event,) in rows]

        return await self._writer.call(work)

    async def wish(self, wish: Wish) -> Run:
        """See Store."""
        cancel_at = wish.cancel_at.timestamp() if wish.cancel_at else None

        def work(db: sqlite3.Connection) -> Run:
            db.execute(
                "UPDATE runs SET cancel_requested_at = COALESCE(cancel_requested_at, ?),"
                " accept_answer = COALESCE(?, accept_answer) WHERE id = ? AND phase = 'running'",
                (cancel_at, wish.accept_answer, wish.run_id),
            )
            return _load_run(db, wish.run_id)

        return await self._writer.call(work)

    async def list_wishes(self, owner: str) -> list[Wish]:
        """See Store."""
        query = (
            "SELECT id, cancel_requested_at, accept_answer FROM runs WHERE owner = ? AND phase = 'running'"
            " AND (cancel_requested_at IS NOT NULL OR accept_answer IS NOT NULL)"
        )

        def work(db: sqlite3.Connection) -> list[Wish]:
            rows = db.execute(query, (owner,))
            return [Wish(run_id, _parse_time(cancel), answer) for run_id, cancel, answer in rows]

        return await self._writer.call(work)

    async def claim(
        self, owner: str, scope: Scope, *, now: datetime, limit: int, dead: Sequence[str] = ()
    ) -> list[Claimed]:
        """See Store."""
        free = (
            f"{_OPEN} AND owner IS NOT ? AND (owner IS NULL OR owner IN ({_marks(dead)})"  # noqa: S608
            " OR owner NOT IN (SELECT owner FROM owners WHERE until >= ?))"
        )
        places = [f"{backend}\n{address}" for backend, address in scope.places]  # neither has line breaks
        in_scope = (
            f"CASE WHEN backend IS NULL THEN model IS NULL OR model IN ({_marks(scope.models)})"
            f" ELSE backend || char(10) || address IN ({_marks(places)}) END"
        )
        query = (
            "UPDATE runs SET owner = ?, fence = fence + 1 WHERE id IN"  # noqa: S608  made of marks only
            f" (SELECT id FROM runs WHERE {free} AND {in_scope} ORDER BY created_at LIMIT ?)"
            " RETURNING created_at, id, fence"
        )
        values = (owner, owner, *dead, now.timestamp(), *scope.models, *places, limit)

        def work(db: sqlite3.Connection) -> list[Claimed]:
            rows = db.execute(query, values).fetchall()
            return [Claimed(_load_run(db, run_id), fence) for _, run_id, fence in sorted(rows)]

        return await self._writer.call(work)

    async def beat(self, owner: str, *, until: datetime) -> None:
        """See Store."""
        row = (owner, until.timestamp())
        query = (
            "INSERT INTO owners (owner, until) VALUES (?, ?)"
            " ON CONFLICT (owner) DO UPDATE SET until = excluded.until"
        )
        await self._writer.call(lambda db: db.execute(query, row) and None)

    async def list_owners(self) -> list[str]:
        """See Store."""
        query = f"SELECT DISTINCT owner FROM runs WHERE {_OPEN} AND owner IS NOT NULL"  # noqa: S608
        return await self._writer.call(lambda db: [owner for (owner,) in db.execute(query)])

    async def release(self, owner: str) -> None:
        """See Store."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(f"UPDATE runs SET owner = NULL WHERE owner = ? AND {_OPEN}", (owner,))  # noqa: S608
            db.execute("DELETE FROM owners WHERE owner = ?", (owner,))

        await self._writer.call(work)

    async def list_outcomes(self, since: datetime) -> list[tuple[str, str, Outcome]]:
        """See Store."""
        query = (
            "SELECT backend, model, ended_at, succeeded, doubted, seconds FROM attempts"
            " WHERE ended_at >= ? ORDER BY ended_at"
        )

        def work(db: sqlite3.Connection) -> list[tuple[str, str, Outcome]]:
            rows = db.execute(query, (since.timestamp(),))
            return [
                (
                    backend,
                    model or "",
                    Outcome(datetime.fromtimestamp(at, UTC), bool(good), bool(doubt), seconds),
                )
                for backend, model, at, good, doubt, seconds in rows
            ]

        return await self._writer.call(work)

    async def aclose(self) -> None:
        """See Store."""
        self._open = False
        await self._writer.stop()


class SqliteLedger:
    """The accounts of a SqliteStore."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def fetch_spent(self) -> dict[str, int]:
        """See Ledger."""
        query = "SELECT scope, used FROM accounts"
        return await self._writer.call(lambda db: {scope: int(used) for scope, used in db.execute(query)})

    async def list_entries(self, since: datetime) -> list[Entry]:
        """See Ledger."""
        query = "SELECT run_id, model, state FROM attempts WHERE created_at >= ? ORDER BY created_at"
        rows = await self._writer.call(lambda db: db.execute(query, (since.timestamp(),)).fetchall())
        return [decode_entry(run_id, model, state) for run_id, model, state in rows]


def _book(db: sqlite3.Connection, spends: Sequence[Spend]) -> None:
    def read(scope: str) -> int:
        row = db.execute("SELECT used FROM accounts WHERE scope = ?", (scope,)).fetchone()
        return 0 if row is None else int(row[0])

    def write(scope: str, used: int) -> None:
        # As text: an amount may be more than SQLite's 64 bits.
        db.execute("INSERT OR REPLACE INTO accounts (scope, used) VALUES (?, ?)", (scope, str(used)))

    book(spends, read, write)


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"the store {path} has schema {version}, this program knows {SCHEMA_VERSION}: upgrade the gateway"
        )
    if version == 1:
        db.execute("ALTER TABLE runs ADD COLUMN api_key TEXT")
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _get_time(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))


def _load_run(db: sqlite3.Connection, run_id: str) -> Run:
    query = "SELECT task, plan, state, cancel_requested_at, accept_answer FROM runs WHERE id = ?"
    row = db.execute(query, (run_id,)).fetchone()
    if row is None:
        raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
    task, plan, state, cancel, answer = row
    attempts = db.execute(
        "SELECT envelope, state FROM attempts WHERE run_id = ? ORDER BY number", (run_id,)
    ).fetchall()
    run = decode_run(task, plan, state, attempts)
    return replace(run, cancel_requested_at=_parse_time(cancel), accept_answer=answer)


def _parse_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
