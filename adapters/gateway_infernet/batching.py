"""Natural batching: what comes while a request is under way goes together in the next one.

Nothing is waited for where there is nothing to wait for: a lone item leaves in the same turn of the loop, and
under load the batches grow by themselves to what arrives during one round trip.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from gateway.errors import BackendError, InDoubt, Unavailable

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

Send: TypeAlias = Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | BackendError]]]
"""Send items together; one result or error per item, in order. Raising means the same error for each."""
Cut: TypeAlias = Callable[[Sequence[ItemT]], int]
"""How many of these items, from the first on, may go together; at least one."""


class Batcher(Generic[ItemT, ResultT]):
    """One request at a time, each with all that gathered during the one before."""

    def __init__(self, send: Send[ItemT, ResultT], cut: Cut[ItemT]) -> None:
        """Make it; nothing runs until the first `add`."""
        self._send = send
        self._cut = cut
        self._waiting: list[tuple[ItemT, asyncio.Future[ResultT]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def add(self, item: ItemT) -> ResultT:
        """Send the item with its neighbours and return its own result. Raises its own error.

        If the caller is cancelled while the item still waits, it is never sent.
        """
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
        return await future

    async def aclose(self) -> None:
        """Stop: what is under way is in doubt, what waits was never sent."""
        if self._sender is not None and not self._sender.done():
            self._sender.cancel()
            await asyncio.wait([self._sender])

    async def _send_all(self) -> None:
        await asyncio.sleep(0)  # those that are ready in this turn of the loop come along
        sent: list[tuple[ItemT, asyncio.Future[ResultT]]] = []
        try:
            while self._waiting:
                self._waiting = [entry for entry in self._waiting if not entry[1].done()]
                if not self._waiting:
                    return
                count = self._cut([item for item, _ in self._waiting])
                sent, self._waiting = self._waiting[:count], self._waiting[count:]
                await self._send_some(sent)
        except BaseException:
            _fail(sent, InDoubt("the adapter was closed before the answer came"))
            _fail(self._waiting, Unavailable("the adapter was closed before this was sent"))
            self._waiting = []
            raise

    async def _send_some(self, sent: list[tuple[ItemT, asyncio.Future[ResultT]]]) -> None:
        try:
            results = await self._send([item for item, _ in sent])
        except BackendError as error:
            _fail(sent, error)
            return
        for (_, future), result in zip(sent, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BackendError):
                future.set_exception(result)
            else:
                future.set_result(result)


def _fail(entries: list[tuple[ItemT, asyncio.Future[ResultT]]], error: BackendError) -> None:
    """Give each waiter an error of its own: one that is raised in many tasks mixes their tracebacks."""
    for _, future in entries:
        if not future.done():
            own = copy.copy(error)
            own.__cause__ = error.__cause__
            future.set_exception(own)
