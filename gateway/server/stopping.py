"""The server's end, heard by whoever waits: long polls answer then, and streams end."""

from __future__ import annotations

import asyncio


class Stopping:
    """Is set once, when no new runs are taken any more."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._limits: set[asyncio.Timeout] = set()

    def set(self) -> None:
        """Tell all who wait, and all who come to wait."""
        self._told.set()
        for limit in list(self._limits):
            _end(limit)

    def is_set(self) -> bool:
        """Say whether the server is shutting down."""
        return self._told.is_set()

    async def wait(self) -> None:
        """Wait until the server shuts down."""
        await self._told.wait()

    def ends(self, limit: asyncio.Timeout) -> _Ends:
        """Let the server's end be the end of a time limit as well, while this is entered: TimeoutError.

        Many wait for runs: this costs each of them no task of its own.
        """
        return _Ends(self._limits, limit, is_set=self._told.is_set())


class _Ends:
    __slots__ = ("_limit", "_limits")

    def __init__(self, limits: set[asyncio.Timeout], limit: asyncio.Timeout, *, is_set: bool) -> None:
        self._limits, self._limit = limits, limit
        if is_set:
            _end(limit)

    def __enter__(self) -> None:
        self._limits.add(self._limit)

    def __exit__(self, *_: object) -> None:
        self._limits.discard(self._limit)


def _end(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(0.0)
