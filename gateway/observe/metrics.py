"""What the engine's work looks like in numbers. Labels are configured names and words of the code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Protocol

from gateway.errors import CostOutcome
from gateway.observe.observer import EndCall, Observer
from gateway.observe.stopwatch import Stopwatch
from gateway.task import Attempt, Run

SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
LONG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONGEST = (*LONG, 300.0, 1800.0, 7200.0)
NONE = "none"


class Counter(Protocol):
    """What only grows."""

    def add(self, amount: float = 1) -> None:
        """Count."""


class Histogram(Protocol):
    """How often values were how large."""

    def observe(self, value: float) -> None:
        """Count a value."""


class Counters(Protocol):
    """Counters by their labels' values."""

    def get(self, *values: str) -> Counter:
        """Return one of them."""


class Histograms(Protocol):
    """Histograms by their labels' values."""

    def get(self, *values: str) -> Histogram:
        """Return one of them."""


class Instruments(Protocol):
    """What makes counters and histograms: a Registry, or OpenTelemetry's."""

    def make_counter(self, name: str, told: str, *labels: str) -> Counters:
        """Make counters."""

    def make_histogram(self, name: str, told: str, bounds: Sequence[float], *labels: str) -> Histograms:
        """Make histograms with these upper bounds."""


class Metrics(Observer):
    """Counts. Attempts and calls are told apart by backend, runs by model, never by an id or a key."""

    times_commits = True

    def __init__(self, instruments: Instruments) -> None:
        counter, histogram = instruments.make_counter, instruments.make_histogram
        self._begun = counter("gateway_runs_begun_total", "Runs taken in.", "model")
        self._ended = counter("gateway_runs_ended_total", "Runs that ended.", "status", "model", "backend")
        self._run_seconds = histogram(
            "gateway_run_seconds", "From taking a run in to its end.", LONGEST, "model", "status"
        )
        self._own_seconds = histogram(
            "gateway_overhead_seconds", "What the gateway itself took for a run, without waiting.", SHORT
        ).get()
        self._attempts = counter("gateway_attempts_ended_total", "Attempts that ended.", "backend", "outcome")
        self._doubted = counter(
            "gateway_attempts_in_doubt_total", "Attempts of which nobody knew if they landed.", "backend"
        )
        self._settled = counter(
            "gateway_cost_settled_total", "What attempts have cost, in whole units.", "asset", "backend"
        )
        self._unknown = counter(
            "gateway_cost_unknown_total", "Attempts that ended without their cost being known.", "backend"
        )
        calls = ("backend", "operation")
        self._calls = counter("gateway_backend_calls_total", "Calls to backends.", *calls, "outcome")
        self._call_seconds = histogram("gateway_backend_call_seconds", "How long they took.", LONG, *calls)
        self._commits = histogram(
            "gateway_store_commit_seconds", "How long the store took to write a change.", SHORT
        ).get()
        self._notes: dict[tuple[str, str], Callable[[float, BaseException | None], None]] = {}

    def note_change(self, before: Run | None, run: Run, watch: Stopwatch | None) -> None:
        """Count what began and what ended."""
        model = run.task.model or NONE
        if before is None:
            self._begun.get(model).add()
            return
        if run.attempts is not before.attempts and run.attempt is not None:
            self._note_attempt(before, run.attempt)
        if run.status.is_final and not before.status.is_final:
            status = run.status.name.lower()
            backend = NONE if run.attempt is None else run.attempt.backend
            self._ended.get(status, model, backend).add()
            self._run_seconds.get(model, status).observe((run.updated_at - run.created_at).total_seconds())
            if watch is not None and not run.children:
                self._own_seconds.observe(watch.get_own_seconds())

    def _note_attempt(self, run_before: Run, attempt: Attempt) -> None:
        before = run_before.attempt
        if before is not None and before.number != attempt.number:
            before = None
        if attempt.doubted and not (before is not None and before.doubted):
            self._doubted.get(attempt.backend).add()
        if not attempt.status.is_final or (before is not None and before.status.is_final):
            return
        self._attempts.get(attempt.backend, attempt.status.value).add()
        settled = attempt.cost.settled
        if settled is not None:
            self._settled.get(settled.asset, attempt.backend).add(float(str(settled).split()[0]))
        elif attempt.cost.outcome is not CostOutcome.NOT_CHARGED:
            self._unknown.get(attempt.backend).add()

    def begin_call(self, backend: str, operation: str, _runs: Sequence[Run]) -> EndCall:
        """Count a call and time it."""
        key = (backend, operation)
        note = self._notes.get(key) or self._notes.setdefault(key, self._bind(backend, operation))
        began = perf_counter()
        return lambda error: note(perf_counter() - began, error)

    def _bind(self, backend: str, operation: str) -> Callable[[float, BaseException | None], None]:
        """Return what notes the calls of one kind, with its counters looked up already."""
        good, seconds = (
            self._calls.get(backend, operation, "ok"),
            self._call_seconds.get(backend, operation),
        )

        def note(took: float, error: BaseException | None) -> None:
            if error is None:
                good.add()
            else:
                self._calls.get(backend, operation, type(error).__name__).add()
            seconds.observe(took)

        return note

    def note_commit(self, seconds: float) -> None:
        """Count a commit."""
        self._commits.observe(seconds)
