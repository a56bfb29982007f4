"""Pieces of output from copies of a task: whoever speaks first is listened to, and nobody else from then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.engine.live import Live
from gateway.errors import RunNotFound, StoreError
from gateway.task import Event


@dataclass(slots=True)
class Speaking:
    """Passes the pieces of one copy on to those who listen to the run.

    After its first piece the run's answer is that copy's: the others are cancelled, and what they say, or how
    they end, counts for nothing. So there is no switch once a part of the answer was handed out.

    Attributes:
        find: returns a run that this process works on.
        cancel: wishes for a run's end.
        first: the copy that spoke first.
    """

    live: Live
    find: Callable[[str], Live | None]
    cancel: Callable[[str], Awaitable[None]]
    first: str | None = None
    _listening: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _cancelling: list[asyncio.Task[None]] = field(default_factory=list)

    def has_silenced(self, child: str) -> bool:
        """Say whether another copy has spoken before this one."""
        return self.first not in (None, child)

    def listen(self, child: str) -> None:
        """Begin to listen to a copy, if it is worked on here."""
        source = self.find(child)
        if source is not None:
            self._listening[child] = asyncio.create_task(self._pass_on(child, source, source.listen()))

    async def finish(self, child: str) -> None:
        """Wait until all is passed on of what a copy has said that ended."""
        if child in self._listening:
            await self._listening[child]

    def stop(self) -> None:
        """Stop listening."""
        for task in (*self._listening.values(), *self._cancelling):
            task.cancel()

    async def _pass_on(self, child: str, source: Live, queue: asyncio.Queue[Event | None]) -> None:
        try:
            while self.first in (None, child) and (event := await queue.get()) is not None:
                if event.kind == "piece" and self.first in (None, child):
                    self._take(child, event)
        finally:
            source.unlisten(queue)

    def _take(self, child: str, piece: Event) -> None:
        is_first, self.first = self.first is None, child
        self.live.pieces_out = True
        self.live.publish(piece)
        if is_first:
            others = [other for other in self.live.run.children if other != child]
            self._cancelling += [asyncio.create_task(self._call_off(other)) for other in others]

    async def _call_off(self, other: str) -> None:
        """End a copy beside the pieces, whose costs stay on the bill."""
        with suppress(RunNotFound, StoreError):  # not begun yet; or the run's end does it again
            await self.cancel(other)
