"""Every change of a run goes through here: the table allows it, the store has it, then others hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any, Literal

from gateway.clock import Clock
from gateway.engine.live import NOBODYS, Live
from gateway.errors import CostOutcome, InvalidInput, RunTakenOver, StoreError
from gateway.lifecycle import AttemptStatus, Status, advance_attempt, advance_run, can_follow
from gateway.observe.observer import NOBODY, Observer
from gateway.policy.budget import Accounting, Spend
from gateway.store.protocol import Store
from gateway.task import Attempt, Cost, Event, Failure, FailureKind, Handle, Run, Snapshot
from gateway.types import AttemptId

_CLOCKS_DIFFER = timedelta(minutes=5)  # of a backend and of other processes, at most
_ENDS = {
    Status.COMPLETED: AttemptStatus.SUCCEEDED,
    Status.FAILED: AttemptStatus.FAILED,
    Status.CANCELLED: AttemptStatus.CANCELLED,
    Status.REJECTED: AttemptStatus.FAILED,
}


class Journal:
    """Writes what happened to a run into the store, before anybody acts on it."""

    def __init__(self, store: Store, clock: Clock, owner: str, accounting: Accounting | None = None) -> None:
        self._store = store
        self._accounting = accounting or Accounting()
        self._clock = clock
        self.owner = owner
        self.is_believed: Callable[[], bool] = lambda: True
        self.count_silences: Callable[[], int] = lambda: 0
        self.on_attempt_end: Callable[[Attempt], None] | None = None
        self.on_unwritten: Callable[[Live], None] = _ignore
        self.observer: Observer = NOBODY

    def now(self) -> datetime:
        """Return the time that is written down."""
        return self._clock.now()

    def create(self, live: Live) -> asyncio.Future[int]:
        """Write a new run down, and what is saved of it meanwhile after it, or with it; await the result.

        If it can't be written (RunExists, StoreError), `live` is dropped: nothing was sent for it.
        """
        run = live.run

        def note_created(created: asyncio.Future[int]) -> None:
            if created.cancelled():
                return  # its caller went away; it was, or will be, written all the same
            if created.exception() is None:
                self.observer.note_change(None, run, None)
            else:
                live.fence = NOBODYS
                live.drop()

        created = asyncio.ensure_future(self._store.create(run, owner=self.owner))
        created.add_done_callback(note_created)
        return created

    async def save(
        self,
        live: Live,
        *,
        status: Status | None = None,
        attempt: Attempt | None = None,
        snapshot: Snapshot | None = None,
        spends: Sequence[Spend] = (),
        **changes: Any,
    ) -> Run:
        """Change a run: its status (by the table), its newest attempt, and any other field.

        Raises:
            RunTakenOver: somebody else has it; `live` is dropped.
            BudgetExceeded: a budget has not enough left for `spends`; nothing has changed.
            StoreError: it could not be written; nothing has changed.
        """
        before, (run, events) = live.run, self._change(live, status, attempt, snapshot, changes)
        told, live.silences = (*live.unwritten, *events), self.count_silences()
        began = perf_counter() if self.observer.times_commits else 0.0
        try:
            await self._store.save(run, fence=live.fence, events=told, spends=spends)
        except RunTakenOver:
            live.drop()
            raise
        if attempt is not None and attempt.status.is_final and self.on_attempt_end is not None:
            self.on_attempt_end(attempt)
        if began:
            self.observer.note_commit(perf_counter() - began)
        live.run = run
        live.seq += len(events)
        live.unwritten = ()
        self._tell(live, before, run, told)
        return run

    def note_landed(self, live: Live, handle: Handle, *, soon: bool) -> None:
        """Note where the job of the newest attempt lives, and write it down without being waited for.

        It would be found at the backend again after a crash; unless the backend knows for certain, `soon`.
        What is saved after it goes after it. If it can't be written, `on_unwritten` is told, and the next
        change that can be brings it along.
        """
        attempt = get_attempt(live)
        landed = attempt.replace(
            status=advance_attempt(attempt.status, AttemptStatus.SUBMITTED),
            handle=handle,
            submitted_at=self._clock.now(),
            failure=None,  # of a doubt that is over
        )
        before, (run, events) = live.run, self._change(live, None, landed, None, {})
        live.run = run
        live.seq += len(events)

        def note_written(written: asyncio.Future[None]) -> None:
            error = None if written.cancelled() else written.exception()
            if error is None:
                self._tell(live, before, run, events)
            elif isinstance(error, StoreError):
                live.unwritten = (*live.unwritten, *events)
                self.on_unwritten(live)
            elif not live.dropped:
                live.drop()

        written = asyncio.ensure_future(self._store.save(run, fence=live.fence, events=events, soon=soon))
        written.add_done_callback(note_written)

    def _change(
        self,
        live: Live,
        status: Status | None,
        attempt: Attempt | None,
        snapshot: Snapshot | None,
        changes: dict[str, Any],
    ) -> tuple[Run, list[Event]]:
        """Return a run as it is after a change, and what is told of it. Raises RunTakenOver if it is lost."""
        if live.dropped:
            raise RunTakenOver(f"run {live.run.id} is not ours any more", run_id=live.run.id)
        run, now, seq = live.run, self._clock.now(), live.seq
        events: list[Event] = []
        if attempt is not None:
            if _is_news(run.attempt, attempt):
                message = f"{attempt.status}{f': {attempt.failure.message}' if attempt.failure else ''}"
                number, backend, seq = attempt.number, attempt.backend, seq + 1
                event = Event(
                    seq=seq,
                    run_id=run.id,
                    at=now,
                    kind="attempt",
                    attempt=number,
                    backend=backend,
                    message=message,
                )
                events.append(event)
            changes["attempts"] = run.put_attempt(attempt)
        if snapshot is not None:
            seq += 1
            events.append(Event(seq=seq, run_id=run.id, at=now, kind="snapshot", snapshot=snapshot))
        if status is None or status is run.status:
            return run.replace(updated_at=now, **changes), events
        status = advance_run(run.status, status)
        kind: Literal["end", "status"] = "end" if status.is_final else "status"
        events.append(Event(seq=seq + 1, run_id=run.id, at=now, kind=kind, status=status))
        changes["passed"] = (*run.passed, (status, now))
        return run.replace(status=status, updated_at=now, **changes), events

    def _tell(self, live: Live, before: Run, run: Run, events: Sequence[Event]) -> None:
        self.observer.note_change(before, run, live.watch)
        live.publish(*events)

    async def confirm(self, live: Live) -> None:
        """Make sure that a run is still ours, after a pause in which it may have been taken over.

        Raises:
            RunTakenOver: it is not; nothing may be sent for it.
            StoreError: nobody knows.
        """
        while not self.is_believed() or live.silences != self.count_silences():
            await self.save(live)
            if live.silences == self.count_silences():
                return

    async def fetch_other_holder(self, live: Live, handle: Handle) -> AttemptId | None:
        """Return another attempt that has a job, of whatever process: one job is not paid for twice."""
        own = get_attempt(live)
        since = own.created_at - _CLOCKS_DIFFER
        holders = await self._store.ledger.list_holders(handle.backend, handle.job_id, since=since)
        return next((holder for holder in holders if holder != own.id), None)

    async def move_attempt(
        self,
        live: Live,
        status: AttemptStatus,
        *,
        run_status: Status | None = None,
        snapshot: Snapshot | None = None,
        ends: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Attempt:
        """Change the newest attempt's status (by the table) and fields; `ends` are those of the run's end."""
        attempt = get_attempt(live)
        if status is AttemptStatus.IN_DOUBT:
            changes["doubted"] = True
        if status.is_final:
            changes["ended_at"] = self._clock.now()
        if snapshot is not None:
            changes["snapshot"] = snapshot
        attempt = attempt.replace(status=advance_attempt(attempt.status, status), **changes)
        spends = self._accounting.settle(attempt, self._clock.now()) if status.is_final else ()
        await self.save(
            live, status=run_status, attempt=attempt, snapshot=snapshot, spends=spends, **(ends or {})
        )
        return attempt

    async def note(self, live: Live, snapshot: Snapshot) -> bool:
        """Write down a look at a job that goes on, if it changes anything; says whether it did."""
        async with live.changing:
            attempt = live.run.attempt
            if attempt is None or not live.has_landed or attempt.snapshot == snapshot:
                return False
            status = snapshot.status if can_follow(live.run.status, snapshot.status) else None
            seen = attempt.replace(snapshot=snapshot)
            try:
                await self.save(live, status=status, attempt=seen, snapshot=snapshot)
            except InvalidInput:  # no store can keep what it has said so far; that it goes on, any can
                bare = Snapshot(status=snapshot.status)
                if attempt.snapshot == bare:
                    return False
                seen = attempt.replace(snapshot=bare)
                await self.save(live, status=status, attempt=seen, snapshot=bare)
            return True

    async def end(self, live: Live, status: Status, failure: Failure | None = None) -> Run:
        """End a run that has no attempt under way."""
        return await self.save(live, status=status, failure=failure, ended_at=self._clock.now())

    def make_end(self, status: Status, output: Any = None, failure: Failure | None = None) -> dict[str, Any]:
        """Return the fields of a run's end."""
        return (
            {"output": output, "failure": failure, "ended_at": self._clock.now()} if status.is_final else {}
        )


def get_attempt(live: Live) -> Attempt:
    """Return the newest attempt of a run that has one."""
    attempt = live.run.attempt
    if attempt is None:
        raise RuntimeError(f"run {live.run.id} has no attempt")
    return attempt


def _is_news(before: Attempt | None, attempt: Attempt) -> bool:
    """Say whether an attempt is new, or its status."""
    return before is None or before.number != attempt.number or before.status is not attempt.status


def _ignore(_: Live) -> None:
    """Nobody insists."""


def get_attempt_end(snapshot: Snapshot) -> AttemptStatus:
    """Return what a final look means for the attempt."""
    if snapshot.failure is not None and snapshot.failure.kind is FailureKind.LOST:
        return AttemptStatus.LOST
    return _ENDS[snapshot.status]


def settle(cost: Cost, snapshot: Snapshot) -> Cost:
    """Return the cost of an attempt after its final look: the backend's word, else what the quote proves."""
    told = snapshot.cost
    if told is not None and (told.settled is not None or told.outcome is not CostOutcome.CHARGED):
        return cost.replace(settled=told.settled, outcome=told.outcome, evidence=told.evidence)
    if told is not None:  # charged, in units that are no money: the quote is what is known of the price
        evidence = {"from": "the quoted price per job", "told": told.evidence}
        return cost.replace(settled=cost.quoted, outcome=CostOutcome.CHARGED, evidence=evidence)
    if cost.outcome is CostOutcome.NOT_CHARGED:
        return cost
    if snapshot.status is Status.COMPLETED and cost.quoted is not None:
        return cost.replace(
            settled=cost.quoted,
            outcome=CostOutcome.CHARGED,
            evidence={"from": "the quoted price per job"},
        )
    if snapshot.status is Status.REJECTED:
        return cost.replace(outcome=CostOutcome.NOT_CHARGED, evidence={"from": "refused at admission"})
    return cost


def is_over(run: Run, now: datetime) -> bool:
    """Say whether a run's deadline has passed."""
    return run.deadline_at is not None and now >= run.deadline_at
