"""Backends that are simulated: their conditions change with time and load, and chance is the same for all."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

SPREAD = 0.3
"""How far times scatter: the standard deviation of their logarithm."""

REFUSAL_SECONDS = 0.2
"""So long it takes to hear that a backend is not there."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a backend is like at one time.

    Attributes:
        price: of one job in USD, also of one that fails.
        seconds: the median time to its end, when nothing else runs there.
        success: the share of jobs that give a good result.
        up: it takes jobs at all.
    """

    price: float
    seconds: float
    success: float
    up: bool = True


@dataclass(frozen=True, slots=True)
class Backend:
    """A simulated backend.

    Attributes:
        conditions: by seconds since the beginning.
        slots: with so many jobs at once, each takes twice as long; 0 for as many as one likes.
    """

    name: str
    conditions: Callable[[float], Conditions]
    slots: int = 0


class End(Enum):
    """How one try ends."""

    REFUSED = "refused"  # it did not land, and cost nothing
    FAILED = "failed"
    SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True)
class Try:
    """One submission and its end. Times are seconds since the beginning."""

    backend: str
    number: int
    began: float
    ended: float
    end: End
    price: float


@dataclass(slots=True)
class Request:
    """One thing that somebody wants done."""

    number: int
    began: float
    tries: list[Try] = field(default_factory=list)


@dataclass(slots=True)
class World:
    """The backends as they are now.

    What chance does depends on seed, request, try and backend alone: every policy meets the same.
    """

    backends: dict[str, Backend]
    seed: int
    now: float = 0.0
    running: dict[str, int] = field(default_factory=dict)

    def get_conditions(self, name: str) -> Conditions:
        """Return what a backend is like now."""
        return self.backends[name].conditions(self.now)

    def get_slowness(self, name: str) -> float:
        """Return the factor by which a job that begins now is slower for the load."""
        slots = self.backends[name].slots
        return 1.0 + self.running.get(name, 0) / slots if slots else 1.0

    def get_mean_seconds(self, name: str) -> float:
        """Return the expected time of a job that begins now."""
        scatter = math.exp(SPREAD**2 / 2)
        return self.get_conditions(name).seconds * scatter * self.get_slowness(name)

    def submit(self, request: Request, name: str) -> Try:
        """Begin a try now, and tell already how it will end."""
        found, number = self.get_conditions(name), len(request.tries)
        if not found.up:
            return Try(name, number, self.now, self.now + REFUSAL_SECONDS, End.REFUSED, 0.0)
        chance = random.Random(f"{self.seed}/{request.number}/{number}/{name}")  # noqa: S311  no secret
        seconds = found.seconds * self.get_slowness(name) * chance.lognormvariate(0.0, SPREAD)
        end = End.SUCCEEDED if chance.random() < found.success else End.FAILED
        self.running[name] = self.running.get(name, 0) + 1
        return Try(name, number, self.now, self.now + seconds, end, found.price)
