"""What is read, and what changes few rows: statements, and rows put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from gateway.errors import RunNotFound
from gateway.lifecycle import Phase
from gateway.policy.learning import Outcome
from gateway.store.postgres.address import Connection
from gateway.store.protocol import Claimed, RunFilter, Scope, Wish
from gateway.store.rows import decode_events, decode_run, get_time, parse_time
from gateway.task import Event, Run

Place: TypeAlias = tuple[float, int]
"""Where a run stands among all: when it was created (seconds since 1970), and as which."""

_RUN = """
SELECT task, plan, state, cancel_requested_at, accept_answer,
    ARRAY(SELECT envelope FROM attempts WHERE run_id = runs.id ORDER BY number),
    ARRAY(SELECT state FROM attempts WHERE run_id = runs.id ORDER BY number),
    created_at, place, fence
FROM runs
"""
_BY_ID = f"{_RUN} WHERE id = %s"
_OWNERS = """
WITH RECURSIVE found AS (
    (SELECT owner FROM runs WHERE phase = 'running' ORDER BY owner LIMIT 1)
    UNION ALL
    SELECT (
        SELECT owner FROM runs WHERE phase = 'running' AND runs.owner > found.owner ORDER BY owner LIMIT 1
    )
    FROM found WHERE found.owner IS NOT NULL
)
SELECT found.owner, until FROM found LEFT JOIN owners USING (owner) WHERE found.owner IS NOT NULL
"""  # from one to the next in the index, past all the runs that each has
_IS_NOBODYS = "SELECT EXISTS (SELECT 1 FROM runs WHERE phase = 'running' AND owner IS NULL)"
_CLAIM = """
WITH free AS (
    SELECT id FROM runs
    WHERE phase = 'running' AND (owner IS NULL OR owner = ANY(%(free)s))
        AND CASE WHEN backend IS NULL THEN model IS NULL OR model = ANY(%(models)s)
            ELSE backend || E'\\n' || address = ANY(%(places)s) END
    ORDER BY created_at, place LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE runs SET owner = %(owner)s, fence = fence + 1 FROM free WHERE runs.id = free.id RETURNING runs.id
"""
# Who was paused between the messages of a pipeline holds its locks for ever: the server's own time limit for
# idle transactions does not count that.
_CUT_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database() AND usename = current_user
    AND application_name = current_setting('application_name')
    AND xact_start IS NOT NULL AND wait_event = 'ClientRead' AND state_change < now() - interval '10 s'
"""
_FORGET_OWNERS = "DELETE FROM owners WHERE until < %s"  # who has no row is not believed either
_A_DAY_SECONDS = 86400.0


async def fetch_run(connection: Connection, run_id: str) -> Run:
    """Return a run. Raises RunNotFound."""
    row = await (await _execute(connection, _BY_ID, (run_id,))).fetchone()
    if row is None:
        raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
    return _decode(row)


async def fetch_runs(connection: Connection, which: RunFilter) -> list[Run]:
    """Return the runs that a filter leaves, newest first."""
    terms: dict[str, object] = {
        "phase": which.phase and which.phase.value,
        "status": which.status and which.status.value,
        "model": which.model,
        "backend": which.backend,
        "idempotency_key": which.idempotency_key,
        "api_key": which.api_key,
    }
    used = {f"{name} = %s": value for name, value in terms.items() if value is not None}
    values = list(used.values())
    phase = which.phase if which.status is None else which.status.phase
    if phase is not None:  # word for word as in the indexes
        used["phase = 'running'" if phase is Phase.RUNNING else "ended_at IS NOT NULL"] = None
    if which.before is not None:
        # Without that run, or without an id, nothing of the same time is older: places begin with 1.
        used["(created_at, place) < (%s, COALESCE((SELECT place FROM runs WHERE id = %s), 0))"] = None
        values += [which.before.timestamp(), which.before_id]
    where = f" WHERE {' AND '.join(used)}" if used else ""
    query = f"{_RUN}{where} ORDER BY created_at DESC, place DESC LIMIT %s"
    found = await _execute(connection, query, (*values, which.limit))
    return [_decode(row) for row in await found.fetchall()]


async def fetch_runs_by_id(connection: Connection, ids: Sequence[str]) -> list[Run]:
    """Return those runs that are there."""
    found = await _execute(connection, f"{_RUN} WHERE id = ANY(%s)", (list(ids),))
    return [_decode(row) for row in await found.fetchall()]


async def fetch_page(connection: Connection, place: Place, limit: int) -> tuple[list[Run], Place]:
    """Return the runs behind a place, oldest first, and the place of the last."""
    query = f"{_RUN} WHERE (created_at, place) > (%s, %s) ORDER BY created_at, place LIMIT %s"
    rows = await (await _execute(connection, query, (*place, limit))).fetchall()
    return [_decode(row) for row in rows], (rows[-1][-3], rows[-1][-2]) if rows else place


async def fetch_events(connection: Connection, run_id: str, after: int) -> list[Event]:
    """Return a run's events behind a number, in order. Raises RunNotFound."""
    query = "SELECT event FROM events WHERE run_id = %s AND seq > %s ORDER BY seq"
    rows = await (await _execute(connection, query, (run_id, after))).fetchall()
    if not rows:
        found = await _execute(connection, "SELECT 1 FROM runs WHERE id = %s", (run_id,))
        if await found.fetchone() is None:
            raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
    return decode_events(rows, after)


async def fetch_wishes(connection: Connection, owner: str) -> list[Wish]:
    """Return the wishes for an owner's open runs."""
    query = (
        "SELECT id, cancel_requested_at, accept_answer FROM runs WHERE owner = %s AND phase = 'running'"
        " AND (cancel_requested_at IS NOT NULL OR accept_answer IS NOT NULL)"
    )
    rows = await (await _execute(connection, query, (owner,))).fetchall()
    return [Wish(run_id, parse_time(cancel), answer) for run_id, cancel, answer in rows]


async def fetch_owners(connection: Connection) -> list[str]:
    """Return the owners that have open runs."""
    return [owner for owner, _ in await (await connection.execute(_OWNERS)).fetchall()]


async def find_free(
    connection: Connection, owner: str, now: datetime, dead: Sequence[str]
) -> list[str] | None:
    """Return the owners whose runs `owner` may take over; None if there is nothing to take over."""
    found = await (await connection.execute(_OWNERS)).fetchall()
    free = [
        name
        for name, until in found
        if name != owner and (name in dead or until is None or until < now.timestamp())
    ]
    if free:
        return free
    (is_nobodys,) = await (await connection.execute(_IS_NOBODYS)).fetchone() or (False,)
    return [] if is_nobodys else None


async def fetch_outcomes(connection: Connection, since: datetime) -> list[tuple[str, str, Outcome]]:
    """Return how attempts ended since then, oldest first."""
    query = (
        "SELECT backend, model, ended_at, succeeded, doubted, seconds FROM attempts"
        " WHERE ended_at >= %s ORDER BY ended_at"
    )
    rows = await (await connection.execute(query, (since.timestamp(),))).fetchall()
    return [
        (backend, model or "", Outcome(datetime.fromtimestamp(at, UTC), good, doubt, seconds))
        for backend, model, at, good, doubt, seconds in rows
    ]


async def note_wish(connection: Connection, wish: Wish) -> Run:
    """Write a wish down and return the run. Raises RunNotFound."""
    await connection.execute(
        "UPDATE runs SET cancel_requested_at = COALESCE(cancel_requested_at, %s),"
        " accept_answer = COALESCE(%s, accept_answer) WHERE id = %s AND phase = 'running'",
        (get_time(wish.cancel_at), wish.accept_answer, wish.run_id),
    )
    return await fetch_run(connection, wish.run_id)


async def claim_runs(
    connection: Connection, owner: str, scope: Scope, now: datetime, limit: int, dead: Sequence[str]
) -> list[Claimed]:
    """Take runs over that nobody else is taking over at the moment."""
    free = await find_free(connection, owner, now, dead)
    if free is None:
        return []
    values = {
        "owner": owner,
        "free": free,
        "models": list(scope.models),
        "places": [f"{backend}\n{address}" for backend, address in scope.places],  # neither has line breaks
        "limit": limit,
    }
    ids = [run_id for (run_id,) in await (await connection.execute(_CLAIM, values)).fetchall()]
    if not ids:
        await connection.execute(_CUT_OFF)
        return []
    await connection.execute(_FORGET_OWNERS, (now.timestamp() - _A_DAY_SECONDS,))
    query = f"{_RUN} WHERE id = ANY(%s) ORDER BY created_at, place"
    rows = await (await _execute(connection, query, (ids,))).fetchall()
    newest = "SELECT run_id, max(seq) FROM events WHERE run_id = ANY(%s) GROUP BY run_id"
    seqs: dict[str, int] = dict(await (await connection.execute(newest, (ids,))).fetchall())
    runs = [(_decode(row), row[-1]) for row in rows]
    return [Claimed(run, fence, seqs.get(run.id, 0)) for run, fence in runs]


async def note_beat(connection: Connection, owner: str, until: datetime) -> None:
    """Write down until when an owner lives."""
    query = (
        "INSERT INTO owners (owner, until) VALUES (%s, %s)"
        " ON CONFLICT (owner) DO UPDATE SET until = excluded.until"
    )
    await connection.execute(query, (owner, until.timestamp()))


async def release_runs(connection: Connection, owner: str) -> None:
    """Give up what an owner holds, and forget it."""
    await connection.execute("UPDATE runs SET owner = NULL WHERE owner = %s AND phase = 'running'", (owner,))
    await connection.execute("DELETE FROM owners WHERE owner = %s", (owner,))


async def _execute(connection: Connection, query: str, values: Sequence[object]) -> Any:
    """Run a query of ours, its blobs in binary."""
    return await connection.execute(query.encode(), values, binary=True)


def _decode(row: tuple[Any, ...]) -> Run:
    task, plan, state, cancel, answer, envelopes, states, *_ = row
    run = decode_run(task, plan, state, list(zip(envelopes, states, strict=True)))
    return replace(run, cancel_requested_at=parse_time(cancel), accept_answer=answer)
