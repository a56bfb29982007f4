"""What an attempt may cost at the moment it is made: it may be long since its backend was chosen."""

from __future__ import annotations

from gateway.catalogue import Catalogue
from gateway.clock import Clock
from gateway.engine.live import Live
from gateway.engine.planner import Planner
from gateway.errors import Rejected, Unavailable
from gateway.limits import Limits
from gateway.policy.routing import Candidate, Selector
from gateway.policy.stages import Setting, check_cost, reduce_limits

_LASTING = ("configured", "free")


def get_limits(live: Live, planner: Planner, clock: Clock) -> Limits:
    """Return the limits of a run's next attempt."""
    if live.limits.max_cost is None:
        return live.limits
    return reduce_limits(live.limits, live.run.attempts, planner.accounting.rates, clock.now().date())


def is_price_old(candidate: Candidate, limits: Limits, planner: Planner) -> bool:
    """Say whether the price of a candidate matters, and may be another by now."""
    money_matters = limits.max_cost is not None or bool(planner.accounting.budgets)
    return money_matters and candidate.quote is not None and candidate.quote.confidence not in _LASTING


async def renew_price(
    live: Live, candidate: Candidate, planner: Planner, catalogue: Catalogue, clock: Clock
) -> Candidate:
    """Return a candidate with its price of now, half a minute old at most.

    Raises Rejected if it is too dear by now, Unavailable if its backend does not tell the price.
    """
    name, task, limits = candidate.backend, live.run.task, get_limits(live, planner, clock)
    target = catalogue.get_target(task, name, candidate.target)
    quote, why = await planner.quotes.fetch(target, task, candidate.capabilities)
    if quote is None:
        raise Unavailable(f"what it would cost is unknown: {why}", backend=name, code="max_cost")
    candidate = candidate.replace(quote=quote)
    setting = Setting(limits, Selector((name,)), clock.now().date(), planner.accounting.rates)
    too_dear = check_cost(candidate, setting)
    if too_dear is not None:
        raise Rejected(too_dear, backend=name, code="max_cost")
    return candidate
