"""A store that forgets with its process: for tests, and for those who want no file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

from gateway.errors import GatewayError, RunExists, RunNotFound, RunTakenOver, StoreError
from gateway.policy.budget import Spend
from gateway.policy.learning import Outcome, make_outcome
from gateway.store.archive import Archive, Pruning, get_end, is_resolved, list_run_entries
from gateway.store.bill import ALL_BY, BillLine, make_bill
from gateway.store.intake import finish, inherit
from gateway.store.ledger import Entry, Ledger, book
from gateway.store.protocol import FIRST_FENCE, Claimed, RunFilter, Scope, Wish
from gateway.store.rows import encode_task, is_holder, require_end
from gateway.store.shelf import MemoryShelf, Shelf
from gateway.task import Event, Run
from gateway.types import AttemptId, RunId

T = TypeVar("T")


@dataclass(slots=True)
class _Row:
    run: Run
    owner: str | None
    wish: Wish
    fence: int = FIRST_FENCE
    events: list[Event] = field(default_factory=list)

    def with_wish(self, run: Run) -> Run:
        if self.wish.cancel_at == run.cancel_requested_at and self.wish.accept_answer == run.accept_answer:
            return run
        return replace(run, cancel_requested_at=self.wish.cancel_at, accept_answer=self.wish.accept_answer)


class MemoryStore:
    """Keeps runs in a dict. Two gateways in one process may share it."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._beats: dict[str, datetime] = {}
        self._ledger = MemoryLedger(self._rows)
        self.ledger: Ledger = self._ledger
        self._archive = MemoryArchive(self._rows, self._ledger)
        self.archive: Archive = self._archive
        self._intake = MemoryIntake(self._rows, self._ledger)
        self.shelf: Shelf = MemoryShelf()

    async def open(self) -> None:
        """Nothing to make ready."""

    def create(self, run: Run, *, owner: str) -> Awaitable[int]:
        """See Store."""
        return self._intake.create(run, owner)

    def save(
        self,
        run: Run,
        *,
        fence: int,
        events: Sequence[Event] = (),
        spends: Sequence[Spend] = (),
        soon: bool = True,  # noqa: ARG002  it is done at once
    ) -> Awaitable[None]:
        """See Store."""
        return self._intake.save(run, fence, events, spends)

    async def get(self, run_id: str) -> Run:
        """See Store."""
        return _find(self._rows, run_id).run

    async def list_runs(self, which: RunFilter) -> list[Run]:
        """See Store."""
        newest = [row.run for row in _sort(self._rows.values())[::-1]]
        if which.before is not None and which.before_id is not None:
            last = (which.before, which.before_id)
            places = [place for place, run in enumerate(newest, 1) if (run.created_at, run.id) == last]
            if places:
                newest, which = newest[places[0] :], replace(which, before=None)
        return [run for run in newest if _fits(run, which)][: which.limit]

    async def list_events(self, run_id: str, *, after: int = 0) -> list[Event]:
        """See Store."""
        return [event for event in _find(self._rows, run_id).events if event.seq > after]

    async def wish(self, wish: Wish) -> Run:
        """See Store."""
        row = _find(self._rows, wish.run_id)
        if not row.run.status.is_final:
            row.wish = Wish(
                wish.run_id,
                row.wish.cancel_at or wish.cancel_at,
                wish.accept_answer or row.wish.accept_answer,
            )
            row.run = row.with_wish(row.run)
        return row.run

    async def list_wishes(self, owner: str) -> list[Wish]:
        """See Store."""
        return [
            row.wish for row in _list_open(self._rows) if row.owner == owner and row.wish != Wish(row.run.id)
        ]

    async def claim(
        self, owner: str, scope: Scope, *, now: datetime, limit: int, dead: Sequence[str] = ()
    ) -> list[Claimed]:
        """See Store."""
        claimed: list[Claimed] = []
        silent = {name for name, until in self._beats.items() if until < now}
        for row in _list_open(self._rows):
            free = row.owner != owner and (
                row.owner in (None, *dead) or row.owner in silent or row.owner not in self._beats
            )
            if free and len(claimed) < limit and scope.covers(row.run):
                row.owner = owner
                row.fence += 1
                claimed.append(Claimed(row.run, row.fence, row.events[-1].seq if row.events else 0))
        return claimed

    async def beat(self, owner: str, *, until: datetime) -> None:
        """See Store."""
        self._beats[owner] = until

    async def list_owners(self) -> list[str]:
        """See Store."""
        return sorted({row.owner for row in _list_open(self._rows) if row.owner is not None})

    async def release(self, owner: str) -> None:
        """See Store."""
        self._beats.pop(owner, None)
        for row in self._rows.values():
            if row.owner == owner:
                row.owner = None

    async def list_outcomes(self, since: datetime) -> list[tuple[str, str, Outcome]]:
        """See Store."""
        outcomes = [
            (attempt.backend, row.run.task.model or "", outcome)
            for row in self._rows.values()
            for attempt in row.run.attempts
            if (outcome := make_outcome(attempt)) is not None and outcome.at >= since
        ]
        return sorted(outcomes, key=lambda row: row[2].at)

    async def aclose(self) -> None:
        """Nothing to close: a shared store lives on."""


class MemoryIntake:
    """Changes the runs of a MemoryStore, at once; who waits could do so for a disk all the same."""

    def __init__(self, rows: dict[str, _Row], ledger: MemoryLedger) -> None:
        self._rows, self._ledger = rows, ledger
        self._keys: dict[str, RunId] = {}  # also of runs that are pruned: a key stays taken
        self._failed: dict[tuple[str, int], Exception] = {}  # in this turn of the event loop

    def create(self, run: Run, owner: str) -> asyncio.Future[int]:
        """Take a new run."""
        return self._do(run, FIRST_FENCE, lambda: self._create(run, owner))

    def save(
        self, run: Run, fence: int, events: Sequence[Event], spends: Sequence[Spend]
    ) -> asyncio.Future[None]:
        """Take a run's new state."""
        return self._do(run, fence, lambda: self._save(run, fence, events, spends))

    def _do(self, run: Run, fence: int, work: Callable[[], T]) -> asyncio.Future[T]:
        """Change something at once; who has not heard yet that it failed can't change that run further."""
        loop, key = asyncio.get_running_loop(), (run.id, fence)
        done: asyncio.Future[T] = loop.create_future()
        if key in self._failed:
            finish(done, inherit(self._failed[key]))
            return done
        try:
            done.set_result(work())
        except GatewayError as error:
            finish(done, error)
            if inherit(error) is not None:
                self._failed[key] = error
                loop.call_soon(self._failed.pop, key)
        return done

    def _create(self, run: Run, owner: str) -> int:
        if run.id in self._rows:
            raise StoreError(f"there is a run {run.id} already")
        taken = None if run.idempotency_key is None else self._keys.get(run.idempotency_key)
        if taken is not None:
            raise RunExists(f"the key {run.idempotency_key!r} has run {taken}", run_id=taken)
        encode_task(run.task)  # what no other store could keep is refused here too
        self._rows[run.id] = _Row(run, owner, Wish(run.id))
        if run.idempotency_key is not None:
            self._keys[run.idempotency_key] = run.id
        return FIRST_FENCE

    def _save(self, run: Run, fence: int, events: Sequence[Event], spends: Sequence[Spend]) -> None:
        row = self._rows.get(run.id)
        if row is None or row.fence != fence:
            raise RunTakenOver(f"run {run.id} was taken over by another process", run_id=run.id)
        accounts = self._ledger.accounts
        changed: dict[str, int] = {}
        book(spends, lambda scope: changed.get(scope, accounts.get(scope, 0)), changed.__setitem__)
        accounts.update(changed)
        row.run = row.with_wish(run)
        row.events += events


class MemoryLedger:
    """The accounts of a MemoryStore."""

    def __init__(self, rows: Mapping[str, _Row]) -> None:
        self._rows = rows
        self.accounts: dict[str, int] = {}
        self.pruned: list[BillLine] = []

    async def fetch_spent(self, scopes: Collection[str] | None = None) -> dict[str, int]:
        """See Ledger."""
        if scopes is None:
            return dict(self.accounts)
        return {scope: self.accounts[scope] for scope in scopes if scope in self.accounts}

    async def list_entries(self, since: datetime, api_key: str | None = None) -> list[Entry]:
        """See Ledger."""
        runs = [row.run for row in self._rows.values() if api_key in (None, row.run.api_key)]
        entries = [entry for entry in list_run_entries(runs) if entry.at >= since]
        return sorted(entries, key=lambda entry: entry.at)

    async def reopen(self, run_id: str) -> Claimed:
        """See Ledger."""
        row = _find(self._rows, run_id)
        require_end(row.run)
        row.fence += 1
        return Claimed(row.run, row.fence)

    async def list_holders(self, backend: str, job_id: str, *, since: datetime) -> list[AttemptId]:
        """See Ledger."""
        runs = [row.run for row in self._rows.values()]
        recent = [run for run in runs if (end := get_end(run)[0]) is None or end >= since.timestamp()]
        attempts = [attempt for run in recent for attempt in run.attempts]
        return [attempt.id for attempt in attempts if is_holder(attempt, backend, job_id)]

    async def list_pruned(self, since: datetime, api_key: str | None = None) -> list[BillLine]:
        """See Ledger."""
        first = since.astimezone(UTC).date()
        lines = [line for line in self.pruned if line.day is not None and line.day >= first]
        return [line for line in lines if api_key in (None, line.key)]


class MemoryArchive:
    """The past of a MemoryStore."""

    def __init__(self, rows: dict[str, _Row], ledger: MemoryLedger) -> None:
        self._rows = rows
        self._ledger = ledger

    async def prune(self, which: Pruning, *, limit: int) -> int:
        """See Archive."""
        gone = self._find_prunable(which)[:limit]
        for run in gone:
            del self._rows[run.id]
            for scope in [scope for scope in self._ledger.accounts if scope.startswith(f"run:{run.id}|")]:
                del self._ledger.accounts[scope]
        self._ledger.pruned = make_bill(list_run_entries(gone), ALL_BY, self._ledger.pruned)
        return len(gone)

    async def count_prunable(self, which: Pruning) -> int:
        """See Archive."""
        return len(self._find_prunable(which))

    async def export(self, *, since: datetime | None = None) -> AsyncIterator[Run]:
        """See Archive."""
        for row in _sort(self._rows.values()):
            if since is None or row.run.created_at >= since:
                yield row.run

    def _find_prunable(self, which: Pruning) -> list[Run]:
        ended = [(row.run.ended_at, row.run) for row in self._rows.values() if row.run.ended_at is not None]
        ended.sort(key=lambda pair: pair[0])
        older = ended[: max(0, len(ended) - which.keep)]
        open_ids = {row.run.id for row in _list_open(self._rows)}
        return [
            run
            for at, run in older
            if at < which.ended_before
            and run.parent not in open_ids
            and (which.unresolved or is_resolved(run))
        ]


def _find(rows: Mapping[str, _Row], run_id: str) -> _Row:
    if run_id not in rows:
        raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
    return rows[run_id]


def _list_open(rows: Mapping[str, _Row]) -> list[_Row]:
    return _sort([row for row in rows.values() if not row.run.status.is_final])


def _sort(rows: Iterable[_Row]) -> list[_Row]:
    """Return them, oldest first."""
    return sorted(rows, key=lambda row: row.run.created_at)


def _fits(run: Run, which: RunFilter) -> bool:
    backend = run.attempt.backend if run.attempt else None
    return (
        which.phase in (None, run.status.phase)
        and which.status in (None, run.status)
        and which.model in (None, run.task.model)
        and which.backend in (None, backend)
        and which.idempotency_key in (None, run.idempotency_key)
        and which.api_key in (None, run.api_key)
        and (which.before is None or run.created_at < which.before)
    )
