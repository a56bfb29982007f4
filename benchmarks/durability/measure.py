"""Who is measured: scripts in processes of their own, in turn, so that all meet the same machine."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import Environment, NotInstalledError, run_script

DRIVES = Path(__file__).parent / "drives"
DBOS = Environment("dbos", ("dbos==3.4.0", "psycopg[binary]==3.3.9"))
PROCRASTINATE = Environment("procrastinate", ("procrastinate==3.10.0", "psycopg[binary]==3.3.9"))
Numbers = dict[str, float]


@dataclass(frozen=True, slots=True)
class Contender:
    """One line of the table.

    Attributes:
        name: what is measured.
        script: in `drives`.
        store: makes the word that says where to write; called anew for each round.
        runs: how many, for about the same time each.
        environment: a peer's; None for ours.
    """

    name: str
    script: str
    store: Callable[[], str]
    runs: int
    environment: Environment | None = None


def measure_in_turn(contenders: list[Contender], rounds: int, in_flight: int) -> dict[str, Numbers]:
    """Measure each once a round, A B C A B C; returns medians by name, without those that could not run."""
    found: dict[str, list[Numbers]] = {}
    for number in range(rounds):
        for one in contenders:
            try:
                python = one.environment.install() if one.environment else sys.executable
                numbers = run_script(python, DRIVES / one.script, one.store(), one.runs, in_flight)
            except (NotInstalledError, RuntimeError) as error:
                print(f"{one.name}: {error}", file=sys.stderr)
                continue
            print(f"round {number + 1}: {one.name}: {numbers}", file=sys.stderr, flush=True)
            found.setdefault(one.name, []).append(numbers)
    return {name: take_medians(several) for name, several in found.items()}


def measure_replicas(
    store: Callable[[], str], rounds: int, runs: int, in_flight: int = 100
) -> dict[int, Numbers]:
    """Measure one replica, and two that share a store, in turn; returns medians by how many they are."""
    found: dict[int, list[Numbers]] = {1: [], 2: []}
    for number in range(rounds):
        for replicas, several in found.items():
            words = (store(), runs, in_flight, replicas)
            several.append(run_script(sys.executable, DRIVES / "replicas.py", *words))
            print(f"round {number + 1}: {replicas} replicas: {several[-1]}", file=sys.stderr, flush=True)
    return {replicas: take_medians(several) for replicas, several in found.items()}


def take_medians(several: list[Numbers]) -> Numbers:
    """Return the median of each number."""
    return {key: statistics.median(numbers[key] for numbers in several) for key in several[0]}
