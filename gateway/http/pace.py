"""How often streamed answers are read: in a crowd of fast ones, what comes meanwhile is read together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_SECONDS_EACH = 0.0001
_MOST_SECONDS = 0.005
_LEAST_SECONDS = 0.001  # what timers can tell apart
_LARGE_BYTES = 1 << 14  # more at once saves nothing


class Pace:
    """Makes a stream rest between two reads if it is faster than that, the longer the more there are.

    A piece that comes alone is never kept waiting, nor is any while few streams are open.

    Attributes:
        seconds: of a rest; 0.0 for none.
    """

    def __init__(self) -> None:
        self._open = 0
        self._resting: list[Callable[[], None]] = []
        self.seconds = 0.0

    def begin(self) -> None:
        """Count a stream that is open."""
        self._count(1)

    def end(self) -> None:
        """Count it no more."""
        self._count(-1)

    def rest(self, loop: asyncio.AbstractEventLoop, read_at: float, end: Callable[[], None]) -> bool:
        """Say whether a stream that has just been read has to rest; `end` is called when that is over.

        `read_at`: when it was read, or could be again, for the last time before, by the loop's clock.
        """
        if not self.seconds or loop.time() - read_at > self.seconds:
            return False
        if not self._resting:  # all that rest are read together
            loop.call_later(self.seconds, self._end_rests)
        self._resting.append(end)
        return True

    def _count(self, more: int) -> None:
        self._open += more
        seconds = min(self._open * _SECONDS_EACH, _MOST_SECONDS)
        self.seconds = seconds if seconds >= _LEAST_SECONDS else 0.0

    def _end_rests(self) -> None:
        resting, self._resting = self._resting, []
        for end in resting:
            end()


class Reading:
    """Whether one connection is read: not while too much of what came lies there, nor while it rests."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pace: Pace, transport: asyncio.ReadTransport) -> None:
        self._loop, self._pace, self._transport = loop, pace, transport
        self._is_full = self._rests = False
        self._read_at = 0.0

    def note(self, size: int, *, is_full: bool) -> None:
        """Note that so many bytes of a stream came, and whether that is as much as may be kept."""
        self._is_full = self._is_full or is_full
        if size < _LARGE_BYTES and self._pace.rest(self._loop, self._read_at, self._end_rest):
            self._rests = True
        self._read_at = self._loop.time()
        if self._is_full or self._rests:
            self._transport.pause_reading()

    def note_taken(self) -> None:
        """Note that all that came was taken."""
        if self._is_full:
            self._is_full = False
            self._go_on()

    def _end_rest(self) -> None:
        self._rests, self._read_at = False, self._loop.time()
        self._go_on()

    def _go_on(self) -> None:
        if not (self._is_full or self._rests or self._transport.is_closing()):
            self._transport.resume_reading()
