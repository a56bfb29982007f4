"""What is to be written: taken in order as it is called for, put together per run, handed over in batches.

A call takes its change at once and returns a future, done when the change is on the disk. What is called
while a batch is being written, and in the next turns of the event loop until one brings nothing, makes the
next batch; the changes of one run in it are one: its newest state, with all that happened and is spent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeAlias

from gateway.errors import BudgetExceeded, StoreError
from gateway.policy.budget import Spend
from gateway.store.protocol import FIRST_FENCE
from gateway.task import Attempt, Envelope, Event, Run

_MOST_AT_ONCE = 512
_MOST_TURNS = 4  # of the event loop, that a batch stays open
_LINGER_SECONDS = 0.03  # so long, and at most twice that, a change waits that nobody waits for


@dataclass(slots=True, eq=False)
class Write:
    """One call of `create` (then it has an owner) or `save`, and who waits for it."""

    run: Run
    future: asyncio.Future[Any]
    fence: int = FIRST_FENCE
    owner: str | None = None
    events: Sequence[Event] = ()
    spends: Sequence[Spend] = ()


@dataclass(slots=True, eq=False)
class Pile:
    """Changes of one run, by one fence, in order.

    Attributes:
        kept: the envelope that the store has already.
        is_queued: it goes with the next batch; else it lingers.
    """

    writes: list[Write]
    kept: Envelope | None = None
    is_queued: bool = False

    def split(self) -> list[Pile]:
        """Return its changes one by one: as a whole it was refused."""
        return [Pile([write], self.kept) for write in self.writes]

    @property
    def run(self) -> Run:
        """Return the newest state: it alone is written."""
        return self.writes[-1].run

    @property
    def fence(self) -> int:
        """Return what they are written with."""
        return self.writes[0].fence

    @property
    def owner(self) -> str | None:
        """Return whose the run is if it is new."""
        return self.writes[0].owner

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Return the attempts that changed: each change is about the last one of its run."""
        newest = {attempt.number: attempt for write in self.writes if (attempt := write.run.attempt)}
        return tuple(newest.values())

    @property
    def events(self) -> list[Event]:
        """Return all that happened."""
        return [event for write in self.writes for event in write.events]

    @property
    def spends(self) -> list[Spend]:
        """Return all that is spent."""
        return [spend for write in self.writes for spend in write.spends]


@dataclass(slots=True, eq=False)
class Act:
    """Anything else, with statements of its own; `topics` are told to other processes, where that is done."""

    work: Any
    future: asyncio.Future[Any]
    topics: Sequence[str] = ()


Entry: TypeAlias = Pile | Act


class Lingering:
    """Holds piles back for a moment: nobody waits for them, and more may come for the same runs."""

    def __init__(self, queue: Callable[[Pile], None]) -> None:
        self._queue = queue
        self._young: list[Pile] = []
        self._old: list[Pile] = []  # since the time before
        self._growing_old: asyncio.TimerHandle | None = None

    def add(self, pile: Pile) -> None:
        """Hold a pile back."""
        self._young.append(pile)
        if self._growing_old is None:
            self._growing_old = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._grow_old)

    def end(self) -> None:
        """Let all go at once."""
        for pile in (*self._old, *self._young):
            self._queue(pile)
        self._old, self._young = [], []

    def _grow_old(self) -> None:
        gone, self._old, self._young, self._growing_old = self._old, self._young, [], None
        for pile in gone:
            self._queue(pile)
        if self._old:
            self._growing_old = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._grow_old)


class Intake:
    """Collects entries in one event loop; one batch is under way at a time.

    Attributes:
        queued: what waits for the next batch. A run is in a batch once.
        is_open: what is called for is taken; else it is refused, and not left waiting.
    """

    def __init__(self, store: object, hand_over: Callable[[list[Entry]], None], *, is_open: bool) -> None:
        """Make it; `store` is its name, and what `hand_over` gets it gives back to `settle`, written."""
        self.queued: deque[Entry] = deque()
        self.is_open = is_open
        self._store, self._hand_over = store, hand_over
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()
        self._piles: dict[tuple[str, int], Pile] = {}  # those that are queued or linger
        self._lingering = Lingering(self._queue)
        self._kept: dict[str, Envelope] = {}  # of open runs: the newest one that is in the store
        self._taken = 0  # entries, in all
        self._is_busy = False  # a batch is under way, or will be at the end of this turn

    def create(self, run: Run, owner: str) -> asyncio.Future[int]:
        """Take a new run."""
        return self._put(Write(run, self._loop.create_future(), FIRST_FENCE, owner))

    def save(
        self, run: Run, fence: int, events: Sequence[Event], spends: Sequence[Spend], *, soon: bool
    ) -> asyncio.Future[None]:
        """Take a run's new state."""
        return self._put(Write(run, self._loop.create_future(), fence, None, events, spends), soon=soon)

    def act(self, work: Any, *topics: str) -> asyncio.Future[Any]:
        """Take anything else."""
        act = Act(work, self._loop.create_future(), topics)
        if self._takes(act.future):
            self._lingering.end()
            self.queued.append(act)
            self._wake()
        return act.future

    async def close(self) -> None:
        """Take nothing any more, and wait until what was taken is written."""
        self.is_open = False
        self._lingering.end()
        await self._idle.wait()

    def settle(self, batch: Sequence[Entry], results: Sequence[Any]) -> None:
        """Tell those who wait what became of a batch, then hand the next one over.

        A pile's result is None if all of it is written, else an error or None for each of its writes; an
        act's is what it returned, or an error.
        """
        self._is_busy = False
        for entry, result in zip(batch, results, strict=True):
            if isinstance(entry, Act):
                finish(entry.future, result)
            else:
                self._settle_pile(entry, result)
        if self.queued:
            self._wake()
        else:
            self._idle.set()

    def _takes(self, future: asyncio.Future[Any]) -> bool:
        if not self.is_open:
            finish(future, StoreError(f"the store {self._store} is not open"))
            return False
        self._taken += 1
        return True

    def _put(self, write: Write, *, soon: bool = True) -> asyncio.Future[Any]:
        if not self._takes(write.future):
            return write.future
        key = (write.run.id, write.fence)
        pile = self._piles.get(key)
        if pile is None or write.owner is not None:
            pile = self._piles[key] = Pile([write])
            if not soon:
                self._lingering.add(pile)
        else:
            pile.writes.append(write)
        if soon:
            self._queue(pile)
        return write.future

    def _queue(self, pile: Pile) -> None:
        if not pile.is_queued:
            pile.is_queued = True
            self.queued.append(pile)
            self._wake()

    def _wake(self) -> None:
        if not self._is_busy:
            self._is_busy = True
            self._idle.clear()
            self._loop.call_soon(self._flush, self._taken, _MOST_TURNS)

    def _flush(self, taken: int, turns: int) -> None:
        """Close a batch in the first turn in which nothing came: what is woken brings more, a turn later."""
        if turns and (turns == _MOST_TURNS or taken != self._taken):
            self._loop.call_soon(self._flush, self._taken, turns - 1)
            return
        batch: list[Entry] = []
        runs: set[str] = set()
        while self.queued and len(batch) < _MOST_AT_ONCE:
            entry = self.queued[0]
            if isinstance(entry, Pile):
                run_id = entry.run.id
                if run_id in runs:
                    break
                runs.add(run_id)
                entry.kept = self._kept.get(run_id)
                if self._piles.get((run_id, entry.fence)) is entry:
                    del self._piles[run_id, entry.fence]
            batch.append(self.queued.popleft())
        self._hand_over(batch)

    def _settle_pile(self, pile: Pile, errors: Sequence[Exception | None] | None) -> None:
        if errors is None:
            for write in pile.writes:
                finish(write.future, None if write.owner is None else FIRST_FENCE)
            run, attempt = pile.run, pile.run.attempt
            if attempt is not None and attempt.envelope is not None and not run.status.is_final:
                self._kept[run.id] = attempt.envelope
                return
        else:
            for write, error in zip(pile.writes, errors, strict=True):
                finish(write.future, error or (None if write.owner is None else FIRST_FENCE))
            self._refuse_next(pile, errors[-1])
        self._kept.pop(pile.run.id, None)

    def _refuse_next(self, pile: Pile, error: Exception | None) -> None:
        """Let what is queued behind a change that failed fail with it: it was made from that change."""
        behind = self._piles.get((pile.run.id, pile.fence))
        if behind is None or inherit(error) is None:
            return
        del self._piles[pile.run.id, pile.fence]
        if behind.is_queued:
            self.queued.remove(behind)
        behind.is_queued = True  # it will not be any more
        for write in behind.writes:
            finish(write.future, inherit(error))


def inherit(error: Exception | None) -> Exception | None:
    """Return the error of a run's change behind one that had this; None if it may be written all the same.

    It was made from what that one would have written. A refused spend is no such error: the run goes on.
    """
    if error is None or isinstance(error, BudgetExceeded):
        return None
    again = copy(error)
    again.__cause__ = error.__cause__
    return again


def finish(future: asyncio.Future[Any], result: Any) -> None:
    """Give a future its result, or its error: whoever awaits it gets that, and nobody has to."""
    if future.done():  # who waited was cancelled
        return
    if isinstance(result, Exception):
        future.set_exception(result)
        future.exception()  # so that it is not told to be forgotten
    else:
        future.set_result(result)
