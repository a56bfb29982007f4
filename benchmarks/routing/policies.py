"""What a policy is to the simulation, and the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from benchmarks.routing.world import Request, Try, World

MOST_TRIES = 4
"""So many submissions one request gets, with every policy."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next submission of a request: where, after how many seconds."""

    backend: str
    wait_seconds: float = 0.0


class Policy(Protocol):
    """Chooses backends. It sees the prices of now and how its own tries ended, and nothing else."""

    name: str

    def choose(self, request: Request, world: World) -> Step | None:
        """Return where a request goes next; None to give it up."""

    def note_begin(self, name: str, now: float) -> None:
        """Learn that a try began."""

    def note_end(self, tried: Try) -> None:
        """Learn how a try ended."""


class Oracle:
    """Knows what every backend is like now, and takes the one whose good result will cost least.

    A failed job costs its price and its time, so that the expected cost of one good result is
    (price + value of time x expected time) / success.
    """

    name = "oracle"

    def __init__(self, value_of_second: float) -> None:
        self._value_of_second = value_of_second

    def choose(self, request: Request, world: World) -> Step | None:
        """Return the best."""
        if len(request.tries) >= MOST_TRIES:
            return None
        return Step(min(world.backends, key=lambda name: self._tell_cost(name, world)))

    def _tell_cost(self, name: str, world: World) -> float:
        found = world.get_conditions(name)
        if not found.up or not found.success:
            return float("inf")
        return (found.price + self._value_of_second * world.get_mean_seconds(name)) / found.success

    def note_begin(self, name: str, now: float) -> None:
        """Nothing to learn for who knows all."""

    def note_end(self, tried: Try) -> None:
        """Nothing to learn for who knows all."""
