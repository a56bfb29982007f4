"""The bill: what was quoted, is reserved and was settled, summed up, with what nobody knows counted apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date
from typing import Literal

from gateway.errors import CostOutcome
from gateway.store.ledger import Entry
from gateway.types import Money, sum_money
from gateway.value import Value

By = Literal["backend", "model", "day", "key"]
BY: tuple[By, ...] = ("backend", "model", "day")
ALL_BY: tuple[By, ...] = (*BY, "key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Total(Value):
    """A sum that does not hide what is not in it.

    Attributes:
        known: the sum of the known amounts, one per asset.
        unknown: how many attempts have an amount that nobody knows.
    """

    known: tuple[Money, ...] = ()
    unknown: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine(Value):
    """The costs of some attempts.

    Attributes:
        backend: whose they are; None if the lines are not told apart by it.
        model: likewise; None also for tasks that name no model.
        day: on which they began (UTC), likewise.
        key: the API key's name whose runs they are of, likewise; None also for runs without one.
        attempts: how many there are, and `under_way`, how many of them have not ended.
        quoted: what they would cost, as quoted.
        reserved: the most that may still be charged: for those under way, and for those that ended without
            anybody knowing what they cost.
        settled: what they did cost, from evidence. An attempt under way is not unknown yet.
    """

    backend: str | None = None
    model: str | None = None
    day: date | None = None
    key: str | None = None
    attempts: int = 0
    under_way: int = 0
    quoted: Total = field(default_factory=Total)
    reserved: Total = field(default_factory=Total)
    settled: Total = field(default_factory=Total)


_Names = tuple[str | date | None, ...]


def make_bill(
    entries: Iterable[Entry], by: Sequence[By] = BY, pruned: Iterable[BillLine] = ()
) -> list[BillLine]:
    """Sum entries up: a line for each backend, model and day, or what else `by` names, in that order.

    Lines are sorted by what they are told apart by. Without entries there is no line. `pruned` are lines of
    entries that are gone, told apart by all of them; they are added.
    """
    groups: dict[_Names, list[Entry]] = {}
    for entry in entries:
        day = entry.at.astimezone(UTC).date()
        names = {"backend": entry.backend, "model": entry.model, "day": day, "key": entry.api_key}
        groups.setdefault(tuple(names[word] for word in by), []).append(entry)
    lines = {key: _sum_up(dict(zip(by, key, strict=True)), group) for key, group in groups.items()}
    for line in pruned:
        key = tuple(getattr(line, word) for word in by)
        empty = replace(BillLine(), **dict(zip(by, key, strict=True)))
        lines[key] = add_lines(lines.get(key, empty), line)
    return [lines[key] for key in sorted(lines, key=lambda key: [str(value or "") for value in key])]


def make_pruned_key(line: BillLine) -> tuple[str, str, str, str]:
    """Return what a line of pruned runs is kept by: day, backend, model and API key, "" for none."""
    return line.day.isoformat() if line.day else "", line.backend or "", line.model or "", line.key or ""


def add_lines(one: BillLine, other: BillLine) -> BillLine:
    """Return the first line with the other's numbers added."""
    return replace(
        one,
        attempts=one.attempts + other.attempts,
        under_way=one.under_way + other.under_way,
        quoted=_add_totals(one.quoted, other.quoted),
        reserved=_add_totals(one.reserved, other.reserved),
        settled=_add_totals(one.settled, other.settled),
    )


def _sum_up(names: dict[By, str | date | None], entries: Sequence[Entry]) -> BillLine:
    free = CostOutcome.NOT_CHARGED  # of the price: what was paid on the way, as gas, is settled all the same
    costing = [e for e in entries if e.cost.outcome is not free or e.cost.settled is not None]
    unsettled = [e for e in costing if e.cost.settled is None]
    quotes = [e.cost.quoted for e in entries if e.cost.quoted is not None or e.cost.outcome is not free]
    settled = [e.cost.settled for e in costing if e.ended or e.cost.settled is not None]
    return BillLine(
        **names,  # type: ignore[arg-type]  # each name has its own type
        attempts=len(entries),
        under_way=sum(not entry.ended for entry in entries),
        quoted=_add(quotes),
        reserved=_add([entry.cost.reserved for entry in unsettled]),
        settled=_add(settled),
    )


def _add_totals(one: Total, other: Total) -> Total:
    return Total(known=_sort(sum_money([*one.known, *other.known])), unknown=one.unknown + other.unknown)


def _add(amounts: Sequence[Money | None]) -> Total:
    sums = sum_money([amount for amount in amounts if amount is not None])
    return Total(known=_sort(sums), unknown=sum(amount is None for amount in amounts))


def _sort(sums: Mapping[str, Money]) -> tuple[Money, ...]:
    return tuple(sums[asset] for asset in sorted(sums))
