"""The default store: one SQLite file in WAL mode, one writer thread, group commit, fsync before every act."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

from gateway.errors import RunNotFound, StoreError
from gateway.policy.budget import Spend
from gateway.policy.learning import Outcome
from gateway.store.archive import Archive
from gateway.store.ledger import Ledger
from gateway.store.protocol import Claimed, RunFilter, Scope, Wish
from gateway.store.rows import decode_events, parse_time
from gateway.store.shelf import Shelf
from gateway.store.sqlite_archive import SqliteArchive, SqliteLedger
from gateway.store.sqlite_listing import IS_OPEN, make_listing, make_recent
from gateway.store.sqlite_rows import load_run, make_marks
from gateway.store.sqlite_schema import migrate
from gateway.store.sqlite_shelf import SqliteShelf
from gateway.store.writer import Writer
from gateway.task import Event, Run


class SqliteStore:
    """Runs in one file. Several processes may share it; each run has one owner among them."""

    def __init__(self, path: str | Path, *, timeout_seconds: float = 10.0) -> None:
        """Make it without I/O; what another program locks is waited for as long as `timeout_seconds`."""
        self.path = Path(path)
        self._writer = Writer(self.path, timeout_seconds=timeout_seconds)
        self.ledger: Ledger = SqliteLedger(self._writer)
        self.archive: Archive = SqliteArchive(self._writer)
        self.shelf: Shelf = SqliteShelf(self._writer)
        self._open = False

    async def open(self) -> None:
        """See Store."""
        if not self._open:
            self._writer.start()
            try:
                await self._writer.call(lambda db: migrate(db, self.path))
            except StoreError:
                await self._writer.stop()
                raise
            self._open = True

    def create(self, run: Run, *, owner: str) -> Awaitable[int]:
        """See Store."""
        return self._writer.intake.create(run, owner)

    def save(
        self,
        run: Run,
        *,
        fence: int,
        events: Sequence[Event] = (),
        spends: Sequence[Spend] = (),
        soon: bool = True,
    ) -> Awaitable[None]:
        """See Store."""
        return self._writer.intake.save(run, fence, events, spends, soon=soon)

    async def get(self, run_id: str) -> Run:
        """See Store."""
        return await self._writer.read(lambda db: load_run(db, run_id))

    async def list_runs(self, which: RunFilter) -> list[Run]:
        """See Store."""
        query, values = make_listing(which)

        def work(db: sqlite3.Connection) -> list[Run]:
            ids = db.execute(query, values).fetchall()
            return [load_run(db, run_id) for run_id, *_ in ids]

        return await self._writer.read(work)

    async def list_events(self, run_id: str, *, after: int = 0) -> list[Event]:
        """See Store."""

        def work(db: sqlite3.Connection) -> list[Event]:
            if db.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone() is None:
                raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
            rows = db.execute(
                "SELECT event FROM events WHERE run_id = ? AND seq > ? ORDER BY seq", (run_id, after)
            )
            return decode_events(rows, after)

        return await self._writer.read(work)

    async def wish(self, wish: Wish) -> Run:
        """See Store."""
        cancel_at = wish.cancel_at.timestamp() if wish.cancel_at else None

        def work(db: sqlite3.Connection) -> Run:
            db.execute(
                "UPDATE runs SET cancel_requested_at = COALESCE(cancel_requested_at, ?),"
                " accept_answer = COALESCE(?, accept_answer) WHERE id = ? AND phase = 'running'",
                (cancel_at, wish.accept_answer, wish.run_id),
            )
            return load_run(db, wish.run_id)

        return await self._writer.call(work)

    async def list_wishes(self, owner: str) -> list[Wish]:
        """See Store."""
        query = (
            "SELECT id, cancel_requested_at, accept_answer FROM runs WHERE owner = ? AND phase = 'running'"
            " AND (cancel_requested_at IS NOT NULL OR accept_answer IS NOT NULL)"
        )

        def work(db: sqlite3.Connection) -> list[Wish]:
            rows = db.execute(query, (owner,))
            return [Wish(run_id, parse_time(cancel), answer) for run_id, cancel, answer in rows]

        return await self._writer.read(work)

    async def claim(
        self, owner: str, scope: Scope, *, now: datetime, limit: int, dead: Sequence[str] = ()
    ) -> list[Claimed]:
        """See Store."""
        free = (
            f"{IS_OPEN} AND owner IS NOT ? AND (owner IS NULL OR owner IN ({make_marks(dead)})"  # noqa: S608
            " OR owner NOT IN (SELECT owner FROM owners WHERE until >= ?))"
        )
        places = [f"{backend}\n{address}" for backend, address in scope.places]  # neither has line breaks
        in_scope = (
            f"CASE WHEN backend IS NULL THEN model IS NULL OR model IN ({make_marks(scope.models)})"
            f" ELSE backend || char(10) || address IN ({make_marks(places)}) END"
        )
        query = (
            "UPDATE runs SET owner = ?, fence = fence + 1 WHERE id IN"  # noqa: S608  made of marks only
            f" (SELECT id FROM runs WHERE {free} AND {in_scope} ORDER BY created_at LIMIT ?)"
            " RETURNING created_at, id, fence"
        )
        values = (owner, owner, *dead, now.timestamp(), *scope.models, *places, limit)

        def work(db: sqlite3.Connection) -> list[Claimed]:
            rows = db.execute(query, values).fetchall()
            newest = "SELECT coalesce(max(seq), 0) FROM events WHERE run_id = ?"
            return [
                Claimed(load_run(db, run_id), fence, db.execute(newest, (run_id,)).fetchone()[0])
                for _, run_id, fence in sorted(rows)
            ]

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
        query = f"SELECT DISTINCT owner FROM runs WHERE {IS_OPEN} AND owner IS NOT NULL"  # noqa: S608
        return await self._writer.read(lambda db: [owner for (owner,) in db.execute(query)])

    async def release(self, owner: str) -> None:
        """See Store."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(f"UPDATE runs SET owner = NULL WHERE owner = ? AND {IS_OPEN}", (owner,))  # noqa: S608
            db.execute("DELETE FROM owners WHERE owner = ?", (owner,))

        await self._writer.call(work)

    async def list_outcomes(self, since: datetime) -> list[tuple[str, str, Outcome]]:
        """See Store."""
        columns = "attempts.backend, attempts.model, attempts.ended_at, succeeded, doubted, seconds"
        query = make_recent(columns, "attempts.ended_at >= :since")

        def work(db: sqlite3.Connection) -> list[tuple[str, str, Outcome]]:
            rows = db.execute(query, {"since": since.timestamp()})
            return [
                (
                    backend,
                    model or "",
                    Outcome(datetime.fromtimestamp(at, UTC), bool(good), bool(doubt), seconds),
                )
                for backend, model, at, good, doubt, seconds in sorted(rows, key=itemgetter(2))
            ]

        return await self._writer.read(work)

    async def aclose(self) -> None:
        """See Store."""
        self._open = False
        await self._writer.stop()
