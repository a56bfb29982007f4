"""A clock that jumps: an hour of polling takes a millisecond."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_START_AT = datetime(2030, 1, 1, tzinfo=UTC)


class FakeClock:
    """A `gateway.clock.Clock` whose time passes only when nobody has anything else to do.

    Whenever the event loop has nothing ready and somebody sleeps on this clock, it jumps to the next sleeper
    that is due. What the loop can't see (a thread that works and will complete a future, a real process that
    will answer) is told with `hold()`, or given `settle_seconds` of real time to show up. Timers of asyncio
    itself are not slept on this clock, and are not waited for.

    Without `autojump` time passes by `advance` and `pass_time` only.
    """

    def __init__(
        self,
        start_at: datetime = _START_AT,
        *,
        autojump: bool = True,
        settle_rounds: int = 3,
        settle_seconds: float = 0.0,
        horizon: timedelta = timedelta(days=30),
    ) -> None:
        """Make a clock that stands still.

        Args:
            start_at: the first `now()`, aware.
            autojump: jump when the loop is idle.
            settle_rounds: iterations of the loop that must find nothing to do before a jump.
            settle_seconds: real seconds for which that must hold; for tests with threads or processes.
            horizon: a jump beyond this raises RuntimeError in the sleeper, so that a loop without an end is
                a failed test and not a hanging one.
        """
        self._start_at = start_at
        self._autojump = autojump
        self._settle_rounds = settle_rounds
        self._settle_seconds = settle_seconds
        self._horizon_seconds = horizon.total_seconds()
        self._passed_seconds = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking = False
        self._held = 0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the wall clock, aware."""
        return self._start_at + timedelta(seconds=self._passed_seconds)

    def monotonic(self) -> float:
        """Return the seconds that have passed since the clock was made."""
        return self._passed_seconds

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has moved on by that much; `math.inf` waits until cancelled."""
        if seconds <= 0:
            return await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        if seconds < math.inf:
            heapq.heappush(self._sleepers, (self._passed_seconds + seconds, next(self._order), woken))
            self._watch(loop)
        return await woken

    def advance(self, seconds: float) -> None:
        """Move the clock at once and wake whoever is due, in order of their times; on the loop's thread only.

        Who is woken finds the clock at its new place; use `pass_time` to stop at each sleeper on the way.
        """
        self._move(self._passed_seconds + seconds)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass step by step: stop at each due sleeper and let everybody act before going on."""
        end = self._passed_seconds + seconds
        await self._settle()
        while (due := self._get_next_due()) is not None and due <= end:
            self._move(due)
            await self._settle()
        self._move(max(end, self._passed_seconds))
        await self._settle()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Forbid jumps inside the block: something real is under way. May be nested; works in any thread."""
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._watch, self._loop)

    async def _settle(self) -> None:
        quiet = 0
        while quiet <= self._settle_rounds or self._held:
            await asyncio.sleep(0)
            quiet = 0 if _is_busy(asyncio.get_running_loop()) else quiet + 1

    def _get_next_due(self) -> float | None:
        while self._sleepers and self._sleepers[0][2].done():  # cancelled sleepers
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _move(self, passed_seconds: float) -> None:
        if passed_seconds < self._passed_seconds:
            raise ValueError("a clock does not go back")
        self._passed_seconds = passed_seconds
        while (due := self._get_next_due()) is not None and due <= passed_seconds:
            heapq.heappop(self._sleepers)[2].set_result(None)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:  # a new test, a new loop: nobody of the old one sleeps any more
            self._sleepers = [entry for entry in self._sleepers if entry[2].get_loop() is loop]
            self._loop, self._looking = loop, False
        if self._autojump and not self._looking and not self._held and self._get_next_due() is not None:
            self._looking = True
            loop.call_soon(self._look, loop, 0, time.monotonic())

    def _look(self, loop: asyncio.AbstractEventLoop, quiet_rounds: int, quiet_since: float) -> None:
        """Run once in each iteration of the loop until there was nothing else to do for long enough."""
        due = self._get_next_due()
        if self._held or due is None or loop is not self._loop:
            self._looking = False
        elif _is_busy(loop):
            loop.call_soon(self._look, loop, 0, time.monotonic())
        elif quiet_rounds < self._settle_rounds or time.monotonic() - quiet_since < self._settle_seconds:
            loop.call_soon(self._look, loop, quiet_rounds + 1, quiet_since)
        else:
            self._looking = False
            self._jump(due)
            self._watch(loop)

    def _jump(self, due: float) -> None:
        if due <= self._horizon_seconds:
            return self._move(due)
        woken = heapq.heappop(self._sleepers)[2]
        woken.set_exception(
            RuntimeError(f"somebody sleeps beyond {self._horizon_seconds} s: an endless loop?")
        )
        return None


def _is_busy(loop: asyncio.AbstractEventLoop) -> bool:
    """Say whether the loop has callbacks to run, besides the one that asks.

    asyncio has no public word for that. A loop without this list gets by with the settling rounds.
    """
    return bool(getattr(loop, "_ready", ()))
