"""What the candidates are sorted by. Smaller is better; None means that it can't be said, and comes last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.limits import Sort
from gateway.policy.learning import Observed

Parts: TypeAlias = Mapping[str, float | str | None]
"""What a score is made of, by name."""

_IMAGINED_LOOKS = 1.0  # a backend that was never tried counts as if it had worked this often


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
    """
    seen = facts.observed
    success = (seen.success_rate * seen.looks + _IMAGINED_LOOKS) / (seen.looks + _IMAGINED_LOOKS)
    latency = seen.p50_seconds
    doubt_cost = seen.doubt_rate * (facts.exposure or 0.0)
    time_cost = facts.value_of_second * (latency or 0.0)
    balanced = None if facts.price is None else (facts.price + doubt_cost) / success + time_cost
    parts: Parts = {
        "price": facts.price,
        "p_success": success,
        "p_doubt": seen.doubt_rate,
        "doubt_cost": doubt_cost,
        "time_cost": time_cost,
        "p50_seconds": latency,
        "p95_seconds": seen.p95_seconds,
        "looks": seen.looks,
    }
    scores: Mapping[Sort, float | None] = {
        "cheapest": facts.price,
        "fastest": latency,
        "reliable": 1.0 - success + seen.doubt_rate,
        "balanced": balanced,
    }
    return scores[sort], parts
