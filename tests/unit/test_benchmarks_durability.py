"""The pieces of the benchmark of durability: what replicas do together, and how it is told."""

from __future__ import annotations

import sys

import pytest

from benchmarks.durability.drives.replicas import add_up
from benchmarks.durability.measure import DRIVES, take_medians
from benchmarks.durability.table import format_replicas
from benchmarks.environments import run_script

_ONE = {"p50_ms": 10.0, "p99_ms": 20.0, "cpu_us": 300.0, "began_at": 100.0, "ended_at": 102.0}
_LATE = {"p50_ms": 12.0, "p99_ms": 18.0, "cpu_us": 320.0, "began_at": 101.0, "ended_at": 104.0}


def test_replicas_are_counted_from_the_first_start_to_the_last_end() -> None:
    told = add_up([_ONE, _LATE], 1000)
    assert told == {"rate": 500.0, "p50_ms": 12.0, "p99_ms": 20.0, "cpu_us": 310.0}


def test_the_page_says_how_many_times_one_replica_two_are() -> None:
    one, two = add_up([_ONE], 5000), add_up([_ONE, {**_LATE, "began_at": 100.0, "ended_at": 102.0}], 3750)
    text = format_replicas({1: take_medians([one]), 2: take_medians([two])})
    assert "| 1 | 2,500 | 1.00 | 10.0 ms | 20.0 ms |" in text
    assert "| 2 | 3,750 | 1.50 | 12.0 ms | 20.0 ms |" in text


@pytest.mark.parametrize("replicas", [1, 2])
def test_replicas_share_a_store(replicas: int, tmp_path: object) -> None:
    found = run_script(sys.executable, DRIVES / "replicas.py", f"sqlite:///{tmp_path}/s.db", 40, 4, replicas)
    assert set(found) == {"rate", "p50_ms", "p99_ms", "cpu_us"}
    assert found["rate"] > 0
