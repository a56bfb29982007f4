"""What a task waits with: for something new, but not in silence for too long."""

from __future__ import annotations

import asyncio
from contextvars import Context


class Bell:
    """Wakes the one task that waits. Most waits are short: a timer is left to fire, and serves many of them.

    Attributes:
        heard_at: when anything was heard last, by the loop's clock; a silence counts from then.
    """

    __slots__ = ("_loop", "_nobodys", "_seconds", "_timer", "_waiter", "heard_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._seconds: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._nobodys = Context()  # the timer outlives a wait: that of who waits would be kept with it
        self.heard_at = 0.0

    def hear(self) -> None:
        """Note that something was heard, whether it is worth waking for or not."""
        self.heard_at = self._loop.time()

    def ring(self) -> None:
        """Wake who waits; nothing is kept for one who will."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    async def wait(self, seconds: float | None) -> bool:
        """Wait until it rings; False once nothing was heard for so long (None: for however long)."""
        self._waiter, self._seconds = self._loop.create_future(), seconds
        if seconds is not None:
            self._look_at(self.heard_at + seconds)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, at: float) -> None:
        if self._timer is None or at < self._timer.when():
            self.close()
            self._timer = self._loop.call_at(at, self._look, context=self._nobodys)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done() or self._seconds is None:
            return  # the next wait has a timer of its own
        silent_at = self.heard_at + self._seconds
        if silent_at > self._loop.time():
            self._look_at(silent_at)
        else:
            self._waiter.set_result(False)
