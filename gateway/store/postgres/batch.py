"""Many writes in one transaction: all locks in two round trips, the same policy as everywhere, one commit.

Rows are locked in one order (new keys, runs, accounts, each sorted), so that two processes never wait for
each other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from gateway.errors import BudgetExceeded, GatewayError, RunExists, RunTakenOver, StoreError
from gateway.store.changes import Change
from gateway.store.intake import Act
from gateway.store.ledger import book
from gateway.store.postgres.address import Connection

Job: TypeAlias = Change | Act

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_MARK = (
    "INSERT INTO writers (writer, batch, at) VALUES (%s, %s, now())"
    " ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at = excluded.at"
)
_CREATE = (
    "INSERT INTO runs (id, status, phase, backend, address, state, ended_at, unresolved, cancel_requested_at,"
    " created_at, model, owner, parent, idempotency_key, api_key, task, plan)"
    " VALUES (%b, %b, %b, %b, %b, %b, %b, %b::int4::bool, %b, %b, %b, %b, %b, %b, %b, %b, %b)"
    " ON CONFLICT DO NOTHING RETURNING id"
)
_FIND_PRUNED = "SELECT key, run_id FROM pruned_keys WHERE key = ANY(%s)"
_LOCK_RUNS = "SELECT id, fence FROM runs WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
_OPEN_ACCOUNTS = (
    "INSERT INTO accounts (scope, used) SELECT scope, 0 FROM unnest(%s::text[]) scope ORDER BY scope"
    " ON CONFLICT DO NOTHING"
)
_LOCK_ACCOUNTS = "SELECT scope, used FROM accounts WHERE scope = ANY(%s) ORDER BY scope FOR NO KEY UPDATE"
_SAVE = (
    "UPDATE runs SET status = %b, phase = %b, backend = %b, address = %b, state = %b,"
    " ended_at = %b, unresolved = %b::int4::bool,"
    " cancel_requested_at = COALESCE(cancel_requested_at, %b) WHERE id = %b"
)
_SAVE_ATTEMPT = (
    "INSERT INTO attempts (run_id, number, backend, model, created_at, ended_at, succeeded, doubted, seconds,"
    " envelope, state) VALUES (%b, %b, %b, %b, %b, %b, %b::int4::bool, %b::int4::bool, %b, %b, %b)"
    " ON CONFLICT (run_id, number) DO UPDATE SET ended_at = excluded.ended_at,"
    " succeeded = excluded.succeeded, doubted = excluded.doubted, seconds = excluded.seconds,"
    " state = excluded.state, envelope = COALESCE(excluded.envelope, attempts.envelope)"
)
_SAVE_EVENT = "INSERT INTO events (run_id, seq, event) VALUES (%b, %b, %b)"
_SAVE_ACCOUNT = "UPDATE accounts SET used = %s WHERE scope = %s"
_TELL = "SELECT pg_notify(%s, %s)"
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
                await created.executemany(_CREATE, rows, returning=True)
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
            found = [await result.fetchone() async for result in created.results()]
            await self._decide_creates(connection, found, dict(await pruned.fetchall()) if keys else {})
        if self._saves:
            self._decide_saves(dict(await runs.fetchall()))
        for act in self._acts:
            try:
                self._results[act] = await act.work(connection)
            except GatewayError as error:
                self._results[act] = error

    async def _decide_creates(
        self, connection: Connection, rows: Sequence[object], pruned: dict[str, str]
    ) -> None:
        for job, row in zip(self._creates, rows, strict=True):
            if row is None:
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
        writes: list[tuple[str, list[Any]]] = [
            (_SAVE, [(*job.state, job.run_id) for job in saves]),
            (_SAVE_ATTEMPT, [attempt for job in written for attempt in job.attempts]),
            (_SAVE_EVENT, [event for job in written for event in job.events]),
            (_SAVE_ACCOUNT, [(self._accounts[scope], scope) for scope in sorted(self._changed)]),
            (_TELL, [(channel, text) for text in self._make_news()]),
        ]
        async with connection.pipeline():
            for query, rows in writes:
                if rows:
                    await connection.cursor().executemany(query.encode(), rows)
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
