"""Where a task goes: five stages, each a pure function over candidates, all visible in the Plan.

capability -> constraint -> order -> reserve -> commit
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, get_args

from gateway.adapter import Capabilities, Feature
from gateway.errors import InvalidInput, NoBackend
from gateway.limits import Limits
from gateway.task import Quote, Task
from gateway.types import JSON, Money
from gateway.value import Value

T = TypeVar("T")
Sort = Literal["balanced", "cheapest", "fastest", "reliable"]
Stage = Literal["capability", "constraint", "order", "reserve", "commit"]


@dataclass(frozen=True, slots=True)
class Selector:
    """What `backend=` said: which backends, and how to sort them."""

    backends: tuple[str, ...] | None
    sort: Sort = "balanced"

    @classmethod
    def parse(cls, backend: str | Sequence[str]) -> Selector:
        """Read "auto", "auto:cheapest", a name, or names in the order to try. Raises InvalidInput."""
        if not isinstance(backend, str):
            if not backend:
                raise InvalidInput("backend=[] names no backend")
            return cls(tuple(backend))
        if backend != "auto" and not backend.startswith("auto:"):
            return cls((backend,))
        sort = backend.partition(":")[2] or "balanced"
        if sort not in get_args(Sort):
            raise InvalidInput(
                f'"{backend}": there is no way to sort called {sort!r}; known: {", ".join(get_args(Sort))}'
            )
        return cls(None, sort)  # type: ignore[arg-type]  # mypy does not narrow by get_args


@dataclass(frozen=True, slots=True)
class Observed(Value):
    """What was learnt of one backend and model: smoothed, 0 looks mean nothing is known."""

    looks: int = 0
    success_rate: float = 1.0
    latency_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(Value):
    """One backend that a task could go to, with all that the stages look at.

    Attributes:
        rank: 1 for the first choice; 0 once removed.
        removed_by: the rule that removed it, and `reason`, a sentence.
        score: what it was sorted by, smaller is better, and `parts`, what the score is made of.
    """

    backend: str
    target: Mapping[str, JSON]
    capabilities: Capabilities
    quote: Quote | None = None
    quote_error: str | None = None
    observed: Observed = Observed()
    rank: int = 0
    score: float | None = None
    parts: Mapping[str, float | str | None] = field(default_factory=dict)
    stage: Stage = "capability"
    removed_by: str | None = None
    reason: str | None = None

    def remove(self, rule: str, reason: str) -> Candidate:
        """Return it as removed by a rule of its stage."""
        return replace(self, removed_by=rule, reason=reason, rank=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Value):
    """The ranked candidates for a task, and why the others are none."""

    sort: Sort
    candidates: tuple[Candidate, ...]

    @property
    def ranked(self) -> tuple[Candidate, ...]:
        """Return those that are left, best first."""
        return tuple(c for c in self.candidates if c.removed_by is None)

    @property
    def removed(self) -> tuple[Candidate, ...]:
        """Return those that a rule removed."""
        return tuple(c for c in self.candidates if c.removed_by is not None)

    def get_best(self, tried: Iterable[str] = ()) -> Candidate | None:
        """Return the best that was not tried yet."""
        tried = set(tried)
        return next((c for c in self.ranked if c.backend not in tried), None)

    def require_best(self) -> Candidate:
        """Return the best. Raises NoBackend, which lists every candidate with its reason."""
        best = self.get_best()
        if best is None:
            reasons = [(c.backend, c.removed_by or "", c.reason or "") for c in self.removed]
            raise NoBackend("no backend can run this task", reasons)
        return best


def make_plan(candidates: Sequence[Candidate], task: Task, limits: Limits, selector: Selector) -> Plan:
    """Send the candidates through all stages."""
    left = [check_capability(candidate, task, limits) for candidate in candidates]
    left = [c if c.removed_by else check_constraints(c, limits) for c in left]
    good = order([c for c in left if c.removed_by is None], selector, limits)
    good = [commit(reserve(candidate)) for candidate in good]
    return Plan(sort=selector.sort, candidates=(*good, *(c for c in left if c.removed_by is not None)))


def check_capability(candidate: Candidate, task: Task, limits: Limits) -> Candidate:
    """Stage 1: the backend is there and can run this, with the features that the task needs."""
    facts = candidate.capabilities
    candidate = replace(candidate, stage="capability")
    needed = {*limits.require, *(("stream",) if task.stream else ())}
    known = {feature.value for feature in Feature}
    for word in sorted(needed - known):
        raise InvalidInput(f"require: there is no feature {word!r}; known: {', '.join(sorted(known))}")
    if not facts.healthy:
        return candidate.remove("unhealthy", facts.reason or "it is not healthy")
    missing = needed - {feature.value for feature in facts.features}
    if missing:
        return candidate.remove("feature", f"it can't {' or '.join(sorted(missing))}")
    return candidate


def check_constraints(candidate: Candidate, limits: Limits) -> Candidate:
    """Stage 2, hard and fail-closed: only, ignore, max_cost."""
    candidate = replace(candidate, stage="constraint")
    if limits.only is not None and candidate.backend not in limits.only:
        return candidate.remove("only", f"only {', '.join(limits.only)} may be used")
    if candidate.backend in limits.ignore:
        return candidate.remove("ignore", "it is to be ignored")
    if limits.max_cost is None:
        return candidate
    return _check_cost(candidate, limits.max_cost)


def _check_cost(candidate: Candidate, max_cost: Money) -> Candidate:
    quote = candidate.quote
    if quote is not None and quote.confidence == "free":
        return candidate
    if quote is None or quote.upper is None:
        why = candidate.quote_error or "its quote has no upper bound"
        return candidate.remove(
            "max_cost", f"max_cost is {max_cost} and what it would cost is unknown: {why}"
        )
    if quote.upper.asset != max_cost.asset:
        return candidate.remove("max_cost", f"it asks {quote.upper}, which does not compare with {max_cost}")
    if max_cost < quote.upper:
        return candidate.remove("max_cost", f"it may cost {quote.upper}, more than {max_cost}")
    return candidate


def order(candidates: Sequence[Candidate], selector: Selector, limits: Limits) -> list[Candidate]:
    """Stage 3: the explicit order first, then by score; equal scores keep the configuration's order."""
    explicit = (selector.backends or ()) if selector.backends and len(selector.backends) > 1 else limits.order
    scored = [_score(replace(candidate, stage="order"), selector.sort) for candidate in candidates]

    def place(candidate: Candidate) -> tuple[int, bool, float]:
        tier = explicit.index(candidate.backend) if candidate.backend in explicit else len(explicit)
        return tier, candidate.score is None, candidate.score or 0.0

    ranked = sorted(scored, key=place)
    return [replace(candidate, rank=number) for number, candidate in enumerate(ranked, start=1)]


def _score(candidate: Candidate, sort: Sort) -> Candidate:
    quote, seen = candidate.quote, candidate.observed
    price: float | None = None
    if quote is not None:
        price = 0.0 if quote.confidence == "free" else _as_number(quote.expected or quote.upper)
    success = (seen.success_rate * seen.looks + 1.0) / (seen.looks + 1.0)  # one imagined success: cold start
    parts: dict[str, float | str | None] = {
        "price": price,
        "success_rate": success,
        "latency_seconds": seen.latency_seconds,
        "looks": seen.looks,
    }
    scores = {
        "cheapest": price,
        "fastest": seen.latency_seconds,
        "reliable": 1.0 - success,
        "balanced": None if price is None else price / success,
    }
    return replace(candidate, score=scores[sort], parts=parts)


def _as_number(money: Money | None) -> float | None:
    return None if money is None else float(str(money).partition(" ")[0])


def reserve(candidate: Candidate) -> Candidate:
    """Stage 4: what must be set aside for it is its quote's upper bound."""
    quote = candidate.quote
    upper = None if quote is None or quote.upper is None else str(quote.upper)
    return replace(candidate, stage="reserve", parts={**candidate.parts, "reserve": upper})


def commit(candidate: Candidate) -> Candidate:
    """Stage 5: it may be sent, once its envelope is stored."""
    return replace(candidate, stage="commit")


def _first(above: T | None, below: T | None) -> T | None:
    return below if above is None else above


def merge_limits(*layers: Limits) -> Limits:
    """Lay limits over each other, the first layer wins (0 counts as said); lists that forbid add up.

    Raises InvalidInput for limits that no run can keep.
    """
    merged = Limits()
    for layer in reversed(layers):
        merged = Limits(
            only=layer.only if layer.only is not None else merged.only,
            ignore=tuple(dict.fromkeys((*merged.ignore, *layer.ignore))),
            order=layer.order or merged.order,
            require=tuple(dict.fromkeys((*merged.require, *layer.require))),
            max_cost=_first(layer.max_cost, merged.max_cost),
            deadline=_first(layer.deadline, merged.deadline),
            max_attempts=_first(layer.max_attempts, merged.max_attempts),
            on_doubt=_first(layer.on_doubt, merged.on_doubt),
            on_failed=_first(layer.on_failed, merged.on_failed),
            doubt_wait=_first(layer.doubt_wait, merged.doubt_wait),
        )
    if merged.max_attempts is not None and merged.max_attempts < 1:
        raise InvalidInput(f"max_attempts is {merged.max_attempts}: a run needs at least one attempt")
    if merged.on_doubt == "resubmit" and merged.max_cost is None:
        raise InvalidInput('on_doubt="resubmit" may pay twice: it needs a max_cost')
    return merged
