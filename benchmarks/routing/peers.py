"""LiteLLM's routing strategies, written anew from what its documentation says of them.

All are given a little more than the documentation promises: the prices of now instead of a table's, and where
every deployment is cooling down, any of them instead of an error.
"""

from __future__ import annotations

import random
from collections import deque
from statistics import fmean

from benchmarks.routing.policies import MOST_TRIES, Step
from benchmarks.routing.world import End, Request, Try, World

ALLOWED_FAILS = 3  # in a minute, before a deployment cools down
COOLDOWN_SECONDS = 5.0
FEWEST_CALLS = 5  # in a minute, before their share of failures counts
KEPT_SECONDS = 3600.0  # so old a time still counts
KEPT_TIMES = 10


class Peer:
    """Retries generic errors at once, leaves deployments alone that fail too often, and shuffles the rest."""

    name = "simple-shuffle"

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311  no secret
        self._recent: dict[str, deque[tuple[float, bool]]] = {}
        self._cold_until: dict[str, float] = {}

    def choose(self, request: Request, world: World) -> Step | None:
        """Return where a request goes next."""
        if len(request.tries) >= MOST_TRIES:
            return None
        warm = [name for name in world.backends if self._cold_until.get(name, 0.0) <= world.now]
        names = warm or list(world.backends)
        self._chance.shuffle(names)
        return Step(self.pick(names, world))

    def pick(self, names: list[str], world: World) -> str:  # noqa: ARG002  the others look at the world
        """Return one of the names, which come shuffled."""
        return names[0]

    def note_begin(self, name: str, now: float) -> None:
        """Learn that a try began."""

    def note_end(self, tried: Try) -> None:
        """Count failures by the minute."""
        recent, now = self._recent.setdefault(tried.backend, deque()), tried.ended
        recent.append((now, tried.end is not End.SUCCEEDED))
        while recent[0][0] < now - 60.0:
            recent.popleft()
        failed = sum(bad for _, bad in recent)
        if failed > ALLOWED_FAILS or (len(recent) >= FEWEST_CALLS and failed > len(recent) / 2):
            self._cold_until[tried.backend] = now + COOLDOWN_SECONDS


class LeastBusy(Peer):
    """Picks the deployment with the fewest calls under way."""

    name = "least-busy"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._busy: dict[str, int] = {}

    def pick(self, names: list[str], world: World) -> str:  # noqa: ARG002  it counts its own calls
        """Return the least busy."""
        return min(names, key=lambda name: self._busy.get(name, 0))

    def note_begin(self, name: str, now: float) -> None:  # noqa: ARG002  a count has no time
        """Count it."""
        self._busy[name] = self._busy.get(name, 0) + 1

    def note_end(self, tried: Try) -> None:
        """Count it out."""
        super().note_end(tried)
        self._busy[tried.backend] -= 1


class LatencyBased(Peer):
    """Picks the deployment with the least mean of its latest times; one without any is tried first."""

    name = "latency-based-routing"

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._times: dict[str, deque[tuple[float, float]]] = {}

    def pick(self, names: list[str], world: World) -> str:
        """Return the fastest."""
        return min(names, key=lambda name: self._tell_mean(name, world.now))

    def _tell_mean(self, name: str, now: float) -> float:
        fresh = [seconds for at, seconds in self._times.get(name, ()) if now - at <= KEPT_SECONDS]
        return fmean(fresh) if fresh else 0.0

    def note_end(self, tried: Try) -> None:
        """Keep the time of a success."""
        super().note_end(tried)
        if tried.end is End.SUCCEEDED:
            times = self._times.setdefault(tried.backend, deque(maxlen=KEPT_TIMES))
            times.append((tried.ended, tried.ended - tried.began))


class CostBased(Peer):
    """Picks the deployment with the lowest price."""

    name = "cost-based-routing"

    def pick(self, names: list[str], world: World) -> str:
        """Return the cheapest."""
        return min(names, key=lambda name: world.get_conditions(name).price)


PEERS: tuple[type[Peer], ...] = (Peer, LeastBusy, LatencyBased, CostBased)
