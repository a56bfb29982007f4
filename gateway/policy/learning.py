"""What was learnt of a backend and a model from attempts that ended, decayed by their age."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.lifecycle import AttemptStatus
from gateway.task import Attempt
from gateway.value import Value

HALF_LIFE = timedelta(minutes=60)
"""After so long an outcome counts half as much: a backend that was bad gets another chance within hours."""

TIME_HALF_LIFE = timedelta(minutes=20)
"""After so long what is known of times counts half: they change with the load that others make."""

HALF_COUNT = 10
"""After so many newer ones of the same backend and model, too: a busy gateway learns of a change sooner."""

MOST_OUTCOMES = 100
"""So many of the newest outcomes are looked at, per backend and model; older ones weigh next to nothing."""


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
        time_looks: the same for the times, which are sooner out of date.
        success_rate: of those.
        doubt_rate: of those.
        p50_seconds: median time to a result; None if there was none.
        p95_seconds: 19 of 20 were faster.
        failed_seconds: median time to a failure; None if there was none.
        busy: how many other jobs of ours ran there when one began, on average.
        seconds_per_job: how much longer a result takes for each other job that runs there.
        running: jobs of ours that run there now.
    """

    looks: float = 0.0
    time_looks: float = 0.0
    success_rate: float = 1.0
    doubt_rate: float = 0.0
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    failed_seconds: float | None = None
    busy: float = 0.0
    seconds_per_job: float = 0.0
    running: int = 0

    @property
    def expected_seconds(self) -> float | None:
        """Return the time that a job takes which begins now, under the load of now; None if nothing is known.

        Where nothing ever succeeded, the time that it takes to fail is what is known.
        """
        if self.p50_seconds is None:
            return self.failed_seconds
        return max(0.0, self.p50_seconds + self.seconds_per_job * (self.running - self.busy))


def make_outcome(attempt: Attempt) -> Outcome | None:
    """Return what an attempt teaches.

    Nothing before its end, nothing if it provably did not land, and nothing if its caller cancelled it.
    """
    if attempt.ended_at is None or not (attempt.submitted_at or attempt.doubted):
        return None
    if attempt.status is AttemptStatus.CANCELLED:
        return None
    seconds = (attempt.ended_at - attempt.created_at).total_seconds()
    return Outcome(attempt.ended_at, attempt.status is AttemptStatus.SUCCEEDED, attempt.doubted, seconds)


def observe(outcomes: Sequence[Outcome], now: datetime) -> Observed:
    """Sum up outcomes, each weighted by its age and by how many are newer."""
    newest = sorted(outcomes, key=lambda outcome: outcome.at, reverse=True)
    # An outcome of the future (the machine's clock was set back) counts as new.
    ends, at = [outcome.at.timestamp() for outcome in newest], now.timestamp()
    ages = [max(0.0, at - end) for end in ends]
    weights = _weigh(ages, HALF_LIFE)
    total = sum(weights)
    if total <= 0.0:
        return Observed()
    weighted = list(zip(newest, weights, _count_busy(newest, ends), strict=True))
    good = [(outcome.seconds, weight, busy) for outcome, weight, busy in weighted if outcome.succeeded]
    bad = sorted((outcome.seconds, weight) for outcome, weight, _ in weighted if not outcome.succeeded)
    ascending = sorted((seconds, weight) for seconds, weight, _ in good)
    busy, slope = _fit_load(good)
    return Observed(
        looks=total,
        time_looks=sum(_weigh(ages, TIME_HALF_LIFE)),
        success_rate=sum(weight for _, weight, _ in good) / total,
        doubt_rate=sum(weight for outcome, weight, _ in weighted if outcome.doubted) / total,
        p50_seconds=_get_quantile(ascending, 0.50),
        p95_seconds=_get_quantile(ascending, 0.95),
        failed_seconds=_get_quantile(bad, 0.50),
        busy=busy,
        seconds_per_job=slope,
    )


def _weigh(ages: Sequence[float], half_life: timedelta) -> list[float]:
    """Return how much outcomes of these ages in seconds count, the newest coming first."""
    seconds = half_life.total_seconds()
    return [0.5 ** (age / seconds + newer / HALF_COUNT) for newer, age in enumerate(ages)]


def _count_busy(outcomes: Sequence[Outcome], ends: Sequence[float]) -> list[int]:
    """Return for each how many of the others were running when it began."""
    begins = [end - outcome.seconds for outcome, end in zip(outcomes, ends, strict=True)]
    begun, ended = sorted(begins), sorted(ends)
    return [max(0, bisect_right(begun, at) - bisect_right(ended, at) - 1) for at in begins]


def _fit_load(good: Sequence[tuple[float, float, int]]) -> tuple[float, float]:
    """Return the mean number of others, and by how much each lengthens the time: a line of least squares.

    The line lies flat until the numbers have varied: their variance is taken for greater by one.
    """
    total = sum(weight for _, weight, _ in good)
    if total <= 0.0:
        return 0.0, 0.0
    busy = sum(weight * others for _, weight, others in good) / total
    mean = sum(weight * seconds for seconds, weight, _ in good) / total
    covariance = sum(weight * (others - busy) * (seconds - mean) for seconds, weight, others in good)
    variance = sum(weight * (others - busy) ** 2 for _, weight, others in good)
    return busy, max(0.0, covariance / (variance + total))


def _get_quantile(ascending: Sequence[tuple[float, float]], share: float) -> float | None:
    """Return the least value that `share` of the weight does not exceed."""
    left = share * sum(weight for _, weight in ascending)
    for value, weight in ascending:
        left -= weight
        if left <= 1e-12:
            return value
    return ascending[-1][0] if ascending else None
