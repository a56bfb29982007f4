"""Breakers and retry budgets: when a backend is left alone, as pure values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.errors import BackendError, InDoubt, Misbehaved, Throttled, Unavailable

OPENS_AFTER = 5
"""So many failures in a row open a breaker."""

FIRST_OPEN_SECONDS = 5.0
LONGEST_OPEN_SECONDS = 120.0


class Operation(StrEnum):
    """What a breaker watches."""

    QUOTE = "quote"
    SUBMIT = "submit"
    POLL = "poll"


class BreakerState(StrEnum):
    """Closed: all goes through. Open: nothing does. Half-open: one probe does."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of one operation at one backend. Times are seconds of a monotonic clock.

    Attributes:
        failures: in a row.
        open_until: when the probe may go; None while it is closed.
        open_seconds: how long it was opened for; doubles with each failed probe.
        probing: the probe is under way.
    """

    failures: int = 0
    open_until: float | None = None
    open_seconds: float = 0.0
    probing: bool = False

    def get_state(self, now: float) -> BreakerState:
        """Say what goes through now."""
        if self.open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.open_until or self.probing else BreakerState.HALF_OPEN

    def begin(self, now: float) -> Breaker:
        """Return it with the probe under way, if this is one."""
        return replace(self, probing=True) if self.get_state(now) is BreakerState.HALF_OPEN else self

    def note(self, now: float, *, failed: bool) -> Breaker:
        """Return it after an operation."""
        if not failed:
            return Breaker() if self.failures else self
        failures = self.failures + 1
        if self.open_until is None and failures < OPENS_AFTER:
            return replace(self, failures=failures)
        seconds = min(max(FIRST_OPEN_SECONDS, self.open_seconds * 2), LONGEST_OPEN_SECONDS)
        return Breaker(failures, now + seconds, seconds)


def is_breaking(error: BackendError | None) -> bool:
    """Say whether an error is a sign that the backend is ill: a refusal or a 429 is none."""
    return isinstance(error, Unavailable | InDoubt | Misbehaved) and not isinstance(error, Throttled)


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How many retries a backend may still get: an outage is not multiplied by everybody's retries.

    Each first try adds a fifth of a retry, up to a reserve of ten.
    """

    left: float = 10.0

    def note_first_try(self) -> RetryBudget:
        """Return it after a run's first try at the backend."""
        return self if self.left >= 10.0 else RetryBudget(min(10.0, self.left + 0.2))

    def take(self) -> RetryBudget | None:
        """Return it after a retry, or None if there is none left."""
        return RetryBudget(self.left - 1.0) if self.left >= 1.0 else None
