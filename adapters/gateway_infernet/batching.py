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
_Entry: TypeAlias = tuple[ItemT, "asyncio.Future[ResultT | BackendError]"]
Cut: TypeAlias = Callable[[Sequence[ItemT]], int]
"""How many of these items, from the first on, may go together; at least one."""

_PATIENCE_SECONDS = 1.0
_MOST_REQUESTS = 4


class Batcher(Generic[ItemT, ResultT]):
    """One request at a time, each with all that gathered during the one before.

    A request that takes longer than a second is overtaken, so that one that hangs does not hold up the rest.
    """

    def __init__(
        self,
        backend: str,
        send: Send[ItemT, ResultT],
        cut: Cut[ItemT],
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        """Make it; nothing runs until the first `add`."""
        self._backend = backend
        self._send = send
        self._cut = cut
        self._patience_seconds = patience_seconds
        self._waiting: list[_Entry[ItemT, ResultT]] = []
        self._senders: set[asyncio.Task[None]] = set()
        self._slow = 0

    async def add(self, item: ItemT) -> ResultT:
        """Send the item with its neighbours and return its own result. Raises its own error.

        If the caller is cancelled while the item still waits, it is never sent.
        """
        future: asyncio.Future[ResultT | BackendError] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._start_sender()
        result = await future
        if isinstance(result, BackendError):
            raise result
        return result

    async def add_many(self, items: Sequence[ItemT]) -> list[ResultT | BackendError]:
        """As `add` for many at once, and the errors are among the results."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[ResultT | BackendError]] = [loop.create_future() for _ in items]
        self._waiting += zip(items, futures, strict=True)
        self._start_sender()
        try:
            return [await future for future in futures]
        finally:
            for future in futures:
                future.cancel()

    async def aclose(self) -> None:
        """Stop: what is under way is in doubt, what waits was never sent."""
        waiting, self._waiting = self._waiting, []
        _fail(waiting, Unavailable("the adapter was closed before this was sent", backend=self._backend))
        senders = list(self._senders)
        for sender in senders:
            sender.cancel()
        if senders:
            await asyncio.wait(senders)

    def _start_sender(self) -> None:
        if self._waiting and len(self._senders) == self._slow and self._slow < _MOST_REQUESTS:
            sender = asyncio.create_task(self._send_all())  # who is ready before it starts comes along
            self._senders.add(sender)
            sender.add_done_callback(self._end_sender)

    def _end_sender(self, sender: asyncio.Task[None]) -> None:
        self._senders.discard(sender)
        self._start_sender()

    async def _send_all(self) -> None:
        was_slow = False
        # Who was overtaken leaves the rest to who overtook it.
        while not (was_slow and len(self._senders) - 1 > self._slow):
            self._waiting = [entry for entry in self._waiting if not entry[1].done()]
            if not self._waiting:
                return
            count = self._cut([item for item, _ in self._waiting])
            sent, self._waiting = self._waiting[:count], self._waiting[count:]
            was_slow = await self._send_timed(sent)

    async def _send_timed(self, sent: list[_Entry[ItemT, ResultT]]) -> bool:
        """Send, and let others overtake after a while; say whether that happened."""
        is_slow = False

        def let_overtake() -> None:
            nonlocal is_slow
            is_slow = True
            self._slow += 1
            self._start_sender()

        timer = asyncio.get_running_loop().call_later(self._patience_seconds, let_overtake)
        try:
            await self._send_some(sent)
        finally:
            timer.cancel()
            self._slow -= is_slow
        return is_slow

    async def _send_some(self, sent: list[_Entry[ItemT, ResultT]]) -> None:
        try:
            results = await self._send([item for item, _ in sent])
        except BackendError as error:
            _fail(sent, error)
            return
        except BaseException as error:
            what = "the adapter was closed" if isinstance(error, asyncio.CancelledError) else repr(error)
            _fail(sent, InDoubt(f"there is no answer: {what}", backend=self._backend))
            raise
        for entry, result in zip(sent, results, strict=True):
            if isinstance(result, BackendError):
                _fail([entry], result)
            elif not entry[1].done():
                entry[1].set_result(result)


def _fail(entries: Sequence[_Entry[ItemT, ResultT]], error: BackendError) -> None:
    """Give each waiter an error of its own: one that is raised in many tasks mixes their tracebacks."""
    for _, future in entries:
        if not future.done():
            own = copy.copy(error)
            own.__cause__ = error.__cause__
            future.set_result(own)
