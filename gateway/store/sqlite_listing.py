"""How a filter becomes a query that reads an index and as many rows as it returns, whatever there is."""

from __future__ import annotations

from gateway.lifecycle import Phase
from gateway.store.protocol import RunFilter

IS_OPEN = "phase = 'running'"
IS_ENDED = "ended_at IS NOT NULL"


def make_listing(which: RunFilter) -> tuple[str, tuple[object, ...]]:
    """Return the query for the ids of the runs that a filter means, newest first, and its values.

    An open run is found by its time: there are few of them, and an index by anything else would lead through
    all that have ended. The "+" before a column keeps SQLite from such an index.
    """
    phase = which.phase if which.status is None else which.status.phase
    terms: list[str] = []
    values: list[object] = []
    if phase is not None:
        terms.append(IS_OPEN if phase is Phase.RUNNING else IS_ENDED)
    plain = "+" if phase is Phase.RUNNING else ""
    columns = {
        "phase": which.phase,
        "status": which.status,
        "model": which.model,
        "backend": which.backend,
        "idempotency_key": which.idempotency_key,
        "api_key": which.api_key,
    }
    for column, value in columns.items():
        if value is not None:
            terms.append(f"{plain}{column} = ?")
            values.append(value)
    if which.before is not None:
        # Without that run, or without an id, nothing of the same time is older: row numbers begin with 1.
        terms.append("(created_at, rowid) < (?, COALESCE((SELECT rowid FROM runs WHERE id = ?), 0))")
        values += [which.before.timestamp(), which.before_id]
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    query = f"SELECT id FROM runs{where} ORDER BY created_at DESC, rowid DESC LIMIT ?"  # noqa: S608  our words
    return query, (*values, which.limit)
