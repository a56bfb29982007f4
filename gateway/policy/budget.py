"""Budgets: what may be spent, per run, day or in all, in the reporting currency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from gateway.errors import BudgetExceeded, CostOutcome, NoRate
from gateway.policy.rates import Rates
from gateway.task import Attempt, Hold
from gateway.types import Money

Per = Literal["run", "day", "total"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A cap on what is reserved and settled together.

    Attributes:
        limit: the most, in the reporting currency.
        per: each run, each day (UTC), or in all.
        backend: only what is spent there; None for all.
        model: only what is spent on it; None for all.
        key: only what this caller spends (the run's `api_key`); None for all.
    """

    limit: Money
    per: Per = "day"
    backend: str | None = None
    model: str | None = None
    key: str | None = None

    @property
    def name(self) -> str:
        """Say it in words: "10 USD per day (anew at 00:00 UTC) at hosted"."""
        what = {"total": "in all", "day": "per day (anew at 00:00 UTC)", "run": "per run"}[self.per]
        parts = (("at", self.backend), ("for", self.model), ("by", self.key))
        return " ".join([f"{self.limit} {what}", *(f"{word} {name}" for word, name in parts if name)])

    def get_scope(self, spender: Spender) -> str | None:
        """Return the account that this budget counts a spender's money in, or None if it does not apply."""
        for wanted, found in zip(
            (self.backend, self.model, self.key), (spender.backend, spender.model, spender.key), strict=True
        ):
            if wanted is not None and wanted != found:
                return None
        period = {"run": f"run:{spender.run_id}", "day": f"day:{spender.day}", "total": "total"}[self.per]
        return "|".join([period, self.backend or "", self.model or "", self.key or ""])


@dataclass(frozen=True, slots=True, kw_only=True)
class Spender:
    """Who would spend, on what, and when."""

    run_id: str
    backend: str
    model: str | None
    key: str | None
    day: date


@dataclass(frozen=True, slots=True)
class Spend:
    """A change of one account, in the smallest unit of the reporting currency.

    Attributes:
        scope: the account.
        amount: added to what is used; negative to give back.
        limit: what may not be exceeded, or None to add in any case.
        budget: the budget's name, and asset, the reporting currency, for the refusal.
    """

    scope: str
    amount: int
    limit: int | None = None
    budget: str = ""
    asset: str = ""


@dataclass(frozen=True, slots=True)
class Accounting:
    """The budgets, and the rates in which they are held.

    Attributes:
        configured: the budgets that are there from the start.
        rates: what assets are worth in the reporting currency.
        get_more: gives the budgets that come and go meanwhile: those of API keys.
    """

    configured: tuple[Budget, ...] = ()
    rates: Rates = field(default_factory=Rates)
    get_more: Callable[[], Sequence[Budget]] = tuple

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Return all budgets of now."""
        return (*self.configured, *self.get_more())

    def make_reservation(self, spender: Spender, upper: Money | None) -> list[Spend]:
        """Return what must be set aside in every account that applies, before anything is sent.

        Raises:
            NoRate: a budget applies and the price is unknown, or can't be told in the reporting currency.
        """
        scopes = [(b, scope) for b in self.budgets if (scope := b.get_scope(spender)) is not None]
        if not scopes:
            return []
        if upper is None:
            raise NoRate(f"what it would cost is unknown, and a budget applies: {scopes[0][0].name}")
        money = self.rates.convert(upper, spender.day)
        return [
            Spend(scope, money.amount, budget.limit.amount, budget.name, money.asset)
            for budget, scope in scopes
        ]

    def settle(self, attempt: Attempt, now: datetime) -> list[Spend]:
        """Return the changes when an attempt has ended: what it did not cost is given back.

        What is unknown stays reserved: a budget never opens on a guess.
        """
        if attempt.cost.settled is None:
            is_free = attempt.cost.outcome is CostOutcome.NOT_CHARGED
            return [Spend(hold.scope, -hold.amount) for hold in attempt.holds if is_free]
        try:
            settled = self.rates.convert(attempt.cost.settled, now.date()).amount
        except NoRate:
            return []
        return [Spend(hold.scope, settled - hold.amount) for hold in attempt.holds if settled != hold.amount]


@dataclass(frozen=True, slots=True)
class Purse:
    """What a new run's budgets had left at one look. It refuses early; the reservation alone is exact.

    Attributes:
        accounting: the budgets and rates.
        spenders: by backend, who would spend there.
        used: what is reserved and settled, by account.
    """

    accounting: Accounting
    spenders: Mapping[str, Spender]
    used: Mapping[str, int]

    def tell_refusal(self, backend: str, upper: Money | None) -> str | None:
        """Say which budget has not that much left, what of it is used and when it begins anew; or None."""
        try:
            wanted = self.accounting.make_reservation(self.spenders[backend], upper)
        except NoRate as error:
            return str(error)
        for spend in wanted:
            used = self.used.get(spend.scope, 0)
            if spend.limit is not None and used + spend.amount > spend.limit:
                return str(
                    BudgetExceeded(
                        spend.budget, wanted=spend.amount, used=used, limit=spend.limit, asset=spend.asset
                    )
                )
        return None


def list_scopes(budgets: Iterable[Budget], spenders: Iterable[Spender]) -> set[str]:
    """Return the accounts that some spenders' money is counted in."""
    budgets = tuple(budgets)
    return {scope for s in spenders for b in budgets if (scope := b.get_scope(s)) is not None}


def make_holds(reservation: Sequence[Spend]) -> tuple[Hold, ...]:
    """Return what an attempt remembers of its reservation."""
    return tuple(Hold(spend.scope, spend.amount) for spend in reservation)
