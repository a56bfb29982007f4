"""Many writes in one transaction: all locks in two round trips, the same policy as everywhere, one commit.

Rows are locked in one order (new keys, runs, accounts, each sorted), so that two processes never wait for
each other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import psycopg

from gateway.errors import BudgetExceeded, GatewayError, RunExists, RunTakenOver, StoreError
from gateway.store.changes import Change, Row
from gateway.store.intake import Act
from gateway.store.ledger import book
from gateway.store.postgres.address import Connection

Job: TypeAlias = Change | Act

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_MARK = (
    "INSERT INTO writers (writer, batch, at) VALUES (%s, %s, now())"
    " ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at = excluded.at"
)
_STATE = (
    "status::int4, backend::text, address::text, state::bytea, cancel_requested_at::float8, phase::text,"
    " ended_at::float8, unresolved::int4"
)
_BEGINNING = (
    "created_at::float8, model::text, owner::text, parent::text, idempotency_key::text, api_key::text,"
    " task::bytea, plan::bytea"
)


def _make_rows(columns: str) -> str:
    """Return rows called `new`, from an array for each of these columns (name::type)."""
    pairs = [column.strip().split("::") for column in columns.split(",")]
    arrays = ", ".join(f"%b::{kind}[]" for _, kind in pairs)
    return f"unnest({arrays}) AS new ({', '.join(name for name, _ in pairs)})"


_CREATE = (
    "INSERT INTO runs (id, status, phase, backend, address, state, ended_at, unresolved, cancel_requested_at,"  # noqa: S608  our words
    " created_at, model, owner, parent, idempotency_key, api_key, task, plan)"
    " SELECT id, status, phase, backend, address, state, ended_at, unresolved::bool, cancel_requested_at,"
    " created_at, model, owner, parent, idempotency_key, api_key, task, plan"
    f" FROM {_make_rows(f'id::text, {_STATE}, {_BEGINNING}')} ON CONFLICT DO NOTHING RETURNING id"
)
_FIND_PRUNED = "SELECT key, run_id FROM pruned_keys WHERE key = ANY(%s)"
_LOCK_RUNS = "SELECT id, fence FROM runs WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
_OPEN_ACCOUNTS = (
    "INSERT INTO accounts (scope, used) SELECT scope, 0 FROM unnest(%s::text[]) scope ORDER BY scope"
    " ON CONFLICT DO NOTHING"
)
_LOCK_ACCOUNTS = "SELECT scope, used FROM accounts WHERE scope = ANY(%s) ORDER BY scope FOR NO KEY UPDATE"
_SAVE = (
    "UPDATE runs SET status = new.status, phase = new.phase, backend = new.backend, address = new.address,"  # noqa: S608  our words
    " state = new.state, ended_at = new.ended_at, unresolved = new.unresolved::bool,"
    " cancel_requested_at = COALESCE(runs.cancel_requested_at, new.cancel_requested_at)"
    f" FROM {_make_rows(f'id::text, {_STATE}')} WHERE runs.id = new.id"
)
_SAVE_ATTEMPTS = (
    "INSERT INTO attempts (run_id, number, backend, model, created_at, ended_at, succeeded, doubted, seconds,"  # noqa: S608  our words
    " envelope, state) SELECT run_id, number, backend, model, created_at, ended_at, succeeded::bool,"
    " doubted::bool, seconds, envelope, state FROM "
    + _make_rows(
        "run_id::text, number::int4, backend::text, model::text, created_at::float8, ended_at::float8,"
        " succeeded::int4, doubted::int4, seconds::float8, envelope::bytea, state::bytea"
    )
    + " ON CONFLICT (run_id, number) DO UPDATE SET ended_at = excluded.ended_at,"
    " succeeded = excluded.succeeded, doubted = excluded.doubted, seconds = excluded.seconds,"
    " state = excluded.state, envelope = COALESCE(excluded.envelope, attempts.envelope)"
)
_SAVE_EVENTS = (
    f"INSERT INTO events (run_id, seq, event) SELECT * FROM {_make_rows('run_id::text, seq::int4, x::bytea')}"  # noqa: S608  our words
)
_SAVE_ACCOUNTS = (
    "UPDATE accounts SET used = new.used::numeric"  # noqa: S608  our words
    f" FROM {_make_rows('scope::text, used::text')} WHERE accounts.scope = new.scope"
)
_TELL = f"SELECT pg_notify(channel, told) FROM {_make_rows('channel::text, told::text')}"  # noqa: S608  our words
_MOST_TOLD_BYTES = 7900  # of 8000 that PostgreSQL takes in one notification


class Batch:
    """Jobs that share a transaction. No run is in it twice.

    An act may raise a GatewayError as long as it has changed nothing.

    Attributes:
        results: what became of each job, in their order; an exception if it was refused.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self._results: dict[Job, Any] = {}
        changes = [job for job in jobs if isinstance(job, Change)]
        new = [change for change in changes if change.beginning is not None]
        self._creates = sorted(new, key=lambda change: change.key or "")
        self._saves = [change for change in changes if change.beginning is None]
        self._acts = [job for job in jobs if isinstance(job, Act)]
        self._accounts: dict[str, int] = {}
        self._changed: set[str] = set()

    @property
    def results(self) -> list[Any]:
        """Return what became of each job."""
        return [self._results[job] for job in self.jobs]

    async def decide(self, connection: Connection, writer: str, number: int) -> None:
        """Begin, lock what will be changed, and find out who may write. Raises psycopg's errors."""
        created, pruned, runs, accounts = (connection.cursor() for _ in range(4))
        keys = [job.key for job in self._creates if job.key is not None]
        scopes = sorted({spend.scope for job in (*self._creates, *self._saves) for spend in job.spends})
        async with connection.pipeline():
            await connection.execute(_BEGIN)
            await connection.execute(_MARK, (writer, number))
            if self._creates:
                rows = [(job.run_id, *job.state, *(job.beginning or ())) for job in self._creates]
                await _execute(created, _CREATE, rows)
            if keys:  # behind the insert: from then on no key can be pruned any more
                await pruned.execute(_FIND_PRUNED, (keys,))
            if self._saves:
                await runs.execute(_LOCK_RUNS, (sorted(job.run_id for job in self._saves),))
            if scopes:
                await connection.execute(_OPEN_ACCOUNTS, (scopes,))
                await accounts.execute(_LOCK_ACCOUNTS, (scopes,))
        if scopes:
            self._accounts = {scope: int(used) for scope, used in await accounts.fetchall()}
        if self._creates:
            there = {run_id for (run_id,) in await created.fetchall()}
            await self._decide_creates(connection, there, dict(await pruned.fetchall()) if keys else {})
        if self._saves:
            self._decide_saves(dict(await runs.fetchall()))
        for act in self._acts:
            try:
                self._results[act] = await act.work(connection)
            except GatewayError as error:
                self._results[act] = error

    async def _decide_creates(self, connection: Connection, there: set[str], pruned: dict[str, str]) -> None:
        for job in self._creates:
            if job.run_id not in there:
                self._results[job] = await _tell_taken(connection, job)
                continue
            has_run = pruned.get(job.key or "")
            result = self._book(job) if has_run is None else _make_run_exists(job.key, has_run)
            if result is not None:
                await connection.execute("DELETE FROM runs WHERE id = %s", (job.run_id,))
            self._results[job] = result

    def _decide_saves(self, fences: dict[str, int]) -> None:
        for job in self._saves:
            if fences.get(job.run_id) == job.fence:
                self._results[job] = self._book(job)
            else:
                message = f"run {job.run_id} was taken over by another process"
                self._results[job] = RunTakenOver(message, run_id=job.run_id)

    def _book(self, job: Change) -> BudgetExceeded | None:
        changed: dict[str, int] = {}
        try:
            book(job.spends, lambda s: changed.get(s, self._accounts[s]), changed.__setitem__)
        except BudgetExceeded as refused:
            return refused
        self._accounts |= changed
        self._changed |= changed.keys()
        return None

    async def commit(self, connection: Connection, channel: str) -> None:
        """Write what may be written, and commit. Raises psycopg's errors."""
        saves = [job for job in self._saves if self._results[job] is None]
        written = [*saves, *(job for job in self._creates if self._results[job] is None)]
        writes: list[tuple[str, list[Row]]] = [
            (_SAVE, [(job.run_id, *job.state) for job in saves]),
            (_SAVE_ATTEMPTS, [attempt for job in written for attempt in job.attempts]),
            (_SAVE_EVENTS, [job.events for job in written if job.events]),
            (_SAVE_ACCOUNTS, [(scope, str(self._accounts[scope])) for scope in sorted(self._changed)]),
            (_TELL, [(channel, text) for text in self._make_news()]),
        ]
        async with connection.pipeline():
            for query, rows in writes:
                if rows:
                    await _execute(connection.cursor(), query, rows)
            await connection.execute("COMMIT")

    def _make_news(self) -> Iterator[str]:
        done = [job for job in self.jobs if not isinstance(self._results[job], Exception)]
        text = ""
        for topic in dict.fromkeys(topic for job in done for topic in _get_topics(job)):
            if len(text) + len(topic) > _MOST_TOLD_BYTES:
                yield text
                text = ""
            text = f"{text} {topic}" if text else topic
        if text:
            yield text


async def _execute(cursor: psycopg.AsyncCursor[Any], query: str, rows: Sequence[Row]) -> None:
    """Write rows in one statement, prepared: its parameters are their columns."""
    await cursor.execute(query.encode(), [list(column) for column in zip(*rows, strict=True)], prepare=True)


def _get_topics(job: Job) -> Sequence[str]:
    if isinstance(job, Act):
        return job.topics
    return (job.run_id,) if job.events else ()


async def _tell_taken(connection: Connection, job: Change) -> GatewayError:
    query = "SELECT id FROM runs WHERE idempotency_key = %s AND id <> %s"
    row = await (await connection.execute(query, (job.key, job.run_id))).fetchone()
    if row is not None:
        return _make_run_exists(job.key, row[0])
    return StoreError(f"there is a run {job.run_id} already")


def _make_run_exists(key: str | None, run_id: str) -> RunExists:
    return RunExists(f"the key {key!r} has run {run_id}", run_id=run_id)
