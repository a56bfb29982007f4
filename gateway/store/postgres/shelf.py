"""The shelf in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from gateway.store.postgres.address import Connection
from gateway.store.postgres.lane import Lane
from gateway.store.postgres.readers import Readers
from gateway.store.shelf import Note

T = TypeVar("T")

_BEGIN = "INSERT INTO shelf (kind, id, body) VALUES (%s, %s, '') ON CONFLICT DO NOTHING"
_LOCK = "SELECT body FROM shelf WHERE kind = %s AND id = %s FOR UPDATE"
_PUT = (
    "INSERT INTO shelf (kind, id, body, due_at) VALUES (%s, %s, %s, %s)"
    " ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body, due_at = excluded.due_at"
)
_CLAIM = """
WITH due AS (
    SELECT kind, id, due_at AS was_due_at FROM shelf WHERE kind = %s AND due_at <= %s
    ORDER BY due_at, id LIMIT %s FOR UPDATE SKIP LOCKED
)
UPDATE shelf SET due_at = %s FROM due WHERE shelf.kind = due.kind AND shelf.id = due.id
RETURNING was_due_at, shelf.kind, shelf.id, body, shelf.due_at
"""


class PostgresShelf:
    """See Shelf."""

    def __init__(self, lane: Lane, readers: Readers) -> None:
        self._lane, self._readers = lane, readers

    async def put(self, note: Note) -> None:
        """See Shelf."""
        row = (note.kind, note.id, note.body, note.due_at.timestamp() if note.due_at else None)

        async def work(db: Connection) -> None:
            await db.execute(_PUT, row)

        await self._lane.act(work)

    async def list_notes(self, kind: str) -> list[Note]:
        """See Shelf."""
        query = "SELECT kind, id, body, due_at FROM shelf WHERE kind = %s AND body <> '' ORDER BY id"

        async def read(db: Connection) -> list[Note]:
            return [_read(*row) for row in await (await db.execute(query, (kind,), binary=True)).fetchall()]

        return await self._readers.read(read)

    async def claim(self, kind: str, *, now: datetime, until: datetime, limit: int) -> list[Note]:
        """See Shelf."""
        values = (kind, now.timestamp(), limit, until.timestamp())

        async def work(db: Connection) -> list[Note]:
            rows = await (await db.execute(_CLAIM, values, binary=True)).fetchall()
            return [_read(*row) for _, *row in sorted(rows)]

        claimed: list[Note] = await self._lane.act(work)
        return claimed

    async def remove(self, kind: str, id: str) -> None:
        """See Shelf."""

        async def work(db: Connection) -> None:
            await db.execute("DELETE FROM shelf WHERE kind = %s AND id = %s", (kind, id))

        await self._lane.act(work)

    async def change(self, kind: str, id: str, work: Callable[[bytes | None], tuple[bytes, T]]) -> T:
        """See Shelf."""

        async def change(db: Connection) -> T:
            await db.execute(_BEGIN, (kind, id))
            row = await (await db.execute(_LOCK, (kind, id), binary=True)).fetchone() or (b"",)
            body, result = work(row[0] or None)
            await db.execute("UPDATE shelf SET body = %s WHERE kind = %s AND id = %s", (body, kind, id))
            return result

        changed: T = await self._lane.act(change)
        return changed


def _read(kind: str, name: str, body: bytes, due_at: float | None) -> Note:
    at = None if due_at is None else datetime.fromtimestamp(due_at, UTC)
    return Note(kind=kind, id=name, body=body, due_at=at)
