"""The stand-in's own time: the real one, plus what a test has skipped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime


class Clock:
    """Seconds since the epoch. `skip` jumps ahead, and whoever sleeps until then wakes up at once."""

    def __init__(self) -> None:
        self._skipped_seconds = 0.0
        self._jump = asyncio.Event()

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return time.time() + self._skipped_seconds

    def skip(self, seconds: float) -> None:
        """Let `seconds` pass in no time: sessions expire, scheduled runs come due, sleepers wake."""
        self._skipped_seconds += seconds
        self._jump.set()
        self._jump = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`, less if `skip` jumps over them; always lets others run."""
        await self.sleep_until(self.now() + seconds)

    async def sleep_until(self, at: float) -> None:
        """Sleep until `at`, in seconds since the epoch."""
        await asyncio.sleep(0)
        while (left := at - self.now()) > 0:
            jump = self._jump
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await jump.wait()


def format_time(at: float) -> str:
    """Write seconds since the epoch as RFC 3339 in UTC, the way every `_at` field is written."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> float:
    """Read RFC 3339 into seconds since the epoch; a time without a zone is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
