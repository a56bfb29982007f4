"""Ask several, take the first good answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from gateway.clock import Clock
from gateway.errors import BackendError

_T = TypeVar("_T")


async def race(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, _T]]], *, stagger_seconds: float, clock: Clock
) -> _T:
    """Start one attempt after another and return the first that succeeds; the others are cancelled.

    The next one starts when the last is `stagger_seconds` old, or at once when any has failed. Raises an
    ExceptionGroup of their BackendErrors, in the order in which they came, if all fail; other errors at once.
    """
    queue, started = deque(attempts), set[asyncio.Task[_T]]()
    running, errors = set[asyncio.Task[_T]](), list[BackendError]()
    try:
        while queue or running:
            if queue:
                task = asyncio.create_task(queue.popleft()())
                started.add(task)
                running.add(task)
            done = await _wait_for_news(running, stagger_seconds if queue else None, clock)
            running -= done
            for task in done:
                try:
                    return task.result()
                except BackendError as error:
                    errors.append(error)
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)
    raise ExceptionGroup("nobody answered well", errors)


async def _wait_for_news(
    running: set[asyncio.Task[_T]], seconds: float | None, clock: Clock
) -> set[asyncio.Task[_T]]:
    """Wait until one has ended or the time is over; return those that have ended."""
    if seconds is None:
        return (await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))[0]
    timer = asyncio.create_task(clock.sleep(seconds))
    try:
        await asyncio.wait({*running, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return {task for task in running if task.done()}
