"""The budgets, rates and capacities of a configuration, checked by name."""

from __future__ import annotations

from gateway.config import Config
from gateway.errors import ConfigError
from gateway.policy.budget import Accounting, Budget
from gateway.policy.capacity import Capacity
from gateway.policy.rates import Rate, Rates
from gateway.types import DECIMALS


def make_accounting(config: Config) -> Accounting:
    """Return the budgets and rates of a configuration.

    Raises:
        ConfigError: a currency that is no asset, a budget or rate that is not in the currency, or a budget
            for a backend or a model that there is none of.
    """
    currency = config.gateway.currency
    if currency not in DECIMALS:
        raise ConfigError(f"gateway.currency: unknown asset {currency!r}; known: {', '.join(DECIMALS)}")
    for asset, rate in config.rates.items():
        if asset not in DECIMALS and ":" not in asset:
            raise ConfigError(f"rates.{asset}: unknown asset; known: {', '.join(DECIMALS)}")
        if rate.price.asset != currency:
            raise ConfigError(
                f"rates.{asset}.price: {rate.price} is not in the reporting currency {currency}"
            )
    for number, budget in enumerate(config.budgets):
        if budget.limit.asset != currency:
            raise ConfigError(f"budgets.{number}: {budget.limit} is not in the reporting currency {currency}")
        for what, name, known in (
            ("backend", budget.backend, config.backends),
            ("model", budget.model, config.models),
        ):
            if name is not None and name not in known:
                raise ConfigError(f"budgets.{number}.{what}: there is no {what} {name!r}")
    rates = {asset: Rate(rate.price, rate.on) for asset, rate in config.rates.items()}
    budgets = tuple(Budget(**dict(budget)) for budget in config.budgets)  # not dumped: Money stays Money
    return Accounting(budgets, Rates(currency, rates, config.gateway.rates_max_age))


def make_capacities(config: Config) -> dict[str, Capacity]:
    """Return how much each backend may be given at once, as configured."""
    capacities: dict[str, Capacity] = {}
    for name, backend in config.backends.items():
        submissions, seconds = backend.rate or (None, 60.0)
        capacities[name] = Capacity(backend.max_in_flight, submissions, seconds)
    return capacities
