"""Recordings of runs that stream: pieces of output are not stored, and who reconnects must not miss one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import NamedTuple

from gateway.server.stopping import Stopping
from gateway.task import Event

MOST_KEPT = 20_000
"""Events of one run; of a longer one the oldest pieces can't be read again."""
KEPT_SECONDS = 60.0
"""How long after the run's end."""
_MOST_AT_ONCE = 256


class Place(NamedTuple):
    """Where an event stands in a run: after which stored event, and which piece since then (0: itself)."""

    seq: int
    piece: int = 0

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read "7" or "7.3". Raises ValueError."""
        seq, dot, piece = text.partition(".")
        if not (seq.isascii() and seq.isdigit() and len(seq) < 19) or (dot and not piece.isdigit()):
            raise ValueError(f"{text[:40]!r} is not the id of an event")
        return cls(int(seq), int(piece or 0))

    def __str__(self) -> str:
        return f"{self.seq}.{self.piece}" if self.piece else str(self.seq)

    def move(self, event: Event) -> Place:
        """Return the place of the event that follows."""
        return Place(event.seq) if event.seq else Place(self.seq, self.piece + 1)


Placed = tuple[Place, Event]


class Tape:
    """One run's events, recorded as they come; any number may read it, each from where it likes."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = events
        self._kept: deque[Placed] = deque(maxlen=MOST_KEPT)
        self._count = 0
        self._news: asyncio.Event | None = None  # of those who wait
        self.is_over = False

    async def record(self) -> None:
        """Record to the run's end."""
        place = Place(0)
        try:
            async for event in self._events:
                place = place.move(event)
                self._kept.append((place, event))
                self._count += 1
                self._tell()
        finally:
            self.is_over = True
            self._tell()

    async def read(self, after: Place) -> AsyncIterator[Placed]:
        """Yield what comes after a place, to the end."""
        async for batch in self.read_batches(after):
            for placed in batch:
                yield placed

    async def read_batches(self, after: Place) -> AsyncIterator[Sequence[Placed]]:
        """Yield the same, what has come meanwhile together: a busy stream costs less so."""
        read = 0  # of all that were ever recorded
        while True:
            read, found = self._take(read, after)
            if found:
                yield found
            if read == self._count:
                if self.is_over:
                    return
                await self._wait()

    async def follow(
        self, after: Place, stopping: Stopping, seconds: float
    ) -> AsyncIterator[Sequence[Placed] | None]:
        """Yield the same, and None whenever nothing came for so long; ends when the server shuts down."""
        read = 0
        while True:
            read, found = self._take(read, after)
            if found:
                yield found
            if read < self._count:
                continue
            if self.is_over:
                return
            try:
                async with asyncio.timeout(seconds) as limit:
                    with stopping.ends(limit):
                        await self._wait()
            except TimeoutError:
                if stopping.is_set():
                    return
                yield None

    def _take(self, read: int, after: Place) -> tuple[int, Sequence[Placed]]:
        """Return how much was read then, and what of it comes after a place."""
        gone = self._count - len(self._kept)
        begin = max(0, read - gone)
        left = len(self._kept) - begin
        if left <= _MOST_AT_ONCE:  # who reads as it comes: the end of a deque is near, its middle is far
            batch = list(islice(reversed(self._kept), left))[::-1]
        else:
            batch = list(islice(self._kept, begin, begin + _MOST_AT_ONCE))
        return gone + begin + len(batch), [placed for placed in batch if placed[0] > after]

    async def _wait(self) -> None:
        self._news = self._news or asyncio.Event()
        await self._news.wait()

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.set()


async def read_placed(events: AsyncIterator[Event], after: Place) -> AsyncIterator[Placed]:
    """Give events without a tape their places; pieces from before were not kept."""
    place = after
    async for event in events:
        place = place.move(event)
        yield place, event


class Tapes:
    """The tapes of this process's streaming runs."""

    def __init__(self) -> None:
        self._tapes: dict[str, Tape] = {}
        self._recording: set[asyncio.Task[None]] = set()

    def begin(self, run_id: str, events: AsyncIterator[Event]) -> None:
        """Record a run from now on, unless that is done already."""
        if run_id in self._tapes:
            return
        tape = self._tapes[run_id] = Tape(events)
        recording = asyncio.create_task(tape.record())
        self._recording.add(recording)
        recording.add_done_callback(lambda done: self._end(run_id, done))

    def get(self, run_id: str) -> Tape | None:
        """Return a run's tape, if there is one."""
        return self._tapes.get(run_id)

    async def aclose(self) -> None:
        """Stop recording."""
        for recording in list(self._recording):
            recording.cancel()
        await asyncio.gather(*self._recording, return_exceptions=True)

    def _end(self, run_id: str, recording: asyncio.Task[None]) -> None:
        self._recording.discard(recording)
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._tapes.pop, run_id, None)
