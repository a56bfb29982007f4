"""Counters and histograms, and how Prometheus reads them (its text format, version 0.0.4).

A family's child is looked up once by its labels and then held: counting is one addition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Generic, Protocol, TypeVar

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
MOST_CHILDREN = 1_000
"""Combinations of labels that a family keeps; what comes later is counted as "other"."""

Labels = tuple[str, ...]


class Child(Protocol):
    """What is counted under one combination of labels."""

    def tell(self) -> Iterable[tuple[str, str, float]]:
        """Yield samples: the name's end, a further label as text, and the value."""


class Count:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        """Count."""
        self.value += amount

    def tell(self) -> Iterator[tuple[str, str, float]]:
        """Yield the one sample."""
        yield "", "", self.value


class Distribution:
    """How often values were up to each of some bounds, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value in."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def tell(self) -> Iterator[tuple[str, str, float]]:
        """Yield the buckets, each with those below it, the sum and the count."""
        total = 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            total += count
            yield "_bucket", f'le="{"+Inf" if bound is None else format(bound, "g")}"', total
        yield "_sum", "", self._sum
        yield "_count", "", total


ChildT = TypeVar("ChildT", bound=Child)


class Family(Generic[ChildT]):
    """All children of one name."""

    def __init__(self, name: str, kind: str, told: str, labels: Labels, make: Callable[[], ChildT]) -> None:
        self.name, self._kind, self._told, self._labels, self._make = name, kind, told, labels, make
        self._children: dict[Labels, ChildT] = {}

    def get(self, *values: str) -> ChildT:
        """Return the child of these labels' values; beyond MOST_CHILDREN the one of "other"."""
        child = self._children.get(values)
        if child is None:
            if len(self._children) >= MOST_CHILDREN:
                values = ("other",) * len(values)
            child = self._children.setdefault(values, self._make())
        return child

    def write(self) -> Iterator[str]:
        """Yield its lines."""
        yield from write_head(self.name, self._kind, self._told)
        for values, child in self._children.items():
            common = write_labels(self._labels, values)
            for end, more, value in child.tell():
                yield write_sample(self.name + end, ",".join(filter(None, (common, more))), value)


class Registry:
    """The families of one process."""

    def __init__(self) -> None:
        self._families: list[Family[Count] | Family[Distribution]] = []

    def make_counter(self, name: str, told: str, *labels: str) -> Family[Count]:
        """Make a family of counters; its name ends in _total."""
        family = Family(name, "counter", told, labels, Count)
        self._families.append(family)
        return family

    def make_histogram(
        self, name: str, told: str, bounds: Sequence[float], *labels: str
    ) -> Family[Distribution]:
        """Make a family of histograms with these upper bounds."""
        family = Family(name, "histogram", told, labels, lambda: Distribution(bounds))
        self._families.append(family)
        return family

    def write(self) -> str:
        """Return all as Prometheus reads it."""
        return "".join(line for family in self._families for line in family.write())


def merge(texts: Mapping[str, str], label: str) -> str:
    """Return the texts of several registries as one, in which `label` says whose each line is.

    They are not summed up: where one registry began anew a sum would fall, and look as if all had.
    """
    families: dict[str, list[str]] = {}
    for value, text in texts.items():
        whose = write_labels((label,), (value,))
        family: list[str] = []
        for line in StringIO(text, newline="\n"):  # `splitlines` would cut names that hold odd line ends
            if line.startswith("# HELP "):
                family = families.setdefault(line, [])
            elif not line.startswith("#"):
                family.append(_add_label(line, whose))
            elif not family:
                family.append(line)
    return "".join(line for head, lines in families.items() for line in (head, *lines))


def _add_label(line: str, label: str) -> str:
    name, sign, rest = line.partition("{")
    if sign:
        return f"{name}{{{label},{rest}"
    name, _, rest = line.partition(" ")
    return f"{name}{{{label}}} {rest}"


def write_gauge(name: str, told: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> str:
    """Return a family of gauges, read just now, as Prometheus reads it."""
    samples = [write_sample(name, write_labels(labels, words), value) for words, value in values]
    return "".join([*write_head(name, "gauge", told), *samples])


def write_head(name: str, kind: str, told: str) -> Iterator[str]:
    """Yield what a family begins with."""
    yield f"# HELP {name} {told}\n"
    yield f"# TYPE {name} {kind}\n"


def write_labels(names: Labels, values: Labels) -> str:
    """Return labels between the braces."""
    return ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))


def write_sample(name: str, labels: str, value: float) -> str:
    """Return one line."""
    number = str(int(value)) if value == int(value) else repr(float(value))
    return f"{name}{{{labels}}} {number}\n" if labels else f"{name} {number}\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
