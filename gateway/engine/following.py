"""Reads the events of jobs whose backends tell them as they come."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

from gateway.adapter import Adapter
from gateway.engine.accepting import Accepting
from gateway.engine.ending import Ending
from gateway.engine.journal import Journal
from gateway.engine.live import Live
from gateway.engine.seam import guarding
from gateway.errors import BackendError, NotSupported, RunTakenOver, StoreError
from gateway.observe.context import WORKING_ON
from gateway.task import Event, Snapshot

_MOST_FOLLOWED = 64


class Following:
    """Follows jobs at one backend; each as long as its events come.

    `look_now` is called when they come no more, whatever the reason: then the job is looked at, or let go of.
    """

    def __init__(
        self,
        adapter: Adapter[Any],
        journal: Journal,
        ending: Ending,
        accepting: Accepting,
        look_now: Callable[[Live], None],
    ) -> None:
        self._adapter = adapter
        self._journal = journal
        self._ending = ending
        self._accepting = accepting
        self._look_now = look_now
        self._followers: set[asyncio.Task[None]] = set()

    @property
    def has_room(self) -> bool:
        """Say whether another job can be followed that would do without."""
        return len(self._followers) < _MOST_FOLLOWED

    def begin(self, live: Live) -> None:
        """Follow a job; `live.following` tells for how long."""
        live.following = True
        live.ran_until = math.inf  # it is not looked at, so looks tell nothing of when it ended
        follower = asyncio.create_task(self._follow(live))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)

    async def aclose(self) -> None:
        """Stop following; the jobs go on."""
        for follower in list(self._followers):
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)

    async def _follow(self, live: Live) -> None:
        """Read a job's events as they come; whatever ends that, the watcher looks on."""
        WORKING_ON.set(live)
        try:
            handle = live.run.attempt.handle if live.run.attempt else None
            if handle is not None:
                with guarding("events"):
                    await self._read(live, self._adapter.events(handle))
        except (BackendError, NotSupported, StoreError, RunTakenOver):
            live.failed_looks = 0  # the stream is gone, not the job: look at it now, if it is still ours
        except Exception as error:  # noqa: BLE001  as above: a broken stream is no news
            self._ending.report_broken(self._adapter.name, error)
        finally:
            live.following = False
        self._look_now(live)

    async def _read(self, live: Live, events: AsyncIterator[Event]) -> None:
        """Take events in as they come, until there is nothing more to see."""
        async for event in events:
            if not live.has_landed:
                return
            if event.kind == "piece":
                live.pieces_out = True
                live.pass_on(event)
            elif event.snapshot is not None and await self._take_snapshot(live, event.snapshot):
                return

    async def _take_snapshot(self, live: Live, snapshot: Snapshot) -> bool:
        """Note a look at the job; says whether it was the last."""
        if snapshot.status.is_final:
            last = await self._accepting.settle(live, self._adapter, snapshot)
            await self._ending.end_attempt(live, last)
            return True
        await self._journal.note(live, snapshot)
        await self._accepting.consider(live, self._adapter, snapshot)
        return False
