"""The five stages, each a pure function over candidates: capability, constraint, order, reserve, commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from gateway.adapter import Feature
from gateway.errors import CostOutcome, InvalidInput, NoRate
from gateway.lifecycle import AttemptStatus
from gateway.limits import Limits, Sort
from gateway.policy.budget import Purse
from gateway.policy.rates import Rates
from gateway.policy.routing import HELD, Candidate, Plan, Selector, Stage
from gateway.policy.scoring import Facts, Parts, score
from gateway.task import Attempt, Task
from gateway.types import DECIMALS, Money

ILL = ("breaker", "unhealthy")
"""The rules that remove a candidate which may be well again later."""
_MOST_UNITS = 10**60  # beyond any price: a float can't hold what an amount may be
_FEATURES = frozenset(feature.value for feature in Feature)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the stages know beside the candidates: the limits, the rates, and the day of the rates' age.

    `purse` is what the budgets have left; without it they are not asked.
    """

    limits: Limits
    selector: Selector
    today: date
    rates: Rates = field(default_factory=Rates)
    purse: Purse | None = None

    @property
    def sort(self) -> Sort:
        """Return the way to sort. Raises InvalidInput if two were asked for."""
        asked, limit = self.selector.sort, self.limits.sort
        if asked is not None and limit is not None and asked != limit:
            raise InvalidInput(f'backend="auto:{asked}" and sort={limit!r} contradict each other')
        return asked or limit or "balanced"


def make_plan(candidates: Sequence[Candidate], task: Task, setting: Setting) -> Plan:
    """Send the candidates through all stages. Raises InvalidInput for what no candidate could do."""
    if task.stream and setting.limits.quorum is not None:
        raise InvalidInput(
            f"stream and quorum={setting.limits.quorum} contradict each other: nothing can be handed out"
            " before the answers agree"
        )
    sort = setting.sort
    left = [c if c.removed_by else check_capability(c, task, setting.limits) for c in candidates]
    left = [c if c.removed_by else check_constraints(c, setting) for c in left]
    left = hold(left)
    good = order([c for c in left if c.removed_by is None], setting)
    good, refused = ask_budgets(good, setting)
    good = [commit(candidate, reserve(candidate, setting)) for candidate in good]
    return Plan(sort=sort, candidates=(*good, *refused, *(c for c in left if c.removed_by is not None)))


def check_capability(candidate: Candidate, task: Task, limits: Limits) -> Candidate:
    """Stage 1: the backend is there and can run this, with the features that the task needs."""
    facts = candidate.capabilities
    missing: set[str] = set()
    if limits.require or task.stream:
        needed = {*limits.require, *(("stream",) if task.stream else ())}
        for word in sorted(needed - _FEATURES):
            known = ", ".join(sorted(_FEATURES))
            raise InvalidInput(f"require: there is no feature {word!r}; known: {known}")
        missing = needed - facts.features
    if not facts.healthy:
        return _remove(candidate, "capability", "unhealthy", facts.reason or "it is not healthy")
    if missing:
        return _remove(candidate, "capability", "feature", f"it can't {' or '.join(sorted(missing))}")
    return candidate


def check_constraints(candidate: Candidate, setting: Setting) -> Candidate:
    """Stage 2, hard and fail-closed: only, ignore, breakers, max_cost."""
    limits = setting.limits
    if limits.only is not None and candidate.backend not in limits.only:
        return _remove(candidate, "constraint", "only", f"only {', '.join(limits.only)} may be used")
    if candidate.backend in limits.ignore:
        return _remove(candidate, "constraint", "ignore", "it is to be ignored")
    if candidate.blocked is not None and candidate.blocked[0] != HELD:
        return _remove(candidate, "constraint", *candidate.blocked)
    too_dear = check_cost(candidate, setting)
    return _remove(candidate, "constraint", "max_cost", too_dear) if too_dear else candidate


def reduce_limits(limits: Limits, attempts: Sequence[Attempt], rates: Rates, today: date) -> Limits:
    """Return the limits of one more attempt: max_cost has to cover what those in doubt may have cost as well.

    Where that can't be told in its currency, nothing of max_cost is left.
    """
    doubted = [
        attempt.cost.settled or attempt.cost.reserved or attempt.cost.quoted
        for attempt in attempts
        if attempt.status is AttemptStatus.UNRESOLVED and attempt.cost.outcome is not CostOutcome.NOT_CHARGED
    ]
    left = limits.max_cost
    if left is None or not doubted:
        return limits
    try:
        for money in doubted:
            if money is None:
                return limits.replace(max_cost=Money(0, left.asset))
            cost = money
            if cost.asset != left.asset:
                left, cost = (rates.convert(one, today) for one in (left, cost))
            left = max(left - cost, Money(0, left.asset))
    except NoRate:
        left = Money(0, left.asset)
    return limits.replace(max_cost=left)


def hold(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Remove those whose rate limit is used up, unless nobody else is left: then the task waits for it."""
    held = [c.removed_by is None and c.blocked is not None for c in candidates]
    if not any(held):
        return list(candidates)
    others = any(c.removed_by is None and not is_held for c, is_held in zip(candidates, held, strict=True))
    return [
        c
        if c.blocked is None or not is_held
        else _remove(c, "constraint", *c.blocked)
        if others
        else c.move("constraint", reason=c.blocked[1])
        for c, is_held in zip(candidates, held, strict=True)
    ]


def _remove(candidate: Candidate, stage: Stage, rule: str, reason: str) -> Candidate:
    return candidate.move(stage, removed_by=rule, reason=reason, rank=0)


def check_cost(candidate: Candidate, setting: Setting) -> str | None:
    """Say why a candidate may cost more than max_cost, or None."""
    quote, max_cost = candidate.quote, setting.limits.max_cost
    if max_cost is None or (quote is not None and quote.confidence == "free"):
        return None
    if quote is None or quote.upper is None:
        why = candidate.quote_error or "its quote has no upper bound"
        return f"max_cost is {max_cost} and what it would cost is unknown: {why}"
    upper, most = quote.upper, max_cost
    if upper.asset != most.asset:
        try:
            upper, most = (setting.rates.convert(money, setting.today) for money in (upper, most))
        except NoRate as error:
            return f"it asks {upper}, which can't be held against {most}: {error}"
    times = (setting.limits.hedge or 1) if not setting.limits.idempotent else 1
    if most.amount < upper.amount * times:
        what = f"{times} times {quote.upper}" if times > 1 else str(quote.upper)
        return f"it may cost {what}, more than {max_cost}"
    return None


def order(candidates: Sequence[Candidate], setting: Setting) -> list[Candidate]:
    """Stage 3: the explicit order first, then by score, then by weight, then as configured."""
    limits, selector = setting.limits, setting.selector
    several = selector.backends is not None and len(selector.backends) > 1
    explicit = selector.backends if several and selector.backends else limits.order
    tiers = {name: number for number, name in reversed(list(enumerate(explicit)))}
    weights = limits.weights or {}
    some_tried = any(candidate.observed.looks > 0 for candidate in candidates)

    def place(item: tuple[Candidate, float | None, Parts]) -> tuple[int, int, bool, float, float]:
        backend, value = item[0].backend, item[1]
        turn = _get_turn(item[0], setting) if some_tried else 0
        tier = tiers.get(backend, len(explicit))
        return tier, turn, value is None, value or 0.0, -weights.get(backend, 1.0)

    ranked = sorted(((c, *score(_tell_facts(c, setting), setting.sort)) for c in candidates), key=place)
    return [
        candidate.move("order", rank=number, score=value, parts=parts)
        for number, (candidate, value, parts) in enumerate(ranked, start=1)
    ]


def _get_turn(candidate: Candidate, setting: Setting) -> int:
    """Return 0 for a candidate that goes by its score; one that was never tried may go before or after it."""
    seen, explore = candidate.observed, setting.limits.explore or "free"
    if seen.looks > 0 or setting.sort == "cheapest" or explore == "cheaper":
        return 0
    if explore == "always":
        return 0 if seen.running else -1
    is_free = candidate.quote is not None and candidate.quote.confidence == "free"
    return 0 if is_free and explore == "free" else 1


def _tell_facts(candidate: Candidate, setting: Setting) -> Facts:
    quote, worth = candidate.quote, setting.limits.value_of_time
    price = exposure = None
    if quote is not None and quote.confidence == "free":
        price = exposure = 0.0
    elif quote is not None:
        price = _tell_amount(quote.expected or quote.upper, setting)
        exposure = _tell_amount(quote.upper or quote.expected, setting)
    per_hour = _tell_amount(worth, setting) or 0.0
    return Facts(price, exposure, candidate.observed, per_hour / 3600)


def _tell_amount(money: Money | None, setting: Setting) -> float | None:
    """Return an amount in whole units of the reporting currency: for sorting alone, never for accounts."""
    if money is None:
        return None
    try:
        converted = setting.rates.convert(money, setting.today)
    except NoRate:
        return None
    amount = max(-_MOST_UNITS, min(converted.amount, _MOST_UNITS))
    return float(amount / 10 ** DECIMALS.get(converted.asset, 0))


def ask_budgets(candidates: list[Candidate], setting: Setting) -> tuple[list[Candidate], list[Candidate]]:
    """Stage 4, before anything is set aside: part the ranked ones from those that a budget refuses."""
    if setting.purse is None:
        return candidates, []
    good: list[Candidate] = []
    refused: list[Candidate] = []
    for candidate in candidates:
        upper = candidate.quote.upper if candidate.quote is not None else None
        why = None if candidate.is_free else setting.purse.tell_refusal(candidate.backend, upper)
        if why is not None:
            refused.append(_remove(candidate, "reserve", "budget", why))
        else:
            good.append(candidate.move("order", rank=len(good) + 1) if refused else candidate)
    return good, refused


def reserve(candidate: Candidate, setting: Setting) -> str | None:
    """Stage 4: what must be set aside for it is its quote's upper bound, in the reporting currency."""
    quote = candidate.quote
    upper = None if quote is None else quote.upper
    if upper is None:
        return None
    try:
        return str(setting.rates.convert(upper, setting.today))
    except NoRate:
        return str(upper)


def commit(candidate: Candidate, reserved: str | None) -> Candidate:
    """Stage 5: it may be sent, once its envelope is stored and that much is set aside."""
    return candidate.move("commit", parts={**candidate.parts, "reserve": reserved})


def is_worth_waiting(plan: Plan, limits: Limits, *, is_promised: bool = False) -> bool:
    """Say whether a plan with nothing left may have something later, and the task wants to wait for it.

    A run that is promised waits in any case: it was taken in before a restart, and backends may come up later
    than the gateway.
    """
    if plan.ranked:
        return False
    blocked = any(c.removed_by in ILL for c in plan.removed)
    return (is_promised or limits.when_all_open == "wait") and blocked and not plan.ranked
