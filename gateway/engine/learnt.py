"""What this process has learnt of its backends: outcomes of attempts, summed up when somebody asks."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from gateway.clock import Clock
from gateway.policy.learning import MOST_OUTCOMES, Observed, Outcome, make_outcome, observe
from gateway.task import Attempt

_SUM_UP_EVERY = timedelta(seconds=1)
_SUM_UP_NEWS_EVERY = timedelta(milliseconds=20)


class Learnt:
    """The newest outcomes of each backend and model."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outcomes: dict[tuple[str, str], deque[Outcome]] = {}
        self._observed: dict[tuple[str, str], tuple[datetime, Observed]] = {}
        self._has_news: set[tuple[str, str]] = set()

    def list_models(self, backend: str) -> list[str]:
        """Return the models of which something is known at a backend."""
        return sorted(model for name, model in self._outcomes if name == backend)

    def add_attempt(self, attempt: Attempt, model: str | None) -> None:
        """Learn from an attempt that has ended; one that did not land teaches nothing."""
        outcome = make_outcome(attempt)
        if outcome is not None:
            self.add(attempt.backend, model, outcome)

    def add(self, backend: str, model: str | None, outcome: Outcome) -> None:
        """Learn from an outcome of an earlier process."""
        outcomes = self._outcomes.setdefault((backend, model or ""), deque(maxlen=MOST_OUTCOMES))
        outcomes.append(outcome)
        self._has_news.add((backend, model or ""))

    def sum_up(self, backend: str, model: str | None) -> Observed:
        """Return what the past says, news of it after 20 ms at most: where many runs end, not after each."""
        key, now = (backend, model or ""), self._clock.now()
        known = self._observed.get(key)
        every = _SUM_UP_NEWS_EVERY if key in self._has_news else _SUM_UP_EVERY
        if known is None or now - known[0] > every:
            self._has_news.discard(key)
            known = (now, observe(self._outcomes.get(key, ()), now))
            self._observed[key] = known
        return known[1]
