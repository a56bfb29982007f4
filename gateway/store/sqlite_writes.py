"""What is written about one run: made ready in the caller's thread, carried out in the writer's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.errors import RunExists, RunTakenOver
from gateway.policy.budget import Spend
from gateway.store.archive import get_end
from gateway.store.rows import encode_attempt, encode_plan, encode_run, encode_task
from gateway.store.sqlite_archive import write_spends
from gateway.store.sqlite_rows import get_time
from gateway.task import Event, Run

_CREATE = (
    "INSERT INTO runs (id, created_at, cancel_requested_at, status, phase, model, owner, parent,"
    " idempotency_key, api_key, task, plan, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_FIND_KEY = (
    "SELECT id FROM runs WHERE idempotency_key = ? UNION ALL SELECT run_id FROM pruned_keys WHERE key = ?"
)
_CHANGE = (
    "UPDATE runs SET status = ?, phase = ?, backend = ?, address = ?, state = ?, ended_at = ?,"
    " unresolved = ?, cancel_requested_at = COALESCE(cancel_requested_at, ?) WHERE id = ? AND fence = ?"
)
_ATTEMPT = (
    "INSERT INTO attempts (run_id, number, backend, model, created_at, ended_at, succeeded,"
    " doubted, seconds, envelope, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (run_id, number) DO UPDATE SET ended_at = excluded.ended_at,"
    " succeeded = excluded.succeeded, doubted = excluded.doubted,"
    " seconds = excluded.seconds, state = excluded.state, envelope = excluded.envelope"
)
_EVENT = "INSERT INTO events (run_id, seq, event) VALUES (?, ?, ?)"


class Creation:
    """A new run. Writing it returns its fence, or raises RunExists."""

    def __init__(self, run: Run, owner: str) -> None:
        """Make the row. Raises InvalidInput if the task is not JSON."""
        self._key = run.idempotency_key
        self._row = (
            run.id,
            run.created_at.timestamp(),
            get_time(run.cancel_requested_at),
            run.status,
            run.status.phase,
            run.task.model,
            owner,
            run.parent,
            self._key,
            run.api_key,
            encode_task(run.task),
            encode_plan(run),
            encode_run(run),
        )

    def write(self, db: sqlite3.Connection) -> int:
        """Insert the row."""
        if self._key is not None:
            taken = db.execute(_FIND_KEY, (self._key, self._key)).fetchone()
            if taken is not None:
                raise RunExists(f"the key {self._key!r} has run {taken[0]}", run_id=taken[0])
        db.execute(_CREATE, self._row)
        return 1


class Change:
    """A run's new state, what happened and what it spends. All of it is written, or it raises.

    Only the newest attempt is written: older ones never change again.
    """

    def __init__(self, run: Run, fence: int, events: Sequence[Event], spends: Sequence[Spend]) -> None:
        attempt = run.attempt
        place = (attempt.backend, attempt.address) if attempt else (None, None)
        self._run_id = run.id
        cancel = get_time(run.cancel_requested_at)
        state = encode_run(run)
        self._row = (run.status, run.status.phase, *place, state, *get_end(run), cancel, run.id, fence)
        self._attempt = encode_attempt(run, attempt) if attempt else None
        self._events = [(run.id, event.seq, event.model_dump_json()) for event in events]
        self._spends = spends

    def write(self, db: sqlite3.Connection) -> None:
        """Carry it out."""
        if db.execute(_CHANGE, self._row).rowcount == 0:
            raise RunTakenOver(f"run {self._run_id} was taken over by another process", run_id=self._run_id)
        write_spends(db, self._spends)
        if self._attempt is not None:
            db.execute(_ATTEMPT, self._attempt)
        db.executemany(_EVENT, self._events)
