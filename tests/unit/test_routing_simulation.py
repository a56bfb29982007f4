"""The simulation of policies: one short workload, played with one seed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.routing.measure import Row, find_misses, measure
from benchmarks.routing.workloads import WORKLOADS, Workload

PEERS = ("simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing")


def get_workload(name: str, seconds: float) -> Workload:
    return replace(next(w for w in WORKLOADS if w.name == name), seconds=seconds)


@pytest.fixture(scope="module")
def row() -> Row:
    return measure(get_workload("flaky cheap one", 3600.0), seeds=(1,))


def test_balanced_is_near_the_oracle_and_before_all_others(row: Row) -> None:
    totals = {name: result.total for name, result in row.results.items()}
    assert totals["balanced"] < 1.1 * totals["oracle"]
    assert all(totals["balanced"] < totals[name] for name in (*PEERS, "cheapest", "fastest"))
    assert find_misses([row]) == []


def test_chance_is_the_same_every_time(row: Row) -> None:
    assert measure(row.workload, seeds=(1,)).results == row.results


def test_a_policy_that_pays_for_failures_is_told_by_name(row: Row) -> None:
    swapped = {**row.results, "balanced": row.results["cost-based-routing"]}
    misses = find_misses([Row(row.workload, swapped)])
    assert any(miss.startswith("flaky cheap one: balanced costs") for miss in misses)
    swapped["cheapest"] = replace(row.results["balanced"], money=0.0, seconds=0.0)
    misses = find_misses([Row(row.workload, swapped)])
    assert "flaky cheap one: cheapest is cheaper and faster than balanced" in misses
