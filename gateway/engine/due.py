"""When which run wants something: heaps, however many runs there are, and no timer for any of them."""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, Protocol, TypeVar

from gateway.engine.live import Live

_UNSET_KEPT = 64
_SLACK = 0.5  # a look takes along those that would be due before half of their wait is over
_Entry = tuple[float, int, str]


class Due:
    """The due times of the runs at one backend, each run's newest one."""

    def __init__(self) -> None:
        self._by_time: list[_Entry] = []
        self._by_readiness: list[_Entry] = []
        self._lives: dict[str, tuple[int, Live]] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._lives)

    def put(self, live: Live, now: float, wait: float) -> None:
        """Have a run looked at so many seconds from now, and at no other time."""
        number, run_id = next(self._numbers), live.run.id
        self._lives[run_id] = (number, live)
        heapq.heappush(self._by_time, (now + wait, number, run_id))
        heapq.heappush(self._by_readiness, (now + wait * _SLACK, number, run_id))

    def drop(self, live: Live) -> None:
        """Have a run looked at no more, unless it was taken over anew; it takes no room for long."""
        known = self._lives.get(live.run.id)
        if known is not None and known[1] is live:
            del self._lives[live.run.id]
        if len(self._by_time) > 2 * len(self._lives) + _UNSET_KEPT:
            for heap in (self._by_time, self._by_readiness):
                heap[:] = [entry for entry in heap if not self._is_over(entry)]
                heapq.heapify(heap)

    def get_first(self) -> float | None:
        """Return when the first is due, None if there is none."""
        while self._by_time and self._is_over(self._by_time[0]):
            heapq.heappop(self._by_time)
        return self._by_time[0][0] if self._by_time else None

    def take(self, now: float, most: int) -> list[Live]:
        """Take what is due, if anything is, and what would be soon enough to share the look; at most so many.

        Who has waited longest since then comes first.
        """
        first = self.get_first()
        taken: list[Live] = []
        if first is None or first > now:
            return taken
        while self._by_readiness and self._by_readiness[0][0] <= now and len(taken) < most:
            entry = heapq.heappop(self._by_readiness)
            if not self._is_over(entry):
                taken.append(self._lives.pop(entry[2])[1])
        return taken

    def _is_over(self, entry: _Entry) -> bool:
        """Say whether a run was taken, or has another due time by now."""
        known = self._lives.get(entry[2])
        return known is None or known[0] != entry[1]


class Sleeper(Protocol):
    """What can be woken; `alarm` is the number of the one that is set for it, 0 for none."""

    alarm: int


SleeperT = TypeVar("SleeperT", bound=Sleeper)


class Alarms(Generic[SleeperT]):
    """Who is to be woken when, exactly; one that is unset takes no room for long."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, SleeperT]] = []
        self._numbers = itertools.count(1)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def set(self, sleeper: SleeperT, at: float) -> None:
        """Have somebody woken then, who has no alarm yet."""
        sleeper.alarm = next(self._numbers)
        self._count += 1
        heapq.heappush(self._heap, (at, sleeper.alarm, sleeper))

    def unset(self, sleeper: SleeperT) -> None:
        """Have somebody woken no more."""
        if sleeper.alarm:
            sleeper.alarm = 0
            self._count -= 1
            if len(self._heap) > 2 * self._count + _UNSET_KEPT:
                self._heap = [entry for entry in self._heap if entry[2].alarm == entry[1]]
                heapq.heapify(self._heap)

    def get_first(self) -> float | None:
        """Return when the first is to be woken, None if nobody is."""
        while self._heap and self._heap[0][2].alarm != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float, most: int) -> list[SleeperT]:
        """Take those whose time has come, in its order; at most so many."""
        taken: list[SleeperT] = []
        while len(taken) < most and (first := self.get_first()) is not None and first <= now:
            taken.append(heapq.heappop(self._heap)[2])
            self.unset(taken[-1])
        return taken
