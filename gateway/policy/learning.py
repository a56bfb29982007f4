"""What was learnt of a backend and a model from attempts that ended, decayed by their age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.lifecycle import AttemptStatus
from gateway.task import Attempt
from gateway.value import Value

HALF_LIFE = timedelta(hours=1)
"""After so long an outcome counts half as much."""

MOST_OUTCOMES = 200
"""So many of the newest outcomes are looked at, per backend and model."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt at a backend ended.

    Attributes:
        at: when it ended.
        succeeded: with an answer.
        doubted: its submission was in doubt at some time.
        seconds: from its beginning to its end.
    """

    at: datetime
    succeeded: bool
    doubted: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed(Value):
    """What is known of a backend and a model now.

    A cold start is said as it is: `looks` is 0, the rates are those of a backend that never failed, and the
    latencies are None.

    Attributes:
        looks: how many outcomes this rests on, each counted by its age.
        success_rate: of those.
        doubt_rate: of those.
        p50_seconds: median time to a result; None if there was none.
        p95_seconds: 19 of 20 were faster.
    """

    looks: float = 0.0
    success_rate: float = 1.0
    doubt_rate: float = 0.0
    p50_seconds: float | None = None
    p95_seconds: float | None = None


def make_outcome(attempt: Attempt) -> Outcome | None:
    """Return what an attempt teaches: nothing before its end, and nothing if it provably did not land."""
    if attempt.ended_at is None or not (attempt.submitted_at or attempt.doubted):
        return None
    seconds = (attempt.ended_at - attempt.created_at).total_seconds()
    return Outcome(attempt.ended_at, attempt.status is AttemptStatus.SUCCEEDED, attempt.doubted, seconds)


def observe(outcomes: Sequence[Outcome], now: datetime) -> Observed:
    """Sum up outcomes, each weighted by its age."""
    if not outcomes:
        return Observed()
    # An outcome of the future (the machine's clock was set back) counts as new.
    weighted = [(0.5 ** max(0.0, (now - outcome.at) / HALF_LIFE), outcome) for outcome in outcomes]
    total = sum(weight for weight, _ in weighted)
    if total <= 0.0:
        return Observed()
    good = sorted((outcome.seconds, weight) for weight, outcome in weighted if outcome.succeeded)
    return Observed(
        looks=total,
        success_rate=sum(weight for _, weight in good) / total,
        doubt_rate=sum(weight for weight, outcome in weighted if outcome.doubted) / total,
        p50_seconds=_get_quantile(good, 0.50),
        p95_seconds=_get_quantile(good, 0.95),
    )


def _get_quantile(ascending: Sequence[tuple[float, float]], share: float) -> float | None:
    """Return the least value that `share` of the weight does not exceed."""
    left = share * sum(weight for _, weight in ascending)
    for value, weight in ascending:
        left -= weight
        if left <= 1e-12:
            return value
    return ascending[-1][0] if ascending else None
