"""Due times: each run once, its newest time counts, and a look takes along whom it may."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime, timedelta

import pytest
from engine_setup import make_task, open_gateway
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapter import Feature
from gateway.engine.due import Due
from gateway.engine.live import Live
from gateway.lifecycle import Status
from gateway.limits import Limits
from gateway.policy.routing import Selector
from gateway.task import Run, Task
from gateway.testing import FakeAdapter, FakeClock, FakeConfig
from gateway.types import RunId

AT = datetime(2030, 1, 1, tzinfo=UTC)


def make_live(name: str) -> Live:
    run = Run(id=RunId(name), task=Task(), backend="a", status=Status.RUNNING, created_at=AT, updated_at=AT)
    return Live(run=run, fence=1, selector=Selector.parse("a"), limits=Limits())


LIVES = [make_live(str(number)) for number in range(6)]
PUTS = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100)), max_size=40)


def test_a_look_takes_along_what_would_soon_be_due() -> None:
    due = Due()
    for live, wait in zip(LIVES, (10.0, 19.0, 21.0), strict=False):
        due.put(live, 0.0, wait)
    assert due.take(9.9, 9) == []  # nothing is due: nobody comes early on his own
    assert due.get_first() == 10.0
    assert due.take(10.0, 9) == LIVES[:2]
    assert (len(due), due.get_first()) == (1, 21.0)


def test_the_newest_time_counts() -> None:
    due = Due()
    due.put(LIVES[0], 0.0, 1.0)
    due.put(LIVES[0], 0.0, 50.0)
    assert (len(due), due.get_first(), due.take(2.0, 9)) == (1, 50.0, [])
    due.put(LIVES[0], 2.0, 0.0)
    assert due.take(2.0, 9) == [LIVES[0]]
    assert (len(due), due.get_first(), due.take(1000.0, 9)) == (0, None, [])


def test_who_waits_longest_comes_first_and_no_more_than_so_many() -> None:
    due = Due()
    for live in LIVES:
        due.put(live, float(live.run.id), 1.0)
    assert due.take(100.0, 4) == LIVES[:4]
    assert due.take(100.0, 4) == LIVES[4:]


@given(PUTS, st.floats(0, 100), st.integers(1, 7))
def test_all_that_is_due_is_taken_once(puts: list[tuple[int, float]], now: float, most: int) -> None:
    due, newest = Due(), {}
    for number, wait in puts:
        due.put(LIVES[number], 0.0, wait)
        newest[number] = wait
    assert len(due) == len(newest)
    taken = []
    while some := due.take(now, most):
        assert len(some) <= most
        taken += [int(live.run.id) for live in some]
    assert len(set(taken)) == len(taken)
    left = {number: wait for number, wait in newest.items() if number not in taken}
    assert len(due) == len(left)
    assert all(wait > now for wait in left.values())
    assert due.get_first() == min(left.values(), default=None)
    assert all(newest[number] / 2 <= now for number in taken)


def test_what_was_dropped_is_not_due_and_takes_no_room() -> None:
    due = Due()
    due.put(LIVES[0], 0.0, 5.0)
    for number in range(1_000):
        live = make_live(f"run {number}")
        due.put(live, 0.0, 86_400.0)
        due.drop(live)
    assert (len(due), due.get_first()) == (1, 5.0)
    assert len(due._by_time) + len(due._by_readiness) < 200
    assert due.take(90_000.0, 9) == [LIVES[0]]


@pytest.mark.anyio
async def test_streams_that_have_ended_are_not_kept_until_their_deadlines() -> None:
    clock = FakeClock()
    a = FakeAdapter(
        "a", FakeConfig(features=frozenset({Feature.STREAM})), clock=clock, pieces=lambda _: ["x"]
    )
    task = Task(model="m", input=1, stream=True, limits=Limits(deadline=timedelta(days=1)))
    async with open_gateway(a, clock=clock) as gateway:
        for _ in range(20):
            await gateway.run(task)
        await clock.sleep(60)
        gc.collect()
        assert sum(isinstance(one, Live) and one.run.task == task for one in gc.get_objects()) < 5


@pytest.mark.anyio
async def test_waiting_runs_hold_no_task_and_share_their_looks() -> None:
    clock = FakeClock()
    tasks, polls = [], []
    for count in (10, 300):
        a = FakeAdapter("a", FakeConfig(poll_many=100), clock=clock, steps=[(1e9, Status.COMPLETED)])
        async with open_gateway(a, clock=clock) as gateway:
            for number in range(count):
                await gateway.submit(make_task(str(number)))
            while len(a.accepted) < count:  # noqa: ASYNC110  a fake backend tells nobody
                await asyncio.sleep(0)
            await clock.sleep(1000.0)
            before = a.calls["poll"]
            await clock.sleep(1000.0)
            tasks.append(len(asyncio.all_tasks()))
            polls.append(a.calls["poll"] - before)
    assert tasks[0] == tasks[1], "a waiting run holds a task"
    assert polls[0] > 0
    assert polls[1] <= 4 * polls[0], "looks are not shared"  # 3 polls hold 300 handles
