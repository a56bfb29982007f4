"""A limit on the time of many calls, with one timer for all of them; asyncio's sets one up for each."""

from __future__ import annotations

import asyncio
from types import TracebackType


class TimeLimit:
    """Ends calls that take longer than that, as `asyncio.timeout` does."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._calls: dict[_Call, float] = {}  # and when each is over; in that order
        self._is_looking = False

    def __call__(self) -> _Call:
        """Return what to make a call in: `with limit(): await it`. Raises TimeoutError there."""
        return _Call(self)

    def begin(self, call: _Call) -> None:
        """Let a call's time begin."""
        loop = asyncio.get_running_loop()
        self._calls[call] = loop.time() + self._seconds
        if not self._is_looking:
            self._is_looking = True
            loop.call_later(self._seconds, self._look, loop)

    def end(self, call: _Call) -> None:
        """Let a call be: it has come to its end."""
        self._calls.pop(call, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._calls:
            call, over_at = next(iter(self._calls.items()))
            if over_at > loop.time():
                loop.call_at(over_at, self._look, loop)
                return
            del self._calls[call]
            call.stop()
        self._is_looking = False


class _Call:
    __slots__ = ("_cancels", "_is_over", "_limit", "_task")

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit
        self._is_over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit holds in a task only")
        self._task, self._cancels = task, task.cancelling()
        self._limit.begin(self)

    def stop(self) -> None:
        self._is_over = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.end(self)
        if self._is_over and self._task.uncancel() <= self._cancels and kind is asyncio.CancelledError:
            raise TimeoutError from error
