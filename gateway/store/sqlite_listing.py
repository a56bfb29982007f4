"""How a filter becomes a query that reads indexes and as many rows as it returns, whatever there is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.lifecycle import Status
from gateway.store.protocol import RunFilter

IS_OPEN = "phase = 'running'"
IS_ENDED = "ended_at IS NOT NULL"
# Conditions that each have an index in the order of time, with the statuses they are for: a run is in one.
_PARTS = {IS_OPEN: {status for status in Status if not status.is_final}}
_PARTS |= {f"{IS_ENDED} AND status = {end:d}": {end} for end in Status if end.is_final}
# What has an index, but the key's within each part; what tells most runs apart is first.
_LEADING = ("idempotency_key", "model", "api_key", "backend")
# Without that run, or without an id, nothing of the same time is older: row numbers begin with 1.
_BEFORE = "(created_at, rowid) < (:before, COALESCE((SELECT rowid FROM runs WHERE id = :before_id), 0))"


def make_listing(which: RunFilter) -> tuple[str, dict[str, object]]:
    """Return the query for the ids of the runs that a filter means, newest first, and its values."""
    values: dict[str, object] = {
        "phase": which.phase,
        "status": which.status,
        "model": which.model,
        "backend": which.backend,
        "idempotency_key": which.idempotency_key,
        "api_key": which.api_key,
    }
    values = {name: value for name, value in values.items() if value is not None}
    leading = next((column for column in _LEADING if column in values), None)
    # The "+" keeps SQLite from the index by something else, which would lead to more.
    terms = [f"{'' if column == leading else '+'}{column} = :{column}" for column in values]
    if which.before is not None:
        terms.append(_BEFORE)
        values |= {"before": which.before.timestamp(), "before_id": which.before_id}
    values["limit"] = which.limit
    if which.idempotency_key is not None:  # there is one
        return f"SELECT id FROM runs WHERE {' AND '.join(terms)} LIMIT :limit", values  # noqa: S608  our words
    parts = [part for part, statuses in _PARTS.items() if _may_match(which, statuses)]
    return _merge(parts or [IS_OPEN], terms, "created_at DESC, rowid DESC"), values


def make_page() -> str:
    """Return the query for ids, times and row numbers behind a :time and :place, oldest first."""
    return _merge([*_PARTS], ["(created_at, rowid) > (:time, :place)"], "created_at, rowid")


def make_recent(columns: str, condition: str) -> str:
    """Return the query for attempts of runs that are open or ended :since, as all do that are as recent."""
    query = f"SELECT {columns} FROM runs CROSS JOIN attempts ON run_id = runs.id WHERE {condition} AND "  # noqa: S608  ours
    ended = f"runs.{IS_ENDED} AND unresolved IN (0, 1) AND runs.ended_at >= :since"
    return f"{query}{IS_OPEN} UNION ALL {query}{ended}"


def _may_match(which: RunFilter, statuses: Collection[Status]) -> bool:
    return any(which.phase in (None, status.phase) and which.status in (None, status) for status in statuses)


def _merge(parts: Sequence[str], terms: Sequence[str], order: str) -> str:
    """Return the query for some parts' runs: SQLite follows their indexes side by side, and sorts none."""
    query = "SELECT id, created_at, rowid FROM runs WHERE "
    selects = (query + " AND ".join([part, *terms]) for part in parts)
    return f"{' UNION ALL '.join(selects)} ORDER BY {order} LIMIT :limit"
