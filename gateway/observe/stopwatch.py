"""What the gateway itself takes: time that passed, less the time in which a backend was waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from time import perf_counter


class Stopwatch:
    """Runs from when it is made, and knows how much of its time was spent waiting for backends.

    A backend's time is from the moment when a submission is handed to its adapter until the end of its job is
    seen, and while there is no room there. What passes between a job's end and the look that sees it is the
    backend's as well: nobody knows when the job ended.
    """

    __slots__ = ("_away_seconds", "_away_since", "_began")

    def __init__(self) -> None:
        self._began = perf_counter()
        self._away_seconds = 0.0
        self._away_since: float | None = None

    def leave(self) -> None:
        """Begin to wait for a backend; once is enough."""
        if self._away_since is None:
            self._away_since = perf_counter()

    def come_back(self) -> None:
        """End the waiting, if there is any."""
        if self._away_since is not None:
            self._away_seconds += perf_counter() - self._away_since
            self._away_since = None

    def add_away(self, seconds: float) -> None:
        """Count seconds as waited."""
        self._away_seconds += seconds

    def get_away_seconds(self) -> float:
        """Return how long backends were waited for until now."""
        now = 0.0 if self._away_since is None else perf_counter() - self._away_since
        return self._away_seconds + now

    def get_own_seconds(self) -> float:
        """Return how long the gateway itself took until now."""
        return max(0.0, perf_counter() - self._began - self.get_away_seconds())


OF_REQUEST: ContextVar[Stopwatch | None] = ContextVar("gateway_stopwatch_of_request", default=None)
"""The stopwatch of the request that is answered; None where nobody wants to know."""


def wait_for_run(find: Callable[[], Stopwatch | None]) -> AbstractContextManager[None]:
    """While a request waits for a run, let its stopwatch count what that run waits for.

    `find` returns the run's stopwatch. Without one (another process works on it) all of the waiting counts.
    """
    watch = OF_REQUEST.get()
    return _UNSEEN if watch is None else _count_waiting(watch, find)


def wait_for_caller() -> AbstractContextManager[None]:
    """While a request waits for its body, let its stopwatch count that as the caller's time."""
    watch = OF_REQUEST.get()
    return _UNSEEN if watch is None else _count_waiting(watch, lambda: None)


_UNSEEN = nullcontext()


@contextmanager
def _count_waiting(watch: Stopwatch, find: Callable[[], Stopwatch | None]) -> Iterator[None]:
    began, of_run = perf_counter(), find()
    before = 0.0 if of_run is None else of_run.get_away_seconds()
    try:
        yield
    finally:
        waited = perf_counter() - began
        away = waited if of_run is None else of_run.get_away_seconds() - before
        watch.add_away(min(away, waited))
