"""When a chain's next block is to be seen: learnt from those that were, and from when they were not yet."""

from __future__ import annotations

from collections import deque

_KEPT = 64
_LEAST_BLOCKS = 3  # between two times in whole seconds, before they tell how long a block takes
_NARROW = 0.08  # of a block's time: so well is it known when blocks come, or asking halves what is not
_SLACK = 0.03  # of a block's time: what a single one is late
_DRIFT = 0.001  # of a block's time, and so much more with each block that was not looked at


class Rhythm:
    """Knows between which two moments of this machine's clock the newest block came into sight.

    The moments are those at which it was asked for, so that the way there and back needs no knowing.
    """

    def __init__(self) -> None:
        """Make it ignorant."""
        self._seen: deque[tuple[int, int]] = deque(maxlen=_KEPT)  # numbers and timestamps
        self._period: float | None = None
        self._early = self._late = 0.0  # the newest block came into sight between these
        self._asked_at = 0.0
        self._misses = 0

    def note(self, number: int, timestamp: int, asked_at: float) -> None:
        """Learn that whoever asked at that moment (monotonic seconds) was shown this as the newest block."""
        before = self._seen[-1][0] if self._seen else None
        if before is not None and number < before:
            self._seen.clear()  # a reorg: what was counted is not there any more
        if before != number:
            self._seen.append((number, timestamp))
        self._learn_period()
        if before is None or number < before:
            self._early = self._late = asked_at
        elif number > before:
            self._note_new(number - before, asked_at)
        elif self._period is not None:
            self._note_none(self._period, asked_at)
        self._asked_at = asked_at

    def get_next(self, now: float) -> float | None:
        """Return the moment, `now` or later, from which on it is worth asking; None: it is not known."""
        if self._period is None:
            return None
        is_known = self._misses or self._late - self._early <= _NARROW * self._period
        seen_at = self._late if is_known else (self._early + self._late) / 2
        return max(now, seen_at + self._period * (1 + _SLACK))

    def _learn_period(self) -> None:
        (first, began), (last, ended) = self._seen[0], self._seen[-1]
        if last - first >= _LEAST_BLOCKS and ended > began:
            self._period = (ended - began) / (last - first)

    def _note_new(self, blocks: int, asked_at: float) -> None:
        self._misses = 0
        if self._period is None:
            self._early, self._late = self._asked_at, asked_at
            return
        drift = _DRIFT * self._period * blocks
        self._late = min(self._late + blocks * self._period + drift, asked_at)
        early = max(self._early + blocks * self._period - drift, self._asked_at)
        self._early = min(early, self._late - _SLACK * self._period)

    def _note_none(self, period: float, asked_at: float) -> None:
        """The next block was not there yet: if it is late, it is waited for in ever longer steps."""
        self._early = max(self._early, asked_at - period)
        if self._early >= self._late:
            self._late = self._early + _SLACK * period * 2**self._misses
            self._misses = min(self._misses + 1, 5)
