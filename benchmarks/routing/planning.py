"""How long does it take to plan with a thousand candidates?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from statistics import median

from gateway.adapter import Capabilities, Feature
from gateway.limits import Limits
from gateway.policy.learning import Observed
from gateway.policy.routing import Candidate, Selector
from gateway.policy.stages import Setting, make_plan
from gateway.task import Quote, Task
from gateway.types import Money

CANDIDATES = 1_000
LIMIT_SECONDS = 0.020
_TIMES = 21


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians over several runs, in seconds: of a plan, and of sorting as many tuples."""

    plan: float
    sort: float


def measure_planning() -> Speed:
    """Plan with a max_cost, a required feature and a value of time, so that every stage has work."""
    limits = Limits(max_cost=Money.parse("1 USD"), require=("cancel",), value_of_time=Money.parse("3.6 USD"))
    task, setting = Task(model="any", limits=limits), Setting(limits, Selector(None), date(2030, 1, 1))
    candidates = [_make_candidate(number) for number in range(CANDIDATES)]
    tuples = [(number * 7919 % CANDIDATES, number) for number in range(CANDIDATES)]
    return Speed(_time(lambda: make_plan(candidates, task, setting)), _time(lambda: sorted(tuples)))


def _make_candidate(number: int) -> Candidate:
    price = Money(100_000 + number * 7919 % CANDIDATES, "USD")
    return Candidate(
        backend=f"b{number}",
        target={},
        capabilities=Capabilities(healthy=True, features=frozenset(Feature)),
        quote=Quote(expected=price, upper=price, confidence="exact"),
        observed=Observed(looks=10.0, success_rate=0.9, p50_seconds=float(number % 17)),
    )


def _time(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)
