"""A store and an adapter that kill, or pause, their process at one of their calls; they are not changed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from benchmarks.kill_matrix.points import At, Point, Write
from gateway.adapter import Adapter
from gateway.lifecycle import AttemptStatus
from gateway.store.protocol import Store
from gateway.task import Attempt, Event, Handle, Run, Snapshot

_ResultT = TypeVar("_ResultT")
_WRITING_SECONDS = 0.5


class Strike:
    """What happens to this process at its point, once: the end, as by `kill -9`, or a pause until SIGCONT."""

    def __init__(self, point: Point, *, pauses: bool) -> None:
        self._point: Point | None = point
        self._signal = signal.SIGSTOP if pauses else signal.SIGKILL

    def is_at(self, at: At, write: Write | None = None) -> bool:
        """Say whether this is the point, and it was not reached yet."""
        return self._point is not None and (self._point.at, self._point.write) == (at, write)

    def reach(self, at: At, write: Write | None = None) -> None:
        """Strike, if this is the point. No handler runs, nothing is flushed.

        A process that is paused in the middle of a write keeps SQLite's lock from everybody, which is another
        fault than this: so what its writer has in hand is let through before.
        """
        if self.is_at(at, write):
            self._point = None
            if self._signal is signal.SIGSTOP:
                time.sleep(_WRITING_SECONDS)
            os.kill(os.getpid(), self._signal)


class DeadlyStore:
    """Passes everything on to a store, in order, and strikes before or after one write."""

    def __init__(self, store: Store, strike: Strike) -> None:
        self._store, self._strike = store, strike
        self._seen: dict[str, Run] = {}
        self._created: asyncio.Future[int] | None = None

    def __getattr__(self, name: str) -> Any:
        """Be the store in all that is not a write."""
        return getattr(self._store, name)

    def create(self, run: Run, *, owner: str) -> Awaitable[int]:
        """Write a run down, or be struck."""
        self._strike.reach(At.STORE_BEFORE, Write.RUN)
        creating = self._strike_after(self._store.create(run, owner=owner), Write.RUN)
        self._created = asyncio.ensure_future(creating)
        return self._created

    def save(self, run: Run, **words: Any) -> Awaitable[None]:
        """Write a run's change down, or be struck; never before the run itself is written."""
        write = name_write(self._seen.get(run.id), run)
        self._seen[run.id] = run
        if self._strike.is_at(At.STORE_BEFORE, write) and self._created is not None:
            return self._strike_before(self._created, run, write, words)
        self._strike.reach(At.STORE_BEFORE, write)
        return self._strike_after(self._store.save(run, **words), write)

    async def _strike_before(
        self, created: asyncio.Future[int], run: Run, write: Write, words: dict[str, Any]
    ) -> None:
        await created
        self._strike.reach(At.STORE_BEFORE, write)
        await self._store.save(run, **words)

    async def _strike_after(self, work: Awaitable[_ResultT], write: Write) -> _ResultT:
        result = await work
        self._strike.reach(At.STORE_AFTER, write)
        return result


def name_write(before: Run | None, run: Run) -> Write:
    """Say what a write of this run is about."""
    old, new = before.attempt if before else None, run.attempt
    if run.status.is_final:
        return Write.END
    if new is None:
        return Write.OTHER
    if old is None or old.id != new.id:
        return Write.ENVELOPE if new.status is AttemptStatus.PREPARED else Write.OTHER
    return _name_change(old, new)


def _name_change(old: Attempt, new: Attempt) -> Write:
    if new.handle is not None and old.handle is None:
        return Write.HANDLE
    if new.accept is not None and old.accept is None:
        return Write.ACCEPT
    return Write.SNAPSHOT if new.snapshot != old.snapshot else Write.OTHER


def strike_looking(adapter: Adapter[Any], strike: Strike) -> None:
    """Strike when the first news of a job are there, by polling or from its events."""
    poll, events = adapter.poll, adapter.events

    async def poll_and_stop(handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        found = await poll(handles)
        strike.reach(At.LOOK)
        return found

    async def follow_and_stop(handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:
        async for event in events(handle, after=after):
            strike.reach(At.LOOK)
            yield event

    adapter.poll, adapter.events = poll_and_stop, follow_and_stop  # type: ignore[method-assign]  # it is the aim
