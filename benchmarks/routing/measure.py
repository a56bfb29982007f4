"""Plays every workload with every policy, several times, and holds the goal against the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean

from benchmarks.routing.ours import Ours
from benchmarks.routing.peers import PEERS
from benchmarks.routing.policies import Oracle, Policy
from benchmarks.routing.simulation import Result, simulate
from benchmarks.routing.workloads import Workload
from gateway.limits import Sort

SEEDS = (11, 12, 13)
"""Others than those that the policies were tuned with (1, 2 and 3), or they would be flattered."""

GOAL = 1.10
"""At most this, as a ratio to the oracle, may a good result cost with "balanced", money and time together."""

_SORTS: tuple[Sort, ...] = ("balanced", "cheapest", "fastest", "reliable")


@dataclass(frozen=True, slots=True)
class Row:
    """One workload: the mean over the seeds by policy, "oracle" among them."""

    workload: Workload
    results: Mapping[str, Result]

    def tell_ratios(self, policy: str) -> Result:
        """Return a policy's results in parts of the oracle's; the share that failed as it is."""
        own, best = self.results[policy], self.results["oracle"]
        return Result(own.money / best.money, own.seconds / best.seconds, own.total / best.total, own.failed)


def measure(workload: Workload, seeds: Sequence[int] = SEEDS) -> Row:
    """Play a workload with all policies."""
    found: dict[str, list[Result]] = {}
    for seed in seeds:
        for policy in _make_policies(workload, seed):
            found.setdefault(policy.name, []).append(simulate(workload, policy, seed))
    return Row(workload, {name: _average(results) for name, results in found.items()})


def find_misses(rows: Sequence[Row]) -> list[str]:
    """Name every workload where "balanced" is too far from the oracle, or beaten on both axes."""
    return [miss for row in rows for miss in _find_misses(row)]


def _find_misses(row: Row) -> Iterator[str]:
    ours = row.tell_ratios("balanced")
    if ours.total > GOAL:
        yield f"{row.workload.name}: balanced costs {ours.total:.3f} of the oracle"
    for name in row.results:
        other = row.tell_ratios(name)
        if name not in ("oracle", "balanced") and other.money < ours.money and other.seconds < ours.seconds:
            yield f"{row.workload.name}: {name} is cheaper and faster than balanced"


def _make_policies(workload: Workload, seed: int) -> list[Policy]:
    worth = workload.value_of_second
    return [Oracle(worth), *(Ours(sort, worth) for sort in _SORTS), *(peer(seed) for peer in PEERS)]


def _average(results: Sequence[Result]) -> Result:
    return Result(*(fmean(getattr(result, field.name) for result in results) for field in fields(Result)))
