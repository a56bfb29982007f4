"""What is written about runs: made ready in the caller's thread, written in the writer's, many at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any

from gateway.errors import RunExists, RunTakenOver
from gateway.policy.budget import Spend
from gateway.store.archive import get_end
from gateway.store.ledger import book
from gateway.store.rows import encode_attempt, encode_plan, encode_run, encode_task
from gateway.store.sqlite_rows import get_time, make_marks
from gateway.task import Envelope, Event, Run

# Every statement takes up to so many rows; the connection keeps the statement for each count, once parsed.
_ROWS_AT_ONCE = 32
_CREATE = (
    "INSERT INTO runs (id, created_at, cancel_requested_at, status, phase, model, owner, parent,"
    " idempotency_key, api_key, task, plan, state) VALUES {rows}"
)
_CHANGE = (
    "UPDATE runs SET status = new.column1, phase = new.column2, backend = new.column3, address = new.column4,"
    " state = new.column5, ended_at = new.column6, unresolved = new.column7,"
    " cancel_requested_at = COALESCE(cancel_requested_at, new.column8)"
    " FROM (VALUES {rows}) AS new WHERE runs.id = new.column9 AND runs.fence = new.column10"
)
_ATTEMPT = (
    "INSERT INTO attempts (run_id, number, backend, model, created_at, ended_at, succeeded,"
    " doubted, seconds, envelope, state) VALUES {rows}"
    " ON CONFLICT (run_id, number) DO UPDATE SET ended_at = excluded.ended_at,"
    " succeeded = excluded.succeeded, doubted = excluded.doubted, seconds = excluded.seconds,"
    " state = excluded.state, envelope = COALESCE(excluded.envelope, envelope)"
)
_EVENT = "INSERT INTO events (run_id, seq, event) VALUES {rows}"
# As text: an amount may be more than SQLite's 64 bits.
_ACCOUNT = "INSERT OR REPLACE INTO accounts (scope, used) VALUES {rows}"

Row = tuple[Any, ...]
"""Plain types only: what sqlite3 has to adapt, enums among them, costs it a microsecond each."""


class Creation:
    """A new run."""

    def __init__(self, run: Run, owner: str) -> None:
        """Make the row. Raises InvalidInput if the task is not JSON."""
        self.run_id: str = run.id
        self.key = run.idempotency_key
        self.row: Row = (
            run.id,
            run.created_at.timestamp(),
            get_time(run.cancel_requested_at),
            int(run.status),
            run.status.phase.value,
            run.task.model,
            owner,
            run.parent,
            self.key,
            run.api_key,
            encode_task(run.task),
            encode_plan(run),
            encode_run(run),
        )

    def write(self, db: sqlite3.Connection) -> None:
        """Insert the row. Raises RunExists."""
        _create(db, [self])


class Change:
    """A run's new state, what happened, and what it spends: all of it or nothing.

    Only the newest attempt is written, for older ones never change again; its envelope only if it is not
    `kept`, the one that is in the store already.
    """

    def __init__(
        self, run: Run, fence: int, events: Sequence[Event], spends: Sequence[Spend], kept: Envelope | None
    ) -> None:
        attempt = run.attempt
        place = (attempt.backend, attempt.address) if attempt else (None, None)
        cancel = get_time(run.cancel_requested_at)
        ended_at, unresolved = get_end(run)
        self.run_id: str = run.id
        self.row: Row = (
            *(int(run.status), run.status.phase.value, *place, encode_run(run)),
            *(ended_at, None if unresolved is None else int(unresolved), cancel, run.id, fence),
        )
        self.attempts = [encode_attempt(run, attempt, kept)] if attempt else []
        self.events: list[Row] = [(run.id, event.seq, event.model_dump_json()) for event in events]
        self.spends = spends

    def write(self, db: sqlite3.Connection) -> None:
        """Carry it out. Raises RunTakenOver, BudgetExceeded."""
        _change(db, [self])


def write_many(db: sqlite3.Connection, works: Sequence[Any]) -> None:
    """Carry out changes of different runs. Raises what one of them would; then nothing counts."""
    creations = [work for work in works if isinstance(work, Creation)]
    changes = [work for work in works if isinstance(work, Change)]
    if creations:
        _create(db, creations)
    if changes:
        _change(db, changes)


def _create(db: sqlite3.Connection, creations: Sequence[Creation]) -> None:
    keys = [creation.key for creation in creations if creation.key is not None]
    if keys:
        marks = make_marks(keys)
        taken = db.execute(
            f"SELECT idempotency_key, id FROM runs WHERE idempotency_key IN ({marks})"  # noqa: S608  marks only
            f" UNION ALL SELECT key, run_id FROM pruned_keys WHERE key IN ({marks}) LIMIT 1",
            (*keys, *keys),
        ).fetchone()
        if taken is not None:
            raise RunExists(f"the key {taken[0]!r} has run {taken[1]}", run_id=taken[1])
    _write_rows(db, _CREATE, [creation.row for creation in creations])


def _change(db: sqlite3.Connection, changes: Sequence[Change]) -> None:
    rows = [change.row for change in changes]
    if _write_rows(db, _CHANGE, rows) != len(rows):
        run_id = changes[0].run_id
        raise RunTakenOver(f"run {run_id} was taken over by another process", run_id=run_id)
    _spend(db, [spend for change in changes for spend in change.spends])
    _write_rows(db, _ATTEMPT, [row for change in changes for row in change.attempts])
    _write_rows(db, _EVENT, [row for change in changes for row in change.events])


def _spend(db: sqlite3.Connection, spends: Sequence[Spend]) -> None:
    if not spends:
        return
    scopes = list({spend.scope for spend in spends})
    query = f"SELECT scope, used FROM accounts WHERE scope IN ({make_marks(scopes)})"  # noqa: S608  marks only
    used = {scope: int(text) for scope, text in db.execute(query, scopes)}
    book(spends, lambda scope: used.get(scope, 0), used.__setitem__)
    _write_rows(db, _ACCOUNT, [(scope, str(amount)) for scope, amount in used.items()])


def _write_rows(db: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> int:
    """Return how many rows were written or changed."""
    changed = 0
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        values = [value for row in some for value in row]
        changed += db.execute(_make_text(statement, len(some), len(some[0])), values).rowcount
    return changed


@cache
def _make_text(statement: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return statement.format(rows=", ".join([row] * rows))
