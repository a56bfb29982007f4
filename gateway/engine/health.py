"""What this process knows of the backends' health: breakers per operation, and retry budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.errors import BackendError
from gateway.policy.health import Breaker, BreakerState, Operation, RetryBudget, is_breaking
from gateway.policy.learning import Observed

_CLOSED, _FULL = Breaker(), RetryBudget()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendHealth:
    """What this process knows of one backend.

    Attributes:
        breakers: by operation (quote, submit, poll): closed, open or half_open.
        running: attempts of this process that are there now.
        waiting: attempts of this process that wait for room there.
        models: what was learnt of each model there.
    """

    breakers: Mapping[str, BreakerState]
    running: int
    waiting: int
    models: Mapping[str, Observed]


class Health:
    """Breakers and retry budgets; approximate, in this process only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._breakers: dict[tuple[str, Operation], Breaker] = {}
        self._retries: dict[str, RetryBudget] = {}

    def get_state(self, backend: str, operation: Operation) -> BreakerState:
        """Say what goes through now."""
        return self._get(backend, operation).get_state(self._clock.monotonic())

    def get_wait(self, backend: str, operation: Operation) -> float:
        """Return the seconds until an open breaker lets its probe through; 0 if it does now."""
        until = self._get(backend, operation).open_until
        return 0.0 if until is None else max(0.0, until - self._clock.monotonic())

    def tell_blocked(self, backend: str) -> tuple[str, str] | None:
        """Return why nothing may be submitted there now, as (rule, reason), or None."""
        if self.get_state(backend, Operation.SUBMIT) is not BreakerState.OPEN:
            return None
        wait = self.get_wait(backend, Operation.SUBMIT)
        when = f"the next probe is in {wait:.1f} s" if wait else "a probe is under way"
        return "breaker", f"its breaker is open after failures in a row; {when}"

    def get_shortest_wait(self, backends: Iterable[str]) -> float:
        """Return the seconds until the first of some backends is worth another look; at least one."""
        return max(1.0, min((self.get_wait(name, Operation.SUBMIT) for name in backends), default=1.0))

    def begin(self, backend: str, operation: Operation) -> None:
        """Note that an operation begins; behind a half-open breaker it is the probe."""
        key = (backend, operation)
        self._breakers[key] = self._get(*key).begin(self._clock.monotonic())

    def note(self, backend: str, operation: Operation, error: BackendError | None = None) -> None:
        """Note how an operation went."""
        key = (backend, operation)
        self._breakers[key] = self._get(*key).note(self._clock.monotonic(), failed=is_breaking(error))

    def note_first_try(self, backend: str) -> None:
        """Note a run's first try at a backend."""
        self._retries[backend] = self._retries.get(backend, _FULL).note_first_try()

    def take_retry(self, backend: str) -> bool:
        """Take one retry from a backend's budget; False if there is none left."""
        left = self._retries.get(backend, _FULL).take()
        if left is not None:
            self._retries[backend] = left
        return left is not None

    def _get(self, backend: str, operation: Operation) -> Breaker:
        return self._breakers.get((backend, operation), _CLOSED)
