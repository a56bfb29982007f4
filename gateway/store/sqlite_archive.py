"""The past and the accounts of the SQLite store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter

from gateway.store.archive import Pruning, list_run_entries
from gateway.store.bill import ALL_BY, BillLine, add_lines, make_bill, make_pruned_key
from gateway.store.ledger import Entry
from gateway.store.protocol import Claimed
from gateway.store.rows import decode_entry, decode_holders, get_to_json, require_end
from gateway.store.sqlite_listing import make_page, make_recent
from gateway.store.sqlite_rows import load_run, make_marks
from gateway.store.writer import Writer
from gateway.task import Run
from gateway.types import AttemptId

_EXPORTED_AT_ONCE = 200
_NO_OPEN_PARENT = (
    "(parent IS NULL OR NOT EXISTS (SELECT 1 FROM runs AS above WHERE above.id = runs.parent"
    " AND above.phase = 'running'))"
)
_PRUNABLE = f"ended_at IS NOT NULL AND unresolved = ? AND ended_at < ? AND {_NO_OPEN_PARENT}"
_ENTRIES = make_recent(
    "runs.id, api_key, attempts.model, attempts.state",
    "attempts.created_at >= :since AND (:key IS NULL OR api_key = :key)",
)
_HOLDERS = make_recent("attempts.state", "attempts.backend = :backend AND instr(attempts.state, :job_id)")
_PRUNED = (
    "SELECT line FROM pruned_costs WHERE day >= :since AND (:key IS NULL OR api_key = :key)"
    " ORDER BY day, backend, model, api_key"
)
_PRUNED_KEY = "day = ? AND backend = ? AND model = ? AND api_key = ?"


class SqliteArchive:
    """The past of a SqliteStore."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def prune(self, which: Pruning, *, limit: int) -> int:
        """See Archive."""

        def work(db: sqlite3.Connection) -> int:
            query = f"SELECT id FROM runs WHERE {_PRUNABLE} ORDER BY ended_at LIMIT ?"  # noqa: S608  ours
            before, ids = _get_before(db, which), list[str]()
            for unresolved in range(which.unresolved + 1):
                found = db.execute(query, (unresolved, before, limit - len(ids)))
                ids += [run_id for (run_id,) in found]
            if ids:
                _forget(db, ids)
            return len(ids)

        return await self._writer.call(work)

    async def count_prunable(self, which: Pruning) -> int:
        """See Archive."""

        def work(db: sqlite3.Connection) -> int:
            query = f"SELECT count(*) FROM runs WHERE {_PRUNABLE}"  # noqa: S608  made of our own words
            before = _get_before(db, which)
            kinds = range(which.unresolved + 1)
            return sum(int(db.execute(query, (kind, before)).fetchone()[0]) for kind in kinds)

        return await self._writer.read(work)

    async def export(self, *, since: datetime | None = None) -> AsyncIterator[Run]:
        """See Archive."""
        place = (since.timestamp() if since else 0.0, -1)
        while True:
            runs, place = await self._writer.read(partial(_load_page, place=place))
            for run in runs:
                yield run
            if len(runs) < _EXPORTED_AT_ONCE:
                return


class SqliteLedger:
    """The accounts of a SqliteStore."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def fetch_spent(self, scopes: Collection[str] | None = None) -> dict[str, int]:
        """See Ledger."""
        everything = "SELECT scope, used FROM accounts"
        some = "SELECT scope, used FROM accounts WHERE scope IN (SELECT value FROM json_each(?))"
        ask = (everything, ()) if scopes is None else (some, (json.dumps([*scopes]),))
        rows = await self._writer.read(lambda db: db.execute(*ask).fetchall())
        return {scope: int(used) for scope, used in rows}

    async def list_entries(self, since: datetime, api_key: str | None = None) -> list[Entry]:
        """See Ledger."""
        values = {"since": since.timestamp(), "key": api_key}
        rows = await self._writer.read(lambda db: db.execute(_ENTRIES, values).fetchall())
        return sorted((decode_entry(*row) for row in rows), key=attrgetter("at"))

    async def reopen(self, run_id: str) -> Claimed:
        """See Ledger."""

        def work(db: sqlite3.Connection) -> Claimed:
            run = require_end(load_run(db, run_id))
            query = "UPDATE runs SET fence = fence + 1 WHERE id = ? RETURNING fence"
            return Claimed(run, db.execute(query, (run_id,)).fetchone()[0])

        return await self._writer.call(work)

    async def list_holders(self, backend: str, job_id: str, *, since: datetime) -> list[AttemptId]:
        """See Ledger."""
        values = {"since": since.timestamp(), "backend": backend, "job_id": get_to_json()(job_id)}
        rows = await self._writer.read(lambda db: db.execute(_HOLDERS, values).fetchall())
        return decode_holders(rows, backend, job_id)

    async def list_pruned(self, since: datetime, api_key: str | None = None) -> list[BillLine]:
        """See Ledger."""
        values = {"since": since.astimezone(UTC).date().isoformat(), "key": api_key}
        rows = await self._writer.read(lambda db: db.execute(_PRUNED, values).fetchall())
        return [BillLine.model_validate_json(line) for (line,) in rows]


def _get_before(db: sqlite3.Connection, which: Pruning) -> float:
    """Return the time before which runs must have ended, those that are kept being counted in."""
    before = which.ended_before.timestamp()
    if not which.keep:
        return before
    newest = "SELECT ended_at FROM runs WHERE ended_at IS NOT NULL AND unresolved = ? ORDER BY ended_at DESC"
    query = (
        f"SELECT ended_at FROM (SELECT * FROM ({newest} LIMIT ?) UNION ALL SELECT * FROM ({newest} LIMIT ?))"  # noqa: S608  ours
        " ORDER BY ended_at DESC LIMIT 1 OFFSET ?"
    )
    row = db.execute(query, (0, which.keep, 1, which.keep, which.keep - 1)).fetchone()
    return float("-inf") if row is None else min(before, float(row[0]))


def _forget(db: sqlite3.Connection, ids: Sequence[str]) -> None:
    for line in make_bill(list_run_entries(load_run(db, run_id) for run_id in ids), ALL_BY):
        key = make_pruned_key(line)
        known = db.execute(f"SELECT line FROM pruned_costs WHERE {_PRUNED_KEY}", key).fetchone()  # noqa: S608  ours
        whole = line if known is None else add_lines(BillLine.model_validate_json(known[0]), line)
        row = (*key, whole.model_dump_json())
        db.execute("INSERT OR REPLACE INTO pruned_costs VALUES (?, ?, ?, ?, ?)", row)
    gone = f"id IN ({make_marks(ids)})"
    db.execute(
        "INSERT OR IGNORE INTO pruned_keys SELECT idempotency_key, id FROM runs"  # noqa: S608  marks only
        f" WHERE {gone} AND idempotency_key IS NOT NULL",
        ids,
    )
    db.execute(f"DELETE FROM runs WHERE {gone}", ids)  # noqa: S608  attempts and events go with them
    scopes = [(f"run:{run_id}|", f"run:{run_id}}}") for run_id in ids]  # "}" follows "|"
    db.executemany("DELETE FROM accounts WHERE scope >= ? AND scope < ?", scopes)


def _load_page(db: sqlite3.Connection, place: tuple[float, int]) -> tuple[list[Run], tuple[float, int]]:
    values = {"time": place[0], "place": place[1], "limit": _EXPORTED_AT_ONCE}
    rows = db.execute(make_page(), values).fetchall()
    runs = [load_run(db, run_id) for run_id, _, _ in rows]
    return runs, (rows[-1][1], rows[-1][2]) if rows else place
