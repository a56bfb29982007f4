"""Many callers, few requests: what is asked in the same moment is asked together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext
from typing import Any, Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Gather(Generic[ItemT, ResultT]):
    """Collects the items of callers that come within a moment, and runs them as one list.

    A caller that is cancelled leaves; what it asked for is done all the same, with the others'.

    Args:
        run: does the work; returns one result per item, in their order.
        window_seconds: how long the first caller waits for others.
        in_turn: one list at a time; what comes while one is under way shares the next.
    """

    def __init__(
        self,
        run: Callable[[list[ItemT]], Awaitable[Sequence[ResultT]]],
        *,
        window_seconds: float = 0.002,
        in_turn: bool = False,
    ) -> None:
        self._run = run
        self._window_seconds = window_seconds
        self._waiting: list[tuple[list[ItemT], asyncio.Future[list[ResultT]]]] = []
        self._turn = asyncio.Lock() if in_turn else nullcontext()
        self._flushes: set[asyncio.Task[None]] = set()

    async def ask(self, items: Sequence[ItemT]) -> list[ResultT]:
        """Return the results of these items. Raises what `run` raises."""
        if not items:
            return []
        future: asyncio.Future[list[ResultT]] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(items), future))
        if len(self._waiting) == 1:
            flush = asyncio.create_task(self._flush())
            self._flushes.add(flush)
            flush.add_done_callback(self._flushes.discard)
        return await future

    async def aclose(self) -> None:
        """End what is under way; those who still wait for it are cancelled."""
        flushes = list(self._flushes)
        for flush in flushes:
            flush.cancel()
        await asyncio.gather(*flushes, return_exceptions=True)
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            future.cancel()

    async def _flush(self) -> None:
        await asyncio.sleep(self._window_seconds)
        async with self._turn:
            waiting, self._waiting = self._waiting, []
            await self._finish(waiting)

    async def _finish(self, waiting: list[tuple[list[ItemT], asyncio.Future[list[ResultT]]]]) -> None:
        items = [item for some, _ in waiting for item in some]
        try:
            results = list(await self._run(items))
        except BaseException as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for some, future in waiting:
            if not future.done():
                future.set_result(results[start : start + len(some)])
            start += len(some)


class Shared(Generic[ResultT]):
    """One question at a time: who comes while it is under way shares the answer, or the error.

    A caller that is cancelled leaves; the question goes on for the others.

    Args:
        run: asks it.
    """

    def __init__(self, run: Callable[[], Coroutine[Any, Any, ResultT]]) -> None:
        self._run = run
        self._asking: asyncio.Task[ResultT] | None = None

    @property
    def is_asking(self) -> bool:
        """Say whether it is under way."""
        asking = self._asking
        return not (asking is None or asking.done() or asking.get_loop() is not asyncio.get_running_loop())

    async def ask(self) -> ResultT:
        """Return the answer. Raises what `run` raises."""
        asking = self._asking
        if asking is None or not self.is_asking:
            asking = self._asking = asyncio.create_task(self._run())
            asking.add_done_callback(_take_error)
        return await asyncio.shield(asking)


def _take_error(done: asyncio.Task[Any]) -> None:
    """Let nobody complain of an error that nobody waited for any more."""
    if not done.cancelled():
        done.exception()
