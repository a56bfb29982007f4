"""The past and the accounts of the PostgreSQL store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway.store.archive import Pruning, list_run_entries
from gateway.store.bill import ALL_BY, BillLine, add_lines, make_bill, make_pruned_key
from gateway.store.ledger import Entry
from gateway.store.postgres.address import Connection
from gateway.store.postgres.lane import Lane
from gateway.store.postgres.queries import Place, fetch_page, fetch_run, fetch_runs_by_id
from gateway.store.postgres.readers import Readers
from gateway.store.protocol import Claimed
from gateway.store.rows import decode_entry, decode_holders, get_to_json, require_end
from gateway.task import Run
from gateway.types import AttemptId

_EXPORTED_AT_ONCE = 200
_PRUNABLE = (
    "ended_at IS NOT NULL AND (NOT unresolved OR %s) AND ended_at < %s AND NOT EXISTS"
    " (SELECT 1 FROM runs AS above WHERE above.id = runs.parent AND above.phase = 'running')"
)
_LAST_KEPT = "SELECT ended_at FROM runs WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT 1 OFFSET %s"
_ONE_AT_A_TIME = "LOCK TABLE pruned_costs IN SHARE ROW EXCLUSIVE MODE"
_KEEP_KEYS = (
    "INSERT INTO pruned_keys SELECT idempotency_key, id FROM runs"
    " WHERE id = ANY(%s) AND idempotency_key IS NOT NULL ON CONFLICT DO NOTHING"
)
_ENTRIES = (
    "SELECT runs.id, api_key, attempts.model, attempts.state FROM attempts JOIN runs ON runs.id = run_id"
    " WHERE attempts.created_at >= %s"
)
_HOLDERS = (
    "SELECT attempts.state FROM attempts JOIN runs ON runs.id = run_id WHERE attempts.backend = %s"
    " AND (runs.phase = 'running' OR runs.ended_at >= %s) AND position(%s::bytea IN attempts.state) > 0"
)
_PRUNED = "SELECT line FROM pruned_costs WHERE day >= %s"
_GET_LINE = "SELECT line FROM pruned_costs WHERE day = %s AND backend = %s AND model = %s AND api_key = %s"
_PUT_LINE = (
    "INSERT INTO pruned_costs (day, backend, model, api_key, line) VALUES (%s, %s, %s, %s, %s)"
    " ON CONFLICT (day, backend, model, api_key) DO UPDATE SET line = excluded.line"
)


class PostgresArchive:
    """The past of a PostgresStore."""

    def __init__(self, lane: Lane, readers: Readers) -> None:
        self._lane, self._readers = lane, readers

    async def prune(self, which: Pruning, *, limit: int) -> int:
        """See Archive."""

        async def work(db: Connection) -> int:
            await db.execute(_ONE_AT_A_TIME)
            query = f"SELECT id FROM runs WHERE {_PRUNABLE} ORDER BY ended_at LIMIT %s"  # noqa: S608  ours
            values = (which.unresolved, await _fetch_before(db, which), limit)
            found = await db.execute(query.encode(), values)
            ids = [run_id for (run_id,) in await found.fetchall()]
            if ids:
                await _forget(db, ids)
            return len(ids)

        forgotten: int = await self._lane.act(work)
        return forgotten

    async def count_prunable(self, which: Pruning) -> int:
        """See Archive."""

        async def work(db: Connection) -> int:
            query = f"SELECT count(*) FROM runs WHERE {_PRUNABLE}"  # noqa: S608  our own words
            found = await db.execute(query.encode(), (which.unresolved, await _fetch_before(db, which)))
            (count,) = await found.fetchone() or (0,)
            return int(count)

        return await self._readers.read(work)

    async def export(self, *, since: datetime | None = None) -> AsyncIterator[Run]:
        """See Archive."""
        place: Place = (since.timestamp() if since else 0.0, -1)
        while True:
            page = partial(fetch_page, place=place, limit=_EXPORTED_AT_ONCE)
            runs, place = await self._readers.read(page)
            for run in runs:
                yield run
            if len(runs) < _EXPORTED_AT_ONCE:
                return


class PostgresLedger:
    """The accounts of a PostgresStore."""

    def __init__(self, lane: Lane, readers: Readers) -> None:
        self._lane = lane
        self._readers = readers

    async def fetch_spent(self, scopes: Collection[str] | None = None) -> dict[str, int]:
        """See Ledger."""
        query = "SELECT scope, used FROM accounts WHERE used <> 0"
        if scopes is None:
            rows = await self._fetch(query, ())
        else:
            rows = await self._fetch(f"{query} AND scope = ANY(%s)", (list(scopes),))
        return {scope: int(used) for scope, used in rows}

    async def list_entries(self, since: datetime, api_key: str | None = None) -> list[Entry]:
        """See Ledger."""
        query = _ENTRIES if api_key is None else f"{_ENTRIES} AND api_key = %s"
        values = (since.timestamp(),) if api_key is None else (since.timestamp(), api_key)
        rows = await self._fetch(f"{query} ORDER BY attempts.created_at", values)
        return [decode_entry(*row) for row in rows]

    async def reopen(self, run_id: str) -> Claimed:
        """See Ledger."""

        async def work(db: Connection) -> Claimed:
            query = "UPDATE runs SET fence = fence + 1 WHERE id = %s AND phase <> 'running' RETURNING fence"
            row = await (await db.execute(query, (run_id,))).fetchone()
            run = require_end(await fetch_run(db, run_id))
            return Claimed(run, -1 if row is None else row[0])

        claimed: Claimed = await self._lane.act(work)
        return claimed

    async def list_holders(self, backend: str, job_id: str, *, since: datetime) -> list[AttemptId]:
        """See Ledger."""
        rows = await self._fetch(_HOLDERS, (backend, since.timestamp(), get_to_json()(job_id)))
        return decode_holders(rows, backend, job_id)

    async def list_pruned(self, since: datetime, api_key: str | None = None) -> list[BillLine]:
        """See Ledger."""
        day = since.astimezone(UTC).date().isoformat()
        query = _PRUNED if api_key is None else f"{_PRUNED} AND api_key = %s"
        values = (day,) if api_key is None else (day, api_key)
        rows = await self._fetch(f"{query} ORDER BY day, backend, model, api_key", values)
        return [BillLine.model_validate_json(line) for (line,) in rows]

    async def _fetch(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        async def read(db: Connection) -> list[tuple[Any, ...]]:
            return await (await db.execute(query.encode(), values, binary=True)).fetchall()

        return await self._readers.read(read)


async def _fetch_before(db: Connection, which: Pruning) -> float:
    """Return the time before which runs must have ended, those that are kept being counted in."""
    before = which.ended_before.timestamp()
    if not which.keep:
        return before
    row = await (await db.execute(_LAST_KEPT, (which.keep - 1,))).fetchone()
    return float("-inf") if row is None else min(before, float(row[0]))


async def _forget(db: Connection, ids: Sequence[str]) -> None:
    for line in make_bill(list_run_entries(await fetch_runs_by_id(db, ids)), ALL_BY):
        key = make_pruned_key(line)
        known = await (await db.execute(_GET_LINE, key, binary=True)).fetchone()
        whole = line if known is None else add_lines(BillLine.model_validate_json(known[0]), line)
        await db.execute(_PUT_LINE, (*key, whole.model_dump_json()))
    await db.execute(_KEEP_KEYS, (ids,))
    await db.execute("DELETE FROM runs WHERE id = ANY(%s)", (ids,))  # attempts and events go with them
    scopes = [(f"run:{run_id}|", f"run:{run_id}}}") for run_id in ids]  # "}" follows "|"
    await db.cursor().executemany("DELETE FROM accounts WHERE scope >= %s AND scope < %s", scopes)
