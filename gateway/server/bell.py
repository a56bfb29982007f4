"""What a reader waits with: for something new, but not in silence for too long."""

from __future__ import annotations

import asyncio
import math


class Bell:
    """Wakes the one task that waits. Most waits are short: one timer serves many of them."""

    __slots__ = ("_loop", "_seconds", "_silent_at", "_timer", "_waiter")

    def __init__(self, seconds: float) -> None:
        """Make it in the event loop; `seconds` is the longest silence, and may be infinite."""
        self._loop = asyncio.get_running_loop()
        self._seconds = self._silent_at = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[bool] | None = None

    def ring(self) -> None:
        """Wake who waits; nothing is kept for one who will."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    async def wait(self) -> bool:
        """Wait until it rings; False after a silence."""
        waiter = self._waiter = self._loop.create_future()
        self._silent_at = self._loop.time() + self._seconds
        if self._timer is None and self._seconds < math.inf:
            self._timer = self._loop.call_at(self._silent_at, self._look)
        try:
            has_rung: bool = await waiter
        finally:
            self._waiter = None
        return has_rung

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return  # the next wait sets it again
        if self._silent_at > self._loop.time():
            self._timer = self._loop.call_at(self._silent_at, self._look)
        else:
            self._waiter.set_result(False)
