"""The workloads: what changes, and when. Prices are in USD, times in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.routing.world import Backend, Conditions

MINUTES = 60.0
HOURS = 3600.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests that come by chance, and the backends that they can go to.

    Attributes:
        about: what is hard in it, in a sentence.
        seconds: how long requests come.
        every_seconds: the mean time between two.
        value_of_second: what a second of waiting is worth, in USD.
    """

    name: str
    about: str
    backends: tuple[Backend, ...]
    seconds: float = 6 * HOURS
    every_seconds: float = 12.0
    value_of_second: float = 0.001


def always(price: float, seconds: float, success: float) -> Callable[[float], Conditions]:
    """Return conditions that never change."""
    same = Conditions(price, seconds, success)
    return lambda _: same


def stepwise(*steps: tuple[float, Conditions]) -> Callable[[float], Conditions]:
    """Return conditions that change at once, each from its time on; the first time is 0."""
    return lambda now: next(conditions for since, conditions in reversed(steps) if now >= since)


def drifting(low: float, high: float, period: float, like: Conditions) -> Callable[[float], Conditions]:
    """Return conditions whose time swings between two values, beginning with the low one."""

    def tell(now: float) -> Conditions:
        swing = (1.0 - math.cos(2 * math.pi * now / period)) / 2
        return replace(like, seconds=low + (high - low) * swing)

    return tell


def _make_outages(good: Conditions) -> Callable[[float], Conditions]:
    """Be away for 40 minutes, and later take jobs for 20 minutes that all fail."""
    return stepwise(
        (0.0, good),
        (1.5 * HOURS, replace(good, up=False)),
        (1.5 * HOURS + 40 * MINUTES, good),
        (4 * HOURS, replace(good, success=0.0)),
        (4 * HOURS + 20 * MINUTES, good),
    )


_FLAKY = (
    Backend("flaky", always(0.004, 6.0, 0.35)),
    Backend("solid", always(0.009, 5.0, 0.98)),
    Backend("other", always(0.012, 4.0, 0.97)),
)

WORKLOADS: tuple[Workload, ...] = (
    Workload(
        "steady",
        "nothing changes; neither the cheapest nor the fastest is the best",
        (
            Backend("middle", always(0.006, 6.0, 0.97)),
            Backend("cheap", always(0.004, 14.0, 0.95)),
            Backend("fast", always(0.016, 3.0, 0.99)),
            Backend("poor", always(0.009, 10.0, 0.80)),
        ),
    ),
    Workload(
        "price war",
        "two undercut each other every 40 minutes, a third stays as it is",
        (
            Backend(
                "one",
                stepwise(
                    (0.0, Conditions(0.010, 5.0, 0.97)),
                    (80 * MINUTES, Conditions(0.004, 5.0, 0.97)),
                    (160 * MINUTES, Conditions(0.002, 5.0, 0.97)),
                    (240 * MINUTES, Conditions(0.012, 5.0, 0.97)),
                ),
            ),
            Backend(
                "other",
                stepwise(
                    (0.0, Conditions(0.009, 7.0, 0.98)),
                    (40 * MINUTES, Conditions(0.005, 7.0, 0.98)),
                    (120 * MINUTES, Conditions(0.001, 7.0, 0.98)),
                    (200 * MINUTES, Conditions(0.011, 7.0, 0.98)),
                ),
            ),
            Backend("third", always(0.008, 6.0, 0.97)),
        ),
    ),
    Workload(
        "latency drift",
        "the best one's time swings between 3 s and 20 s, twice; its rival's stays",
        (
            Backend("drifting", drifting(3.0, 20.0, 3 * HOURS, Conditions(0.005, 3.0, 0.98))),
            Backend("constant", always(0.007, 8.0, 0.98)),
            Backend("slow", always(0.004, 18.0, 0.98)),
        ),
    ),
    Workload(
        "flaky cheap one",
        "the cheapest fails two times of three and is paid all the same",
        _FLAKY,
    ),
    Workload(
        "outage of the best",
        "the best is away for 40 minutes, and later fails every job for 20 minutes",
        (
            Backend("best", _make_outages(Conditions(0.005, 4.0, 0.98))),
            Backend("second", always(0.008, 6.0, 0.98)),
            Backend("third", always(0.007, 12.0, 0.97)),
        ),
    ),
    Workload(
        "load",
        "two slow down with every job that runs there, so that all to one is wrong",
        (
            Backend("small", always(0.003, 4.0, 0.98), slots=3),
            Backend("large", always(0.006, 5.0, 0.98), slots=8),
            Backend("endless", always(0.012, 7.0, 0.98)),
        ),
        seconds=1 * HOURS,
        every_seconds=1.5,
    ),
    Workload(
        "cold start",
        "40 minutes from knowing nothing; the cheapest is bad and slow",
        (
            Backend("bad", always(0.003, 25.0, 0.10)),
            Backend("good", always(0.007, 5.0, 0.97)),
            Backend("dear", always(0.020, 4.0, 0.98)),
        ),
        seconds=40 * MINUTES,
        every_seconds=6.0,
    ),
    Workload(
        "seldom",
        "the flaky cheap one again, but only a request every 5 minutes, for a day",
        _FLAKY,
        seconds=24 * HOURS,
        every_seconds=5 * MINUTES,
    ),
)

BEYOND: tuple[Workload, ...] = (
    Workload(
        "rarely",
        "the flaky cheap one, with a request every 15 minutes, for three days",
        _FLAKY,
        seconds=72 * HOURS,
        every_seconds=15 * MINUTES,
    ),
)
"""Where the goal can't be reached: what was learnt is old when it is needed next."""
