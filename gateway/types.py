"""The smallest words: JSON, ids and Money. No I/O, no clock, no dice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NewType, TypeAlias

JSON: TypeAlias = Any
"""Anything that survives a JSON round trip: None, bool, int, float, str, list and dict of these.

It is `Any` to type checkers: a recursive alias makes every caller cast, and validating a 16 MB output
against one costs more than everything else that the gateway does with it.
"""

RunId = NewType("RunId", str)
AttemptId = NewType("AttemptId", str)

DECIMALS: Mapping[str, int] = {"USD": 8, "EUR": 8, "ETH": 18, "OGPU": 18}
"""Digits after the point per asset. USD counts microcents of 1e-8 USD, the unit of inference.sh's bills."""

_MONEY = re.compile(r"\s*(-?)([0-9]+)(?:\.([0-9]+))?\s*([A-Za-z][A-Za-z0-9:._-]*)\s*")
_USERINFO = re.compile(r"(?<=://)[^/?#]*@")
_LONGEST_TEXT = 1000  # Python reads no integers of thousands of digits, and nobody owes them


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """An exact amount: an integer of the asset's smallest unit. Two assets never compare or add."""

    amount: int
    asset: str

    @classmethod
    def parse(cls, text: str) -> Money:
        """Read "0.002 USD". Raises ValueError for an unknown asset or more digits than the asset has.

        A token is written as its smallest unit and its address, for instance "5 erc20:1:0xabc".
        """
        match = _MONEY.fullmatch(text)
        if match is None or len(text) > _LONGEST_TEXT:
            raise ValueError(f'"{text[:80]}" is not an amount of money; write it as "0.002 USD"')
        sign, whole, fraction, asset = match.groups()
        asset = asset if ":" in asset else asset.upper()
        decimals = _get_decimals(asset)
        fraction = (fraction or "").rstrip("0")
        if len(fraction) > decimals:
            raise ValueError(f'"{text}" has more digits than {asset} can hold ({decimals})')
        return cls(int(sign + whole + fraction.ljust(decimals, "0")), asset)

    def __str__(self) -> str:
        decimals = _get_decimals(self.asset)
        digits = str(abs(self.amount)).rjust(decimals + 1, "0")
        whole, fraction = digits[: len(digits) - decimals], digits[len(digits) - decimals :].rstrip("0")
        sign = "-" if self.amount < 0 else ""
        return f"{sign}{whole}{'.' if fraction else ''}{fraction} {self.asset}"

    def __add__(self, other: Money) -> Money:
        self._check_same_asset(other)
        return Money(self.amount + other.amount, self.asset)

    def __sub__(self, other: Money) -> Money:
        self._check_same_asset(other)
        return Money(self.amount - other.amount, self.asset)

    def __lt__(self, other: Money) -> bool:
        self._check_same_asset(other)
        return self.amount < other.amount

    def __le__(self, other: Money) -> bool:
        self._check_same_asset(other)
        return self.amount <= other.amount

    def _check_same_asset(self, other: Money) -> None:
        if self.asset != other.asset:
            raise ValueError(f"{self} and {other} are different assets and need a dated rate")


def _get_decimals(asset: str) -> int:
    if ":" in asset:
        return 0
    if asset not in DECIMALS:
        raise ValueError(
            f"unknown asset {asset!r}; known: {', '.join(DECIMALS)}, or a token as kind:chain:address"
        )
    return DECIMALS[asset]


def sum_money(amounts: Sequence[Money]) -> dict[str, Money]:
    """Add amounts up per asset."""
    total: dict[str, Money] = {}
    for money in amounts:
        total[money.asset] = total[money.asset] + money if money.asset in total else money
    return total


@dataclass(frozen=True, slots=True, eq=False)
class RateLimit:
    """What a backend told of its rate limit with one answer.

    Attributes:
        remaining: so many more it takes ...
        reset_in: ... until then, counted from the answer; None if it did not say.
    """

    remaining: int
    reset_in: timedelta | None = None


def hide_userinfo(url: str) -> str:
    """Return a backend's URL as it may be shown: without a name and a password before its host."""
    return _USERINFO.sub("", url, count=1) if "@" in url else url
