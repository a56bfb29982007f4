"""A state machine over fake backends with random faults, crashes and cancels: the promises hold all the time.

Never two accepted submissions for a run, never over a budget, every run ends, and what is final stays final.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway import AsyncGateway, Limits, NoBackend, Run, Task
from gateway.policy.budget import Accounting, Budget
from gateway.policy.capacity import Capacity
from gateway.store.memory import MemoryStore
from gateway.testing import FakeAdapter, FakeClock, Fault
from gateway.testing.backend import FakeBackend
from gateway.types import Money

T = TypeVar("T")

PRICE = Money.parse("1 USD")
LIMIT = Money.parse("6 USD")
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
NAMES = st.sampled_from(["a", "b"])


class Mortal(MemoryStore):
    """A store as one process sees it: nothing is written any more once that process is dead."""

    def __init__(self, rows: MemoryStore) -> None:
        super().__init__()
        self._rows, self._beats = rows._rows, rows._beats
        self._ledger = self.ledger = rows._ledger
        self.is_dead = False

    async def save(self, run: Run, **more: Any) -> None:
        await self._die_if_dead()
        await super().save(run, **more)

    async def create(self, run: Run, *, owner: str) -> int:
        await self._die_if_dead()
        return await super().create(run, owner=owner)

    async def release(self, owner: str) -> None:
        """A dead process releases nothing, and a living one is never closed here."""

    async def _die_if_dead(self) -> None:
        if self.is_dead:
            await asyncio.Event().wait()


class Promises(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.rows = MemoryStore()
        self.backends = {name: FakeBackend(clock=self.clock, price=PRICE) for name in ("a", "b")}
        self.runs: list[str] = []
        self.ended: dict[str, Run] = {}
        self.start_process()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def start_process(self) -> None:
        self.store = Mortal(self.rows)
        adapters = [FakeAdapter(name, clock=self.clock, backend=b) for name, b in self.backends.items()]
        self.gateway = AsyncGateway(
            adapters,
            {"m": {"targets": {name: {"app": "echo"} for name in self.backends}}},
            store=self.store,
            clock=self.clock,
            accounting=Accounting((Budget(limit=LIMIT, per="total"),)),
            capacities={"a": Capacity(max_in_flight=2)},
        )
        self.do(self.gateway.recover())

    @rule(text=st.integers(), deadline=st.sampled_from([None, 30]))
    def submit(self, text: int, deadline: int | None) -> None:
        limits = Limits(deadline=timedelta(seconds=deadline) if deadline else None)

        async def submit() -> None:
            try:
                run = await self.gateway.submit(Task(model="m", input=text, limits=limits))
            except NoBackend:
                return
            self.runs.append(run.id)

        self.do(submit())

    @rule(name=NAMES, fault=st.sampled_from(FAULTS), times=st.integers(1, 3))
    def arm(self, name: str, fault: Fault, times: int) -> None:
        self.backends[name].arm(fault, times)

    @rule(name=NAMES)
    def turn_off_or_on(self, name: str) -> None:
        self.backends[name].is_down = not self.backends[name].is_down

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1, 1.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.do(self.clock.sleep(seconds))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.do(self.gateway.cancel(data.draw(st.sampled_from(self.runs))))

    @rule()
    def crash(self) -> None:
        """Kill the process and start another, which waits for the dead one's lease."""
        self.store.is_dead = True
        self.do(stop(self.gateway))
        self.do(self.clock.sleep(20))
        self.start_process()

    @invariant()
    def nothing_is_accepted_twice(self) -> None:
        for backend in self.backends.values():
            assert all(times == 1 for times in Counter(backend.accepted).values())
        accepted = {attempt_id for backend in self.backends.values() for attempt_id in backend.accepted}
        for run_id in self.runs:
            run = self.rows._rows[run_id].run
            assert sum(attempt.id in accepted for attempt in run.attempts) <= 1, run

    @invariant()
    def no_budget_is_exceeded(self) -> None:
        assert all(0 <= used <= LIMIT.amount for used in self.rows._ledger.accounts.values())
        accepted = sum(len(backend.accepted) for backend in self.backends.values())
        free = sum(
            attempt.cost.outcome == "not_charged" and attempt.handle is not None
            for run_id in self.runs
            for attempt in self.rows._rows[run_id].run.attempts
        )
        assert (accepted - free) * PRICE.amount <= LIMIT.amount

    @invariant()
    def what_is_final_stays_so(self) -> None:
        for run_id in self.runs:
            run = self.rows._rows[run_id].run
            if run_id in self.ended:
                assert run == self.ended[run_id]
            elif run.status.is_final:
                self.ended[run_id] = run

    def teardown(self) -> None:
        for backend in self.backends.values():
            backend.is_down = False
            for fault in FAULTS:
                backend.arm(fault, 0)
        self.do(self.clock.sleep(1_000))
        runs = [self.rows._rows[run_id].run for run_id in self.runs]
        assert all(run.status.is_final for run in runs), [run.status for run in runs]
        self.nothing_is_accepted_twice()
        self.no_budget_is_exceeded()
        self.do(stop(self.gateway))
        self.loop.close()


async def stop(gateway: AsyncGateway) -> None:
    """End all of a gateway's work at once, as a killed process does."""
    engine = gateway._engine
    tasks = [*engine._worker._driving, *engine._worker._watching, *engine._keeper.tasks]
    for watcher in engine._worker._watchers.values():
        tasks += watcher._followers
    tasks += [
        task for task in asyncio.all_tasks() if task is not asyncio.current_task() and task not in tasks
    ]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


TestPromises = Promises.TestCase
TestPromises.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
