"""How the SQLite store reads its rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import replace

from gateway.errors import RunNotFound
from gateway.store.rows import decode_run, parse_time
from gateway.task import Run


def load_run(db: sqlite3.Connection, run_id: str) -> Run:
    """Return a whole run. Raises RunNotFound."""
    query = "SELECT task, plan, state, cancel_requested_at, accept_answer FROM runs WHERE id = ?"
    row = db.execute(query, (run_id,)).fetchone()
    if row is None:
        raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
    task, plan, state, cancel, answer = row
    attempts = db.execute(
        "SELECT envelope, state FROM attempts WHERE run_id = ? ORDER BY number", (run_id,)
    ).fetchall()
    run = decode_run(task, plan, state, attempts)
    return replace(run, cancel_requested_at=parse_time(cancel), accept_answer=answer)


def make_marks(values: Collection[object]) -> str:
    """Return a question mark for each value, as SQL wants them in a list."""
    return ", ".join("?" * len(values))
