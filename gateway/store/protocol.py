"""What survives a crash, behind one protocol.

A run belongs to one owner (a process) at a time. Taking it over raises its fence, and every write names the
fence that its writer knows: a write with an old one changes nothing and raises RunTakenOver.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from gateway.lifecycle import Phase, Status
from gateway.policy.budget import Spend
from gateway.policy.learning import Outcome
from gateway.store.archive import Archive
from gateway.store.ledger import Ledger
from gateway.store.shelf import Shelf
from gateway.task import Event, Run

SCHEMA_VERSION = 7
FIRST_FENCE = 1
"""Every new run's: whoever creates it may write on before the creation is on the disk."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that is ours now, with the fence to write with, and the number of its newest event."""

    run: Run
    fence: int
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller, in whatever process, wishes for a run; its owner sees to it.

    Attributes:
        run_id: which.
        cancel_at: since when it shall be cancelled; the first such wish counts.
        accept_answer: the answer to accept; the last such wish counts.
    """

    run_id: str
    cancel_at: datetime | None = None
    accept_answer: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which runs an owner can work on: a run stays where its job is, and needs its model if it has none yet.

    Attributes:
        places: (backend, address) of the configured backends.
        models: names in the catalogue.
    """

    places: frozenset[tuple[str, str]]
    models: frozenset[str]

    def covers(self, run: Run) -> bool:
        """Say whether a run can be worked on here."""
        if run.attempt is not None:
            return (run.attempt.backend, run.attempt.address) in self.places
        return run.task.model is None or run.task.model in self.models


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs to list, newest first. None means any.

    Attributes:
        phase: running, success or failed.
        status: exactly this status.
        model: the task's model.
        backend: the backend of the newest attempt.
        before: created before this time (for paging).
        before_id: with `before`: also those created at just that time, and written before the run of this id.
        idempotency_key: the run that has this key.
        api_key: whose runs, by the name of the caller's key.
        limit: at most so many.
    """

    phase: Phase | None = None
    status: Status | None = None
    model: str | None = None
    backend: str | None = None
    before: datetime | None = None
    before_id: str | None = None
    idempotency_key: str | None = None
    api_key: str | None = None
    limit: int = 50

    def make_next(self, last: Run) -> RunFilter:
        """Return the filter of the page behind the one that ends with this run."""
        return replace(self, before=last.created_at, before_id=last.id)


class Store(Protocol):
    """Where runs live. All times come from the caller; a store reads no clock.

    Every method that has returned, or whose future is done, has its effect on disk, if the store has one.
    Each may raise StoreError.

    `create` and `save` take a change when they are called, without waiting, and return a future. One run's
    changes are written in the order of the calls; several that wait together may be written as one, the
    newest state with all events and spends. If one fails, those behind it for the same run and fence fail
    with the same error, and are not written: they were made from it. After BudgetExceeded they are tried.
    """

    ledger: Ledger
    archive: Archive
    shelf: Shelf

    async def open(self) -> None:
        """Make ready; create or migrate the tables. Raises StoreTooNew."""

    def create(self, run: Run, *, owner: str) -> Awaitable[int]:
        """Write a new run down as `owner`'s and return its fence: FIRST_FENCE.

        Raises InvalidInput for a task that is not JSON, RunExists if its idempotency key is taken (by the
        run that it names), StoreError if there is a run of that id.
        """

    def save(
        self,
        run: Run,
        *,
        fence: int,
        events: Sequence[Event] = (),
        spends: Sequence[Spend] = (),
        soon: bool = True,
    ) -> Awaitable[None]:
        """Write a run's new state, what happened, and what it spends: all of it or nothing.

        What nobody waits for may be written `soon=False`: then it may be held back for some hundredths of a
        second, and goes with the run's next change if there is one by then.

        Raises RunTakenOver if the fence is old, BudgetExceeded if a budget has not enough left, InvalidInput
        for what is not JSON.
        """

    async def get(self, run_id: str) -> Run:
        """Return a run. Raises RunNotFound."""

    async def list_runs(self, which: RunFilter) -> list[Run]:
        """Return runs, newest first."""

    async def list_events(self, run_id: str, *, after: int = 0) -> list[Event]:
        """Return a run's stored events with seq > after, in order. Raises RunNotFound."""

    async def wish(self, wish: Wish) -> Run:
        """Note what a caller wishes for an open run, whoever owns it; return the run. Raises RunNotFound."""

    async def list_wishes(self, owner: str) -> list[Wish]:
        """Return the wishes for `owner`'s open runs."""

    async def claim(
        self, owner: str, scope: Scope, *, now: datetime, limit: int, dead: Sequence[str] = ()
    ) -> list[Claimed]:
        """Take over open runs in scope whose owner is nobody, in `dead`, or no longer beating.

        An owner is believed up to and including the time of its last beat. The oldest runs come first.
        """

    async def beat(self, owner: str, *, until: datetime) -> None:
        """Say that `owner` lives at least until then."""

    async def list_owners(self) -> list[str]:
        """Return the owners that have open runs."""

    async def release(self, owner: str) -> None:
        """Give up everything that `owner` holds, so that others may claim it at once."""

    async def list_outcomes(self, since: datetime) -> list[tuple[str, str, Outcome]]:
        """Return (backend, model, outcome) of attempts that may have landed and ended since, oldest first."""

    async def aclose(self) -> None:
        """Finish what is being written and close."""


LOOK_EVERY = timedelta(seconds=1)
"""How often an owner looks for wishes, and for runs that nobody looks after."""

LEASE_LASTS = timedelta(seconds=15)
"""How long an owner is believed after its last beat. On one machine a process's death is seen at once."""

SHARED_LEASE_LASTS = timedelta(seconds=3.5)
"""The same where an owner may be on another machine, whose death nobody sees."""
