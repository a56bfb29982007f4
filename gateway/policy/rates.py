"""What one asset is worth in another: only by dated rates that the configuration gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from gateway.errors import NoRate
from gateway.types import DECIMALS, Money


@dataclass(frozen=True, slots=True)
class Rate:
    """What one whole unit of an asset costs in the reporting currency, and since when that is known."""

    price: Money
    on: date


@dataclass(frozen=True, slots=True)
class Rates:
    """The reporting currency and the rates into it.

    Attributes:
        currency: the asset that budgets and scores are in.
        rates: by asset.
        max_age: how old a rate may be.
    """

    currency: str = "USD"
    rates: Mapping[str, Rate] = field(default_factory=dict)
    max_age: timedelta = timedelta(days=30)

    def convert(self, money: Money, today: date) -> Money:
        """Return an amount in the reporting currency, rounded to its smallest unit. Raises NoRate."""
        if money.asset == self.currency:
            return money
        rate = self.rates.get(money.asset)
        if rate is None:
            raise NoRate(f"there is no rate from {money.asset} to {self.currency}: set rates.{money.asset}")
        if today - rate.on > self.max_age:
            raise NoRate(
                f"the rate of {money.asset} is of {rate.on}, older than {self.max_age.days} days: renew it"
            )
        units = Decimal(money.amount).scaleb(-DECIMALS.get(money.asset, 0)) * rate.price.amount
        return Money(int(units.to_integral_value(ROUND_HALF_EVEN)), self.currency)
