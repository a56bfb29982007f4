"""Recordings of runs that stream: pieces of output are not stored, and who reconnects must not miss one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from contextvars import Context
from itertools import islice
from sys import getsizeof
from typing import TYPE_CHECKING, NamedTuple

from gateway.bell import Bell
from gateway.server.stopping import Stopping
from gateway.task import Event

if TYPE_CHECKING:
    from gateway.client import AsyncGateway

MOST_KEPT = 20_000
"""Events of one run; of a longer one the oldest pieces can't be read again."""
KEPT_SECONDS = 60.0
"""How long after the run's end."""
MOST_KEPT_BYTES = 1 << 25
"""About, of all runs that have ended; what ended first is forgotten first."""
_EVENT_BYTES = 500  # for each event, beside what it says
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
    """One run's events, recorded as they come; any number may read it, each from where it likes.

    Attributes:
        place: of the newest event.
        bytes_taken: how large all is that was recorded, about.
        is_over: nothing comes any more.
    """

    def __init__(self) -> None:
        self._kept: deque[Placed] = deque(maxlen=MOST_KEPT)
        self._count = 0
        self._early: list[Event] = []
        self._bells: set[Bell] = set()
        self.place = Place(0)
        self.bytes_taken = 0
        self.is_over = False

    @property
    def has_end(self) -> bool:
        """Say whether the run's end is on it."""
        return bool(self._kept) and self._kept[-1][1].kind == "end"

    def take(self, event: Event) -> None:
        """Record an event. A stored one that is there already is left out; one too early waits its turn."""
        place, seq = self.place, event.seq
        if not seq:
            place = Place(place.seq, place.piece + 1)
        elif seq == place.seq + 1:
            place = Place(seq)
        else:
            if seq > place.seq:
                self._early.append(event)
            return
        self.place = place
        self._kept.append((place, event))
        self._count += 1
        said = _measure_json(event) if event.data is None else len(event.data)
        self.bytes_taken += _EVENT_BYTES + said
        if self._early and seq:
            early, self._early = self._early, []
            for one in early:
                self.take(one)
        self._ring()

    async def record(self, events: AsyncIterator[Event]) -> None:
        """Record all that comes, to the end."""
        try:
            async for event in events:
                self.take(event)
        finally:
            self.end()

    def end(self) -> None:
        """Record nothing any more."""
        self.is_over = True
        self._ring()

    async def read(self, after: Place) -> AsyncIterator[Placed]:
        """Yield what comes after a place, to the end."""
        async for batch in self.read_batches(after):
            for placed in batch:
                yield placed

    async def read_batches(self, after: Place) -> AsyncIterator[Sequence[Placed]]:
        """Yield the same, what has come meanwhile together: a busy stream costs less so."""
        async with aclosing(self.follow(after, Stopping(), None)) as batches:
            async for batch in batches:
                if batch is not None:
                    yield batch

    async def follow(
        self, after: Place, stopping: Stopping, seconds: float | None
    ) -> AsyncGenerator[Sequence[Placed] | None]:
        """Yield the same, and None whenever nothing came for so long; ends when the server shuts down."""
        read, bell = 0, Bell(asyncio.get_running_loop())  # of all that were ever recorded
        self._bells.add(bell)
        try:
            with stopping.calls(bell.ring):
                while True:
                    read, found = self._take(read, after)
                    if found:
                        yield found
                    if read < self._count:
                        continue
                    if self.is_over or stopping.is_set():
                        return
                    bell.hear()
                    if not await bell.wait(seconds):
                        yield None
        finally:
            self._bells.discard(bell)
            bell.close()

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

    def _ring(self) -> None:
        for bell in self._bells:
            bell.ring()


def _measure_json(event: Event) -> int:
    """Return about how much memory the JSON in an event takes. It must not fail: the engine calls it."""
    snapshot = event.snapshot
    left: list[object] = [event.piece] if snapshot is None else [snapshot.output, snapshot.detail]
    size = 0
    while left:
        one = left.pop()
        size += getsizeof(one)
        if isinstance(one, dict):
            left += one
            left += one.values()
        elif isinstance(one, list | tuple):
            left += one
    return size


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
        self._ended: deque[tuple[float, str]] = deque()
        self._ended_bytes = 0
        self._forgetting: asyncio.TimerHandle | None = None
        self._recording: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._nobodys = Context()  # that of who ends a run would keep the run, with its output, as long

    def begin(self, run_id: str, gateway: AsyncGateway) -> None:
        """Record a run from now on, unless that is done already, or `gateway` does not work on it.

        Then it has no pieces of it: who does has, and is asked.
        """
        if run_id in self._tapes or not gateway.hosting.works_on(run_id):
            return
        tape = self._tapes[run_id] = Tape()

        def hear(event: Event | None) -> None:
            if event is not None:
                tape.take(event)
            elif tape.has_end or self._is_closed:
                self._end(run_id, tape)
            else:  # what it does not hear of itself: the run is another process's now
                self._record(run_id, tape, gateway.events(run_id, after=tape.place.seq))

        if not gateway.hosting.hear(run_id, hear):
            hear(None)

    def get(self, run_id: str) -> Tape | None:
        """Return a run's tape, if there is one."""
        return self._tapes.get(run_id)

    async def aclose(self) -> None:
        """Stop recording."""
        self._is_closed = True
        if self._forgetting is not None:
            self._forgetting.cancel()
        for recording in list(self._recording):
            recording.cancel()
        await asyncio.gather(*self._recording, return_exceptions=True)

    def _record(self, run_id: str, tape: Tape, events: AsyncIterator[Event]) -> None:
        recording = asyncio.create_task(tape.record(events))
        self._recording.add(recording)
        recording.add_done_callback(self._recording.discard)
        recording.add_done_callback(lambda _: self._end(run_id, tape))

    def _end(self, run_id: str, tape: Tape) -> None:
        tape.end()
        loop = asyncio.get_running_loop()
        self._ended.append((loop.time() + KEPT_SECONDS, run_id))
        self._ended_bytes += tape.bytes_taken
        while self._ended_bytes > MOST_KEPT_BYTES and len(self._ended) > 1:
            self._forget_first()
        if self._forgetting is None:
            self._forget_later(loop)

    def _forget_first(self) -> None:
        _, run_id = self._ended.popleft()
        self._ended_bytes -= self._tapes.pop(run_id).bytes_taken

    def _forget_later(self, loop: asyncio.AbstractEventLoop) -> None:
        at, _ = self._ended[0]
        self._forgetting = loop.call_at(at, self._forget_old, loop, context=self._nobodys)

    def _forget_old(self, loop: asyncio.AbstractEventLoop) -> None:
        self._forgetting = None
        while self._ended and self._ended[0][0] <= loop.time():
            self._forget_first()
        if self._ended:
            self._forget_later(loop)
