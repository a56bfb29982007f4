"""What the candidates are sorted by. Smaller is better; None means that it can't be said, and comes last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.limits import Sort
from gateway.policy.learning import Observed

Parts: TypeAlias = Mapping[str, float | str | None]
"""What a score is made of, by name."""

_IMAGINED_LOOKS = 0.25
"""The benefit of the doubt: every backend counts as if it had worked this often more than was seen, at once.

It is nothing beside a few fresh outcomes. Where all that is known is old, it lets the backend be tried again:
by one job at a time, for each that runs there already takes its share of it.
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a score is made of.

    Attributes:
        price: the expected price with fees, in the reporting currency; None if unknown.
        exposure: what may be lost when a submission stays in doubt: the upper bound of the price.
        observed: see Observed.
        value_of_second: what a second of waiting is worth, in the reporting currency.
    """

    price: float | None
    exposure: float | None
    observed: Observed
    value_of_second: float = 0.0


def score(facts: Facts, sort: Sort) -> tuple[float | None, Parts]:
    """Return the score for one way to sort, and the parts it is made of.

    "balanced" is the expected cost of one good result:
    (price + p_doubt x exposure) / p_success + value_of_time x E[latency].
    Of a backend that was never tried that is its price: it comes first only where its whole price is below
    what a good result costs at the best that is known.
    """
    seen = facts.observed
    imagined = _IMAGINED_LOOKS / (1 + seen.running)
    known = seen.time_looks / (seen.time_looks + imagined)
    success = (seen.success_rate * seen.looks + imagined) / (seen.looks + imagined)
    latency = seen.expected_seconds
    doubt_cost = seen.doubt_rate * (facts.exposure or 0.0)
    time_cost = facts.value_of_second * (latency or 0.0) * known
    balanced = None if facts.price is None else (facts.price + doubt_cost) / success + time_cost
    parts: Parts = {
        "price": facts.price,
        "p_success": success,
        "p_doubt": seen.doubt_rate,
        "doubt_cost": doubt_cost,
        "time_cost": time_cost,
        "p50_seconds": seen.p50_seconds,
        "expected_seconds": latency,
        "p95_seconds": seen.p95_seconds,
        "looks": seen.looks,
    }
    scores: Mapping[Sort, float | None] = {
        "cheapest": facts.price,
        "fastest": None if seen.p50_seconds is None else latency,  # failing fast is not fast
        "reliable": 1.0 - success + seen.doubt_rate,
        "balanced": balanced,
    }
    return scores[sort], parts
