"""Which of several answers agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from gateway.limits import Agree
from gateway.types import JSON

Agreement: TypeAlias = Callable[[JSON, JSON], bool]

_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the answers so far say.

    Attributes:
        agreed: who agrees, if enough do: the names of the largest group, in order.
        is_open: more answers could still bring an agreement.
        groups: all groups, the largest first.
    """

    agreed: tuple[str, ...] | None
    is_open: bool
    groups: tuple[tuple[str, ...], ...]


def judge(answers: Sequence[tuple[str, JSON]], wanted: int, still_to_come: int, agrees: Agreement) -> Verdict:
    """Group (name, answer) pairs by whom they agree with, and say whether `wanted` of them do."""
    groups: list[tuple[JSON, list[str]]] = []
    for name, answer in answers:
        for first, names in groups:
            if agrees(first, answer):
                names.append(name)
                break
        else:
            groups.append((answer, [name]))
    ordered = sorted((tuple(names) for _, names in groups), key=len, reverse=True)
    largest = len(ordered[0]) if ordered else 0
    agreed = ordered[0] if largest >= wanted else None
    return Verdict(agreed, agreed is None and largest + still_to_come >= wanted, tuple(ordered))


def get_agreement(agree: Agree | None) -> Agreement:
    """Return the rule of that name; "exact" if none is named."""
    return is_nearly if agree == "numeric" else is_exactly


def is_exactly(one: JSON, other: JSON) -> bool:
    """Say whether two answers are the same JSON; true and 1 are not."""
    return _compare(one, other, lambda a, b: a == b or (a != a and b != b))  # noqa: PLR0124  NaN is NaN


def is_nearly(one: JSON, other: JSON) -> bool:
    """Say whether two answers are the same but for numbers that differ by less than a millionth."""
    return _compare(one, other, _is_close)


def _is_close(one: float, other: float) -> bool:
    if one != one or other != other:  # noqa: PLR0124  NaN is NaN
        return one != one and other != other  # noqa: PLR0124
    try:
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    except OverflowError:  # an integer that no float can hold
        return _is_close_exactly(one, other)


def _is_close_exactly(one: float, other: float) -> bool:
    try:
        first, second = Fraction(one), Fraction(other)
    except OverflowError:  # infinity, which is close to itself alone
        return False
    return abs(first - second) <= Fraction(_TOLERANCE) * max(abs(first), abs(second))


def _compare(one: JSON, other: JSON, same_number: Callable[[float, float], bool]) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return same_number(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_compare(one[k], other[k], same_number) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_compare(a, b, same_number) for a, b in pairs)
    return type(one) is type(other) and bool(one == other)
