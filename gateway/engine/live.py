"""A run that this process works on, and those who listen to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from gateway.lifecycle import AttemptStatus
from gateway.limits import Limits
from gateway.observe.stopwatch import Stopwatch
from gateway.policy.quorum import Agreement
from gateway.policy.routing import Plan, Selector
from gateway.task import Answer, Event, Run

if TYPE_CHECKING:
    from gateway.engine.parking import Stay

_MOST_UNREAD_EVENTS = 10_000
_MOST_TOLD_EVENTS = 32
NOBODYS = 0
"""The fence of a run that could not be written down: the store knows nothing of it."""


class Signal:
    """An event of asyncio that is given once, in a tenth of the room while nobody waits for it."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: asyncio.Event | None = None

    def is_set(self) -> bool:
        """Say whether it was given."""
        return self._is_set

    def set(self) -> None:
        """Give it, to all who wait and who will."""
        self._is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Wait until it is given."""
        if not self._is_set:
            self._event = self._event or asyncio.Event()
            await self._event.wait()


@dataclass(slots=True, eq=False)
class Live:
    """One run in the hands of this process.

    Attributes:
        run: its newest state, which is also in the store.
        fence: what the store knows us by.
        limits: the task's, the model's and the gateway's, merged.
        plan: where it may go; made again when that is used up.
        seq: of the newest event.
        silences: how many there were of this process when the run was last known to be ours; see Keeper.
        told: of a run that streams: its stored events so far, while they are few.
        unwritten: what happened and could not be written down yet.
        pieces_out: a part of the answer was handed out, so the run stays at its backend.
        following: somebody reads its events, so it need not be polled.
        resting: its driver waits for something that may take long, and may be stopped there at any time.
        stay: how it waits while nobody drives it.
        paused_seconds: its newest pause before another try; the next one is longer.
        doubt_until: so long its backend is asked whether the newest attempt landed, while nobody knows.
        resends: how often that attempt was sent again, because it had not arrived.
        patient_until: so long it waits for backends that are ill, whatever its limits say.
        dropped: another process took it over; nothing may be done any more.
        failed_looks: polls in a row that gave no news.
        ran_until: the age in seconds at which its job was last seen to run.
        choose: the caller's own way to choose among answers.
        agree: the caller's own way to compare answers.
        accepting: an answer's acceptance is being sent.
        accepted: it is known to have landed.
        hearers: called with each event in place; see Hosting.hear.
        on_end: called once, when it is over or dropped.
        changing: held by whoever changes a run whose job has landed. Its watcher, a reader of its events and
            a cancel may want to at the same time, and each change builds on the one before.
        watch: knows how long its backends were waited for.
    """

    run: Run
    fence: int
    selector: Selector
    limits: Limits
    plan: Plan | None = None
    seq: int = 0
    silences: int = 0
    told: tuple[Event, ...] = ()
    unwritten: tuple[Event, ...] = ()
    pieces_out: bool = False
    following: bool = False
    resting: bool = False
    stay: Stay | None = None
    paused_seconds: float = 0.0
    doubt_until: datetime | None = None
    resends: int = 0
    patient_until: datetime | None = None
    dropped: bool = False
    failed_looks: int = 0
    ran_until: float = 0.0
    choose: Callable[[Sequence[Answer]], Answer | None] | None = None
    agree: Agreement | None = None
    accepting: bool = False
    accepted: bool = False
    cancel: Signal = field(default_factory=Signal)
    ended: Signal = field(default_factory=Signal)
    listeners: list[asyncio.Queue[Event | None]] = field(default_factory=list)
    hearers: tuple[Callable[[Event | None], None], ...] = ()
    on_end: Callable[[Live], None] | None = None
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def has_landed(self) -> bool:
        """Say whether the run is ours and its newest attempt is a job that, as far as we know, goes on."""
        attempt = self.run.attempt
        return not self.dropped and attempt is not None and attempt.status is AttemptStatus.SUBMITTED

    def is_patient(self, now: datetime) -> bool:
        """Say whether it still waits for ill backends in any case."""
        return self.patient_until is not None and now < self.patient_until

    def listen(self) -> asyncio.Queue[Event | None]:
        """Return a queue that gets every event from now on, then None; hand it to `unlisten` in the end."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_MOST_UNREAD_EVENTS)
        if self.ended.is_set():
            queue.put_nowait(None)
        self.listeners.append(queue)
        return queue

    def hear(self, tell: Callable[[Event | None], None]) -> bool:
        """See Hosting.hear."""
        told = self.get_told(0) if self.seq else ()
        if told is None or self.ended.is_set():
            return False
        for event in told:
            tell(event)
        self.hearers = (*self.hearers, tell)
        return True

    def get_told(self, after: int) -> Sequence[Event] | None:
        """Return the stored events after that number, told so far; None if only the store has them all."""
        told = self.told
        if not told or told[0].seq > after + 1 or told[-1].seq - told[0].seq >= len(told):
            return None
        return [event for event in told if event.seq > after]

    def unlisten(self, queue: asyncio.Queue[Event | None]) -> None:
        """Stop sending events there."""
        self.listeners.remove(queue)

    def publish(self, *events: Event) -> None:
        """Tell those who listen. One who does not read loses the oldest pieces, never the order."""
        is_over = (self.run.status.is_final or self.dropped) and not self.ended.is_set()
        if self.run.task.stream and (stored := tuple(event for event in events if event.seq)):
            self.told = (*self.told, *stored)[-_MOST_TOLD_EVENTS:]
        self.pass_on(*events, None) if is_over else self.pass_on(*events)
        if is_over:
            self.ended.set()
            if self.on_end is not None:
                self.on_end(self)

    def pass_on(self, *events: Event | None) -> None:
        """Tell them as they are: for pieces of output, which change nothing."""
        for hear in self.hearers:
            for event in events:
                hear(event)
        for queue in self.listeners:
            for event in events:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(event)

    @contextmanager
    def rest(self) -> Iterator[None]:
        """Mark a wait that need not be waited for at the end of the process."""
        self.resting = True
        self.watch.leave()
        try:
            yield
        finally:
            self.watch.come_back()
            self.resting = False

    def end_doubt(self) -> None:
        """Note that it is known what became of the newest attempt's submission, or never will be."""
        self.doubt_until, self.paused_seconds, self.resends = None, 0.0, 0

    def drop(self) -> None:
        """Let go of the run: it is somebody else's now."""
        self.dropped = True
        self.publish()
