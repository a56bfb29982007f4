"""Changes of many runs, written in a few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, compress

from gateway.errors import RunExists, RunTakenOver
from gateway.policy.budget import Spend
from gateway.store.changes import Change, Row
from gateway.store.ledger import book
from gateway.store.sqlite_rows import make_marks

# Every statement takes up to so many rows; the connection keeps the statement for each count, once parsed.
_ROWS_AT_ONCE = 32
# A row that can't be written ends the transaction: SQLite need not keep what would undo the statement alone.
_CREATE = (
    "INSERT OR ROLLBACK INTO runs (id, status, backend, address, state, cancel_requested_at, phase, ended_at,"
    " unresolved, created_at, model, owner, parent, idempotency_key, api_key, task, plan) VALUES {rows}"
)
# What an open run's change leaves as it is, is not named: every index with such a column would be written.
_CHANGE = (
    "UPDATE OR ROLLBACK runs SET status = new.column1, backend = new.column2, address = new.column3,"
    " state = new.column4, cancel_requested_at = COALESCE(cancel_requested_at, new.column5)"
    " FROM (VALUES {rows}) AS new WHERE runs.id = new.column6 AND runs.fence = new.column7"
)
_END = (
    "UPDATE OR ROLLBACK runs SET status = new.column1, backend = new.column2, address = new.column3,"
    " state = new.column4, cancel_requested_at = COALESCE(cancel_requested_at, new.column5),"
    " phase = new.column6, ended_at = new.column7, unresolved = new.column8"
    " FROM (VALUES {rows}) AS new WHERE runs.id = new.column9 AND runs.fence = new.column10"
)
_ATTEMPT = (
    "INSERT OR ROLLBACK INTO attempts (run_id, number, backend, model, created_at, ended_at, succeeded,"
    " doubted, seconds, envelope, state) VALUES {rows}"
    " ON CONFLICT (run_id, number) DO UPDATE SET ended_at = excluded.ended_at,"
    " succeeded = excluded.succeeded, doubted = excluded.doubted, seconds = excluded.seconds,"
    " state = excluded.state, envelope = COALESCE(excluded.envelope, envelope)"
)
_EVENT = "INSERT OR ROLLBACK INTO events (run_id, seq, event) VALUES {rows}"
# As text: an amount may be more than SQLite's 64 bits.
_ACCOUNT = "INSERT OR REPLACE INTO accounts (scope, used) VALUES {rows}"


def write_many(db: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Carry out changes of different runs. Raises what one of them would; then nothing counts.

    That is InvalidInput, RunExists, RunTakenOver or BudgetExceeded.
    """
    for change in changes:
        if change.error is not None:
            raise change.error
    _check_keys(db, [change.key for change in changes if change.key is not None])
    new = [(c.run_id, *c.state, *c.beginning) for c in changes if c.beginning is not None]
    _write_rows(db, _CREATE, new)
    known = [change for change in changes if change.beginning is None]
    open_ = [(*c.state[:5], c.run_id, c.fence) for c in known if not c.has_ended]
    ended = [(*c.state, c.run_id, c.fence) for c in known if c.has_ended]
    if _write_rows(db, _CHANGE, open_) + _write_rows(db, _END, ended) != len(known):
        run_id = known[0].run_id
        raise RunTakenOver(f"run {run_id} was taken over by another process", run_id=run_id)
    _spend(db, [spend for change in changes for spend in change.spends])
    _write_rows(db, _ATTEMPT, [row for change in changes for row in change.attempts])
    _write_rows(db, _EVENT, [change.events for change in changes if change.events])


def _check_keys(db: sqlite3.Connection, keys: Sequence[str]) -> None:
    if not keys:
        return
    marks = make_marks(keys)
    taken = db.execute(
        f"SELECT idempotency_key, id FROM runs WHERE idempotency_key IN ({marks})"  # noqa: S608  marks only
        f" UNION ALL SELECT key, run_id FROM pruned_keys WHERE key IN ({marks}) LIMIT 1",
        (*keys, *keys),
    ).fetchone()
    if taken is not None:
        raise RunExists(f"the key {taken[0]!r} has run {taken[1]}", run_id=taken[1])


def _spend(db: sqlite3.Connection, spends: Sequence[Spend]) -> None:
    if not spends:
        return
    scopes = list({spend.scope for spend in spends})
    query = f"SELECT scope, used FROM accounts WHERE scope IN ({make_marks(scopes)})"  # noqa: S608  marks only
    used = {scope: int(text) for scope, text in db.execute(query, scopes)}
    book(spends, lambda scope: used.get(scope, 0), used.__setitem__)
    _write_rows(db, _ACCOUNT, [(scope, str(amount)) for scope, amount in used.items()])


def _write_rows(db: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> int:
    """Return how many rows were written or changed.

    A column in which no row has anything is NULL in the text: sqlite3 looks long for what adapts a None.
    """
    changed = 0
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        values: Iterable[object]
        if len(some) == 1:  # of a run that comes alone: in half the time
            given = tuple([value is not None for value in some[0]])
            values = compress(some[0], given)
        else:
            columns = list(zip(*some, strict=True))
            given = tuple([column.count(None) < len(some) for column in columns])
            values = chain.from_iterable(zip(*compress(columns, given), strict=True))
        changed += db.execute(_make_text(statement, len(some), given), list(values)).rowcount
    return changed


@cache
def _make_text(statement: str, rows: int, given: tuple[bool, ...]) -> str:
    row = f"({', '.join('?' if one else 'NULL' for one in given)})"
    return statement.format(rows=", ".join([row] * rows))
