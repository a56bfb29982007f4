"""A state machine over fake backends, two processes and a real store: the promises hold all the time.

Faults of the backends, deaths at any write, pauses that outlast a lease, cancels and deadlines, in any order.
Never two accepted submissions for an attempt or a run, never two live attempts, what is final stays final,
what was reserved is settled or given back, and in the end every run has ended.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from machine_process import OwnClock, OwnStore, Process, adopt, make_adapter

from gateway import AsyncGateway, Limits, NoBackend, Run, Task
from gateway.errors import CostOutcome
from gateway.policy.budget import Accounting, Budget
from gateway.policy.capacity import Capacity
from gateway.store import make_store
from gateway.store.memory import MemoryStore
from gateway.store.protocol import RunFilter, Store
from gateway.task import Attempt
from gateway.testing import FakeClock, Fault
from gateway.testing.backend import FakeBackend
from gateway.testing.postgres import LocalPostgres
from gateway.types import Money

T = TypeVar("T")

PRICE = Money.parse("1 USD")
LIMIT = Money.parse("6 USD")
ACCOUNT = "total|||"
EVERYTHING = RunFilter(limit=1000)
# Not LOSE_JOB: a backend that takes a job, loses the answer, forgets the job and then says that it never had
# it can't be told from one that never had it.
FAULTS = [
    Fault.REFUSE,
    Fault.REJECT,
    Fault.THROTTLE,
    Fault.LOSE_ANSWER,
    Fault.LOSE_REQUEST,
    Fault.MISBEHAVE,
    Fault.REFUSE_PREPARE,
    Fault.FAIL_JOB,
    Fault.POLL_ERROR,
    Fault.UNKNOWN,
    Fault.RECOVER_ERROR,
]
BACKENDS = st.sampled_from(["a", "b"])
REPLICAS = st.integers(0, 1)


class Promises(RuleBasedStateMachine):
    """`a` takes two jobs at a time; answers of `b` want accepting."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_task_factory(adopt)
        self.clock = FakeClock()
        self.backends = {
            name: FakeBackend(clock=self.clock, price=PRICE, wants_accepting=name == "b")
            for name in ("a", "b")
        }
        self.ended: dict[str, Run] = {}
        self.eyes = self.make_store()
        self.do(self.eyes.open())
        self.processes = [self.start_process(), self.start_process()]

    def make_store(self) -> Store:
        """Return one more store over the same data."""
        raise NotImplementedError

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def start_process(self) -> Process:
        process = Process(self.make_store(), self.clock)
        self.do(process.store.open())  # what works for the store itself does not die with the process
        process.gateway = AsyncGateway(
            [make_adapter(process, name, backend) for name, backend in self.backends.items()],
            {"m": {"targets": {name: {"app": "echo"} for name in self.backends}}},
            store=OwnStore(process),  # type: ignore[arg-type]  # it is one by what it hands on
            clock=OwnClock(self.clock, process),
            accounting=Accounting((Budget(limit=LIMIT, per="total"),)),
            capacities={"a": Capacity(max_in_flight=2)},
        )
        self.do(process.call(process.gateway.recover()))
        return process

    @rule(number=REPLICAS, text=st.integers(), deadline=st.sampled_from([None, 30]))
    def submit(self, number: int, text: int, deadline: int | None = None) -> None:
        process = self.processes[number]
        limits = Limits(deadline=timedelta(seconds=deadline) if deadline else None)

        async def submit() -> None:
            try:
                await process.gateway.submit(Task(model="m", input=text, limits=limits))
            except NoBackend:
                return

        if process.can_be_called:
            self.do(process.call(submit()))

    @rule(name=BACKENDS, fault=st.sampled_from(FAULTS), times=st.integers(1, 3))
    def arm(self, name: str, fault: Fault, times: int) -> None:
        self.backends[name].arm(fault, times)

    @rule(name=BACKENDS)
    def turn_off_or_on(self, name: str) -> None:
        self.backends[name].is_down = not self.backends[name].is_down

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1, 1.0, 5.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.do(self.clock.sleep(seconds))

    @rule(number=REPLICAS, which=st.integers(0, 99))
    def cancel(self, number: int, which: int) -> None:
        process, runs = self.processes[number], self.get_runs()
        if runs and process.can_be_called:
            self.do(process.call(process.gateway.cancel(runs[which % len(runs)].id)))

    @rule(number=REPLICAS)
    def die_now(self, number: int) -> None:
        self.processes[number].died.set()

    @rule(number=REPLICAS, steps=st.integers(1, 12), dies=st.booleans())
    def stop_soon(self, number: int, steps: int, *, dies: bool) -> None:
        """Die, or fall asleep, before or after one of the next writes."""
        self.processes[number].steps_to_go = steps
        self.processes[number].then_dies = dies

    @rule()  # always: a store's threads decide who has died, and what is drawn must not hang on that
    def restart(self) -> None:
        for number, process in enumerate(self.processes):
            if process.died.is_set():
                self.do(process.bury())
                self.processes[number] = self.start_process()

    @rule(number=REPLICAS, beats_first=st.booleans())
    def pause_or_wake(self, number: int, *, beats_first: bool) -> None:
        process = self.processes[number]
        process.awake.clear() if process.awake.is_set() else process.wake(beats_first=beats_first)

    def get_runs(self) -> list[Run]:
        return self.do(self.eyes.list_runs(EVERYTHING))

    @invariant()
    def promises_hold(self) -> None:
        used, runs = self.do(self.look_at_the_books())
        self.check_submissions(runs)
        for run in runs:
            assert all(attempt.status.is_final for attempt in run.attempts[:-1]), run
            assert run.attempt is None or run.attempt.status.is_final or not run.status.is_final, run
            assert run == self.ended.get(run.id, run)
            if run.status.is_final:
                self.ended[run.id] = run
        assert used == sum(count(attempt) for run in runs for attempt in run.attempts)
        assert 0 <= used <= LIMIT.amount

    def check_submissions(self, runs: list[Run]) -> None:
        for backend in self.backends.values():
            assert all(times == 1 for times in Counter(backend.accepted).values())
            assert all(times == 1 for times in Counter(backend.confirmed).values())
        accepted = {attempt_id for backend in self.backends.values() for attempt_id in backend.accepted}
        for run in runs:
            assert sum(attempt.id in accepted for attempt in run.attempts) <= 1, run

    async def look_at_the_books(self) -> tuple[int, list[Run]]:
        """Return what the budget counts, and the runs of the same moment."""
        with self.clock.hold():
            while True:
                runs = await self.eyes.list_runs(EVERYTHING)
                spent = await self.eyes.ledger.fetch_spent()
                if runs == await self.eyes.list_runs(EVERYTHING):  # no run comes back to an earlier state
                    return spent.get(ACCOUNT, 0), runs

    def teardown(self) -> None:
        for backend in self.backends.values():
            backend.is_down = False
            for fault in FAULTS:
                backend.arm(fault, 0)
        for process in self.processes:
            process.steps_to_go = None
            process.wake(beats_first=False)
        self.restart()
        for _ in range(100):
            runs = self.get_runs()
            if all(run.status.is_final for run in runs):
                break
            self.do(self.clock.sleep(10))
        assert all(run.status.is_final for run in runs), [run.status for run in runs]
        self.promises_hold()
        for run in runs:
            events = self.do(self.eyes.list_events(run.id))
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert [event.kind for event in events].count("end") == 1
        self.close()

    def close(self) -> None:
        for process in self.processes:
            self.do(process.bury())
        self.do(self.eyes.aclose())
        self.loop.close()


def count(attempt: Attempt) -> int:
    """Return what an attempt must count in the budget: all that it holds, or what it settled."""
    if attempt.cost.outcome is CostOutcome.NOT_CHARGED and attempt.status.is_final:
        return 0
    if attempt.status.is_final and attempt.cost.settled is not None:
        return attempt.cost.settled.amount
    return sum(hold.amount for hold in attempt.holds)


def check(machine: type[Promises], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class OverMemory(Promises):
    def make_store(self) -> Store:
        if not hasattr(self, "rows"):
            self.rows = MemoryStore()
        return self.rows


def test_over_the_memory_store() -> None:
    check(OverMemory, 30)


@pytest.mark.parametrize("beats_first", [True, False], ids=["beats", "goes_on"])
@pytest.mark.parametrize("dies", [True, False], ids=["dies", "sleeps"])
@pytest.mark.parametrize("steps", range(1, 11))
def test_who_stops_at_a_write_and_wakes_up_too_late_does_no_harm(
    steps: int, *, dies: bool, beats_first: bool
) -> None:
    machine = OverMemory()
    machine.stop_soon(0, steps, dies=dies)
    machine.submit(0, 1)
    for _ in range(2):
        machine.pass_time(20.0)
        machine.promises_hold()
        machine.pause_or_wake(0, beats_first=beats_first)
    machine.pass_time(20.0)
    machine.promises_hold()
    assert len(machine.get_runs()) == (0 if steps == 1 and dies else 1)
    machine.teardown()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return one in memory if there is such a place: what is on a disk is another test's affair."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield made
    shutil.rmtree(made)


def test_over_the_sqlite_store(folder: Path) -> None:
    numbers = itertools.count()

    class OverSqlite(Promises):
        def make_store(self) -> Store:
            if not hasattr(self, "url"):
                self.url = f"sqlite:///{folder}/{next(numbers)}.db"
            return make_store(self.url)

    check(OverSqlite, 15)


def test_over_the_postgresql_store(postgres: LocalPostgres) -> None:
    numbers = itertools.count()

    class OverPostgres(Promises):
        def make_store(self) -> Store:
            if not hasattr(self, "url"):
                self.url = postgres.make_url(f"machine_{next(numbers)}")
            return make_store(self.url)

    check(OverPostgres, 2)
