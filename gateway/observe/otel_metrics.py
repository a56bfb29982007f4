"""The engine's numbers over OpenTelemetry: the same counters and histograms, kept and sent by its SDK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader

from gateway.observe.metrics import Metrics
from gateway.observe.registry import MOST_CHILDREN
from gateway.observe.resource import make_resource

ChildT = TypeVar("ChildT")


class Count:
    """A counter under one combination of labels."""

    def __init__(self, counter: Any, labels: dict[str, str]) -> None:
        self._counter, self._labels = counter, labels

    def add(self, amount: float = 1) -> None:
        """Count."""
        self._counter.add(amount, self._labels)


class Distribution:
    """A histogram under one combination of labels."""

    def __init__(self, histogram: Any, labels: dict[str, str]) -> None:
        self._histogram, self._labels = histogram, labels

    def observe(self, value: float) -> None:
        """Count a value."""
        self._histogram.record(value, self._labels)


class Family(Generic[ChildT]):
    """All children of one instrument."""

    def __init__(self, names: Sequence[str], make: Callable[[dict[str, str]], ChildT]) -> None:
        self._names, self._make = names, make
        self._children: dict[tuple[str, ...], ChildT] = {}

    def get(self, *values: str) -> ChildT:
        """Return the child of these labels' values; beyond MOST_CHILDREN the one of "other"."""
        child = self._children.get(values)
        if child is None:
            if len(self._children) >= MOST_CHILDREN:
                values = ("other",) * len(values)
            labels = dict(zip(self._names, values, strict=True))
            child = self._children.setdefault(values, self._make(labels))
        return child


class OtelMetrics(Metrics):
    """Counts as Metrics does, for a reader of OpenTelemetry's.

    "gateway_runs_ended_total" is "gateway.runs_ended" there, "gateway_run_seconds" is "gateway.run" in "s":
    what writes such names for Prometheus makes the former of them again.
    """

    def __init__(self, reader: MetricReader) -> None:
        self.provider = MeterProvider([reader], resource=make_resource())
        self._meter = self.provider.get_meter("gateway")
        super().__init__(self)

    def make_counter(self, name: str, told: str, *labels: str) -> Family[Count]:
        """Make an instrument that counts."""
        counter = self._meter.create_counter(_rename(name).removesuffix("_total"), "", told)
        return Family(labels, lambda values: Count(counter, values))

    def make_histogram(
        self, name: str, told: str, bounds: Sequence[float], *labels: str
    ) -> Family[Distribution]:
        """Make an instrument that counts seconds by these upper bounds."""
        histogram = self._meter.create_histogram(
            _rename(name).removesuffix("_seconds"), "s", told, explicit_bucket_boundaries_advisory=bounds
        )
        return Family(labels, lambda values: Distribution(histogram, values))

    def close(self) -> None:
        """Send what was not sent yet, and end."""
        self.provider.shutdown()


def _rename(name: str) -> str:
    return name.replace("gateway_", "gateway.", 1)
