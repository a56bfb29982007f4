"""What both benchmarks of the server share: ours and theirs in turn, medians, floors, a part of the page."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from statistics import median
from typing import Generic, Protocol, TypeVar

from benchmarks.environments import NotInstalledError
from benchmarks.lost_answer.table import format_table
from benchmarks.page import format_misses, format_place, write_part
from benchmarks.server.contestants import OURS, Contestant
from benchmarks.server.disk import measure_sync_ms
from benchmarks.server.running import pin_others
from benchmarks.serving import serve_mock

DIRECT = "the mock itself"


class Measured(Protocol):
    """The medians of one contestant: a frozen dataclass of numbers."""

    @property
    def rate(self) -> float:
        """Return how much it carries a second."""


FoundT = TypeVar("FoundT", bound=Measured)
Found = Mapping[str, FoundT]


@dataclass(frozen=True, slots=True)
class Comparison(Generic[FoundT]):
    """A benchmark of servers.

    Attributes:
        name: of its part of the page.
        about: what is measured, and what ours does more and less; Markdown.
        contestants: who is measured, ours first.
        floors: how many times the rate of others ours has to be, by their labels.
        heads: of the table: what carries, a rate, then of the columns that `format_cells` fills.
        mock: the module of the mock backend.
        measure_mock: measures the mock itself, given its URL.
        measure: measures a contestant, given the mock's URL. Raises NotInstalledError.
        find_more: names further floors that were missed.
        format_cells: returns a contestant's further cells, given what was found and its label.
        versions: of what else was used.
        format_more: returns what else stands below the table; Markdown.
    """

    name: str
    about: str
    contestants: Sequence[Contestant]
    floors: Mapping[str, float]
    heads: Sequence[str]
    mock: str
    measure_mock: Callable[[str], FoundT]
    measure: Callable[[Contestant, str], FoundT]
    find_more: Callable[[Found[FoundT]], list[str]]
    format_cells: Callable[[Found[FoundT], str], list[str]]
    versions: Sequence[str] = ()
    format_more: Callable[[Found[FoundT]], list[str]] = lambda _: []

    @property
    def command(self) -> str:
        """Return how it is called."""
        return f"python -m benchmarks.{self.name}"

    def run(self, turns: int, only: Sequence[str]) -> int:
        """Measure, print and write; 1 if a floor is missed. With `only`, nothing is written."""
        pin_others()
        found, missing = self._measure(turns, only)
        misses = self.find_misses(found)
        text = self.format_part(found, [*misses, *missing])
        print(text)
        if not only:
            write_part(self.name, text)
        return 1 if misses else 0

    def _measure(self, turns: int, only: Sequence[str]) -> tuple[dict[str, FoundT], list[str]]:
        """Return each contestant's medians, and who is not there."""
        chosen = [one for one in self.contestants if not only or one.label.startswith(tuple(only))]
        turns_of = defaultdict[str, list[FoundT]](list)
        missing: dict[str, str] = {}
        with serve_mock(module=self.mock) as mock:
            for _ in range(turns):
                turns_of[DIRECT].append(self.measure_mock(mock.url))
                for one in chosen:
                    if one.label in missing:
                        continue
                    try:
                        turn = self.measure(one, mock.url)
                    except NotInstalledError as error:
                        missing[one.label] = str(error)
                        continue
                    turns_of[one.label].append(turn)
                    print(f"{one.label}: {turn}", file=sys.stderr, flush=True)
        return {label: get_median(found) for label, found in turns_of.items()}, list(missing.values())

    def find_misses(self, found: Found[FoundT]) -> list[str]:
        """Return the floors that were missed."""
        ours = found[OURS.label].rate
        slow = [
            f"{ours / found[label].rate:.3g} times {label} instead of {floor:g}"
            for label, floor in self.floors.items()
            if label in found and ours < floor * found[label].rate
        ]
        return slow + self.find_more(found)

    def format_part(self, found: Found[FoundT], misses: Sequence[str]) -> str:
        """Return the part of the page."""
        ours = found[OURS.label].rate
        lines = [
            [
                label,
                f"{one.rate:,.0f}",
                "" if label in (OURS.label, DIRECT) else f"{ours / one.rate:.2g}",
                f"{self.floors[label]:g}" if label in self.floors else "",
                *self.format_cells(found, label),
            ]
            for label, one in found.items()
        ]
        through, rate, *more = self.heads
        heads = [through, rate, "ours is so many times", "floor", *more]
        place = format_place(" ".join([self.command, *sys.argv[1:]]), self.versions)
        sync = f"- One fsync took {measure_sync_ms():.1f} ms: no durable call is faster"
        table, end = format_table(heads, lines), f"{place}\n{sync}"
        more = self.format_more(found)
        return "\n\n".join([self.about.strip(), table, format_misses(misses), *more, end])


def get_median(turns: Sequence[FoundT]) -> FoundT:
    """Return the median of each number; 0 stands for what a turn could not tell."""
    columns = zip(*(astuple(turn) for turn in turns), strict=True)  # type: ignore[call-overload]  # dataclasses
    return type(turns[0])(*(median([one for one in column if one] or [0.0]) for column in columns))


def make_parser(command: str, about: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows the options of all such benchmarks."""
    parser = argparse.ArgumentParser(prog=command, description=about)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=(), help="beginnings of labels")
    return parser
