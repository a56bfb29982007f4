"""The server's end, heard by whoever waits: long polls answer then, and streams end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial


class Stopping:
    """Is set once, when no new runs are taken any more."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._stops: set[Callable[[], None]] = set()

    def set(self) -> None:
        """Tell all who wait, and all who come to wait."""
        self._told.set()
        for stop in list(self._stops):
            stop()

    def is_set(self) -> bool:
        """Say whether the server is shutting down."""
        return self._told.is_set()

    async def wait(self) -> None:
        """Wait until the server shuts down."""
        await self._told.wait()

    def calls(self, stop: Callable[[], None]) -> _Calls:
        """Call a function at the server's end, while this is entered; at once if that was before.

        Many wait for runs: this costs each of them no task of its own.
        """
        return _Calls(self._stops, stop, is_set=self._told.is_set())

    def ends(self, limit: asyncio.Timeout) -> _Calls:
        """Let the server's end be the end of a time limit as well, while this is entered: TimeoutError."""
        return self.calls(partial(_end, limit))


class _Calls:
    __slots__ = ("_stop", "_stops")

    def __init__(self, stops: set[Callable[[], None]], stop: Callable[[], None], *, is_set: bool) -> None:
        self._stops, self._stop = stops, stop
        if is_set:
            stop()

    def __enter__(self) -> None:
        self._stops.add(self._stop)

    def __exit__(self, *_: object) -> None:
        self._stops.discard(self._stop)


def _end(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(0.0)
