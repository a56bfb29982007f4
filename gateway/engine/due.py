"""When which run wants looking at: two heaps, however many runs there are, and no timer for any of them."""

from __future__ import annotations

import heapq
import itertools

from gateway.engine.live import Live

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
