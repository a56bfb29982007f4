"""Plays every workload with every policy, several times, and holds the goal against the results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean, stdev

from benchmarks.routing.ours import Ours
from benchmarks.routing.peers import PEERS
from benchmarks.routing.policies import Oracle, Policy
from benchmarks.routing.simulation import Result, simulate
from benchmarks.routing.workloads import Workload
from gateway.limits import Sort

SEEDS = tuple(range(11, 27))
"""Others than those that the policies were tuned with (101 to 112), or they would be flattered."""

GOAL = 1.10
"""At most this, as a ratio to the oracle, may a good result cost with "balanced", money and time together."""

NOISE = 2.0
"""A lead counts if it is longer than so many standard errors of its mean; else it is noise."""

SORTS: tuple[Sort, ...] = ("balanced", "cheapest", "fastest", "reliable")


@dataclass(frozen=True, slots=True)
class Lead:
    """How much less a policy needs than "balanced", on one axis: the mean over the seeds.

    Both meet the same requests and the same chance with each seed, so it is the differences by seed whose
    scatter says how sure the mean is.
    """

    mean: float
    error: float

    @property
    def is_sure(self) -> bool:
        """Say whether it is more than noise."""
        return self.mean > NOISE * self.error


@dataclass(frozen=True, slots=True)
class Row:
    """One workload: what each policy made of it with each seed, "oracle" among them."""

    workload: Workload
    played: Mapping[str, Sequence[Result]]

    def tell_ratios(self, policy: str) -> Result:
        """Return a policy's means in parts of the oracle's; the share that failed as it is."""
        own, best = average(self.played[policy]), average(self.played["oracle"])
        return Result(own.money / best.money, own.seconds / best.seconds, own.total / best.total, own.failed)

    def tell_leads(self, policy: str) -> tuple[Lead, Lead]:
        """Return how far a policy is before "balanced", in money and in time."""
        pairs = list(zip(self.played["balanced"], self.played[policy], strict=True))
        money = [ours.money - theirs.money for ours, theirs in pairs]
        return _tell_lead(money), _tell_lead([ours.seconds - theirs.seconds for ours, theirs in pairs])


def measure(workload: Workload, seeds: Sequence[int] = SEEDS, sorts: Sequence[Sort] = SORTS) -> Row:
    """Play a workload with all policies, of ours with those of these `sorts`."""
    found: dict[str, list[Result]] = {}
    for seed in seeds:
        for policy in _make_policies(workload, seed, sorts):
            found.setdefault(policy.name, []).append(simulate(workload, policy, seed))
    return Row(workload, found)


def find_misses(rows: Sequence[Row]) -> list[str]:
    """Name every workload where "balanced" is too far from the oracle, or beaten on both axes."""
    return [miss for row in rows for miss in _find_misses(row)]


def _find_misses(row: Row) -> Iterator[str]:
    ours = row.tell_ratios("balanced")
    if ours.total > GOAL:
        yield f"{row.workload.name}: balanced costs {ours.total:.3f} of the oracle"
    for name in _list_others(row):
        if all(lead.is_sure for lead in row.tell_leads(name)):
            yield f"{row.workload.name}: {name} is cheaper and faster than balanced"


def find_ties(rows: Sequence[Row]) -> list[str]:
    """Name every policy that is before "balanced" on both axes, but on one of them by no more than noise."""
    return [
        f"{row.workload.name}: {name}"
        for row in rows
        for name in _list_others(row)
        if all(lead.mean > 0 for lead in row.tell_leads(name))
        and not all(lead.is_sure for lead in row.tell_leads(name))
    ]


def _list_others(row: Row) -> list[str]:
    return [name for name in row.played if name not in ("oracle", "balanced")]


def _tell_lead(differences: Sequence[float]) -> Lead:
    scatter = stdev(differences) if len(differences) > 1 else 0.0
    return Lead(fmean(differences), scatter / math.sqrt(len(differences)))


def _make_policies(workload: Workload, seed: int, sorts: Sequence[Sort]) -> list[Policy]:
    worth = workload.value_of_second
    return [Oracle(worth), *(Ours(sort, worth) for sort in sorts), *(peer(seed) for peer in PEERS)]


def average(results: Sequence[Result]) -> Result:
    """Return the means over the seeds."""
    return Result(*(fmean(getattr(result, field.name) for result in results) for field in fields(Result)))
