"""The shelf in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from gateway.store.shelf import Note
from gateway.store.writer import Writer

T = TypeVar("T")


class SqliteShelf:
    """See Shelf."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def put(self, note: Note) -> None:
        """See Shelf."""
        row = (note.kind, note.id, note.body, None if note.due_at is None else note.due_at.timestamp())

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO shelf (kind, id, body, due_at) VALUES (?, ?, ?, ?)", row)

        await self._writer.call(work)

    async def list_notes(self, kind: str) -> list[Note]:
        """See Shelf."""
        query = "SELECT kind, id, body, due_at FROM shelf WHERE kind = ? ORDER BY id"
        return await self._writer.read(lambda db: [_read(row) for row in db.execute(query, (kind,))])

    async def claim(self, kind: str, *, now: datetime, until: datetime, limit: int) -> list[Note]:
        """See Shelf."""
        query = (
            "SELECT kind, id, body, ? FROM shelf WHERE kind = ? AND due_at <= ? ORDER BY due_at, id LIMIT ?"
        )
        values = (until.timestamp(), kind, now.timestamp(), limit)

        def work(db: sqlite3.Connection) -> list[Note]:
            notes = [_read(row) for row in db.execute(query, values).fetchall()]
            db.executemany(
                "UPDATE shelf SET due_at = ? WHERE kind = ? AND id = ?",
                [(until.timestamp(), kind, note.id) for note in notes],
            )
            return notes

        return await self._writer.call(work)

    async def remove(self, kind: str, id: str) -> None:
        """See Shelf."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM shelf WHERE kind = ? AND id = ?", (kind, id))

        await self._writer.call(work)

    async def change(self, kind: str, id: str, work: Callable[[bytes | None], tuple[bytes, T]]) -> T:
        """See Shelf."""

        def change(db: sqlite3.Connection) -> T:
            row = db.execute("SELECT body FROM shelf WHERE kind = ? AND id = ?", (kind, id)).fetchone()
            body, result = work(None if row is None else row[0])
            db.execute(
                "INSERT INTO shelf (kind, id, body) VALUES (?, ?, ?)"
                " ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                (kind, id, body),
            )
            return result

        return await self._writer.call(change)


def _read(row: tuple[str, str, bytes, float | None]) -> Note:
    kind, name, body, due_at = row
    return Note(
        kind=kind, id=name, body=body, due_at=None if due_at is None else datetime.fromtimestamp(due_at, UTC)
    )
