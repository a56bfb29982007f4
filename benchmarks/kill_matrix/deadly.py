"""A store and an adapter that kill their process at one of their calls; they themselves are not changed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from benchmarks.kill_matrix.points import At, Point, Write
from gateway.adapter import Adapter
from gateway.lifecycle import AttemptStatus
from gateway.store.protocol import Store
from gateway.task import Attempt, Event, Handle, Run, Snapshot

T = TypeVar("T")


def die() -> None:
    """End this process as `kill -9` does: no handler runs, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlyStore:
    """Passes everything on to a store, and kills the process before or after one write."""

    def __init__(self, store: Store, point: Point) -> None:
        self._store, self._point = store, point
        self._seen: dict[str, Run] = {}

    def __getattr__(self, name: str) -> Any:
        """Be the store in all that is not a write."""
        return getattr(self._store, name)

    def create(self, run: Run, *, owner: str) -> asyncio.Future[int]:
        """Write a run down, or die."""
        self._strike(At.STORE_BEFORE, Write.RUN)
        return self._die_after(self._store.create(run, owner=owner), Write.RUN)

    def save(self, run: Run, **words: Any) -> asyncio.Future[None]:
        """Write a run's change down, or die."""
        write = name_write(self._seen.get(run.id), run)
        self._seen[run.id] = run
        self._strike(At.STORE_BEFORE, write)
        return self._die_after(self._store.save(run, **words), write)

    def _die_after(self, written: Awaitable[T], write: Write) -> asyncio.Future[T]:
        """Strike when it is on the disk, before anybody else hears of that."""
        future = asyncio.ensure_future(written)
        future.add_done_callback(lambda _: self._strike(At.STORE_AFTER, write))
        return future

    def _strike(self, at: At, write: Write) -> None:
        if (self._point.at, self._point.write) == (at, write):
            die()


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


def die_looking(adapter: Adapter[Any]) -> None:
    """Let the process be killed when the first news of a job are there, by polling or from its events."""
    poll, events = adapter.poll, adapter.events

    async def poll_and_die(handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        found = await poll(handles)
        die()
        return found

    async def follow_and_die(handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:
        async for event in events(handle, after=after):
            die()
            yield event

    adapter.poll, adapter.events = poll_and_die, follow_and_die  # type: ignore[method-assign]  # it is the aim
