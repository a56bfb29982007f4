"""Rate limits that a backend tells or shows: read, kept, and no storm of refusals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from engine_setup import make_task, run_to_end
from hypothesis import given
from hypothesis import strategies as st

from gateway import AsyncGateway, FailureKind, Status
from gateway.engine.dispatch import _get_best as choose_best
from gateway.errors import Throttled
from gateway.http import parse_rate_limit
from gateway.policy.allowance import FIRST_AT_ONCE, LONGEST_HOLD_SECONDS, Allowance
from gateway.task import Envelope, Handle
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import RateLimit

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 5, 1, tzinfo=UTC)


class Limited(FakeAdapter):
    """A backend that takes `most` submissions in each window, and `says` how it stands, or only refuses."""

    def __init__(self, name: str, *, most: int, window: float, says: str = "", **more: Any) -> None:
        super().__init__(name, **more)
        self.most, self.window, self.says = most, window, says
        self.refused = 0
        self._used: dict[int, int] = {}
        self._told: RateLimit | None = None

    @property
    def rate_limit(self) -> RateLimit | None:
        return self._told

    async def submit(self, envelope: Envelope) -> Handle:
        now = self.clock.monotonic()
        number = int(now // self.window)
        left = self.most - self._used.get(number, 0)
        reset = timedelta(seconds=math.floor((number + 1) * self.window - now))
        if left > 0:
            self._used[number] = self._used.get(number, 0) + 1
        if self.says == "headers":
            self._told = RateLimit(max(0, left - 1), reset)
        if left <= 0:
            self.refused += 1
            after = reset if self.says == "retry-after" else None
            raise Throttled("too many", backend=self.name, http_status=429, retry_after=after)
        return await super().submit(envelope)


def make_gateway(*adapters: FakeAdapter, clock: FakeClock) -> AsyncGateway:
    targets = {adapter.name: {"app": "echo"} for adapter in adapters}
    return AsyncGateway(adapters, {"m": {"targets": targets}}, clock=clock)


@pytest.mark.parametrize(
    ("headers", "remaining", "seconds"),
    [
        ({"ratelimit-limit": "60", "ratelimit-remaining": "7", "ratelimit-reset": "53"}, 7, 53),
        ({"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "0"}, 0, None),
        ({"ratelimit": '"burst";r=5;t=3, "day";r=2;t=600', "ratelimit-policy": '"burst";q=9;w=3'}, 2, 600),
        ({"ratelimit": '"a, b";r=0;t=9'}, 0, 9),
        ({"ratelimit": '"default";r=50'}, 50, None),
        ({"ratelimit": "limit=100, remaining=50, reset=5"}, 50, 5),
        ({"x-ratelimit-limit": "9", "x-ratelimit-remaining": "3", "x-ratelimit-reset": "30"}, 3, 30),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": f"{NOW.timestamp() + 20:.0f}"}, 3, 20),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": f"{NOW.timestamp() * 1000 + 9000:.0f}"}, 3, 9),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": f"{NOW.timestamp() - 20:.0f}"}, 3, 0),
        ({"ratelimit-remaining": "4, 1", "ratelimit-reset": "1, 60"}, 1, 60),
    ],
)
def test_headers_are_read_in_every_way_of_writing(
    headers: Mapping[str, str], remaining: int, seconds: float | None
) -> None:
    found = parse_rate_limit(headers, now=NOW)
    assert found is not None
    told = None if found.reset_in is None else found.reset_in.total_seconds()
    assert (found.remaining, told) == (remaining, seconds)


def test_a_date_is_held_against_the_servers_own_clock() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1445412490"}
    found = parse_rate_limit({**headers, "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, now=NOW)
    assert found is not None
    assert found.reset_in == timedelta(seconds=10)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ratelimit-limit": "60"},
        {"x-ratelimit-remaining": "many"},
        {"ratelimit": "r=x"},
        {"ratelimit": ""},
    ],
)
def test_what_tells_nothing_is_nothing(headers: Mapping[str, str]) -> None:
    assert parse_rate_limit(headers) is None


NAMES = ("ratelimit", "ratelimit-remaining", "ratelimit-reset", "x-ratelimit-remaining", "x-ratelimit-reset")
VALUES = st.text(max_size=20) | st.text('0123,;="rt .eE-', max_size=20) | st.floats().map(str)


@given(st.dictionaries(st.sampled_from([*NAMES, "date"]), VALUES, max_size=4))
def test_no_header_breaks_the_reading(headers: Mapping[str, str]) -> None:
    found = parse_rate_limit(headers, now=NOW)
    if found is not None:
        assert found.remaining >= 0
        assert found.reset_in is None or timedelta(0) <= found.reset_in <= timedelta(days=367)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_ways_of_writing_say_the_same(remaining: int, reset: int) -> None:
    ways = [
        {"ratelimit": f'"default";r={remaining};t={reset}'},
        {"ratelimit": f"limit=9, remaining={remaining}, reset={reset}"},
        {"ratelimit-remaining": str(remaining), "ratelimit-reset": str(reset)},
        {"x-ratelimit-remaining": str(remaining), "x-ratelimit-reset": str(reset)},
        {"x-ratelimit-remaining": str(remaining), "x-ratelimit-reset": str(int(NOW.timestamp()) + reset)},
    ]
    told = [parse_rate_limit(way, now=NOW) for way in ways]
    assert {(one.remaining, one.reset_in) for one in told if one} == {(remaining, timedelta(seconds=reset))}
    assert None not in told


@given(st.lists(st.tuples(st.sampled_from(["go", "taken", "429", "lost"]), st.floats(0, 100)), max_size=60))
def test_an_allowance_always_opens_again(steps: list[tuple[str, float]]) -> None:
    allowance, now, under_way = Allowance(), 0.0, 0
    for number, (step, amount) in enumerate(steps):
        now += amount
        told = RateLimit(int(amount) % 3, timedelta(seconds=amount * 1e6)) if number % 2 else None
        if step == "go" and allowance.get_wait(now) <= 0:
            allowance.begin(str(number), now)
            under_way += 1
        elif step == "taken":
            allowance.note_taken(str(number - 1), told, now)
        elif step == "429":
            allowance.note_refused(str(number - 1), None, told, now)
        else:
            allowance.give_up(str(number - 1))
        assert 0 <= allowance.get_wait(now) <= LONGEST_HOLD_SECONDS + 1e-6
    for _ in range(3):  # the hold, then the slow ones
        now += allowance.get_wait(now) + 1e-6
    assert allowance.get_wait(now) <= 0


def test_pauses_grow_until_one_is_taken() -> None:
    allowance, now, waits = Allowance(), 0.0, []
    for number in range(8):
        allowance.begin(str(number), now)
        allowance.note_refused(str(number), 0.0, None, now)
        waits.append(allowance.get_hold(now))
        now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    allowance.note_taken("x", None, now)
    allowance.note_refused("y", None, None, now)
    assert allowance.get_hold(now) == 1


@pytest.mark.parametrize(("says", "most_refused"), [("headers", 0), ("retry-after", 60), ("", 90)])
async def test_200_tasks_get_through_a_small_limit_without_a_storm(says: str, most_refused: int) -> None:
    clock = FakeClock()
    a = Limited("a", most=20, window=60.0, says=says, clock=clock)
    async with make_gateway(a, clock=clock) as gateway:
        runs = await gateway.map([make_task(str(n)) for n in range(200)], concurrency=200)
    assert {run.status for run in runs} == {Status.COMPLETED}
    assert len(a.accepted) == 200
    assert a.refused <= most_refused
    assert clock.monotonic() < 60 * 30


async def test_a_used_up_limit_shows_in_the_plan_and_sends_tasks_elsewhere() -> None:
    clock = FakeClock()
    a = Limited("a", most=1, window=60.0, says="headers", clock=clock)
    b = FakeAdapter("b", clock=clock)
    async with make_gateway(a, b, clock=clock) as gateway:
        await gateway.run(make_task(), "a")
        plan = await gateway.plan(make_task(), ["a", "b"])
        assert [(c.backend, c.removed_by) for c in plan.candidates] == [("b", None), ("a", "rate")]
        assert "it takes more in" in (plan.removed[0].reason or "")
        run = await gateway.run(make_task(), ["a", "b"])
        alone = await gateway.plan(make_task(), "a")
        assert [(c.rank, c.removed_by) for c in alone.candidates] == [(1, None)]
        assert "it takes more in" in (alone.candidates[0].reason or "")
    assert [attempt.backend for attempt in run.attempts] == ["b"]
    assert a.refused == 0


async def test_waiting_for_a_limit_counts_against_the_deadline() -> None:
    clock = FakeClock()
    a = Limited("a", most=1, window=600.0, says="headers", clock=clock)
    async with make_gateway(a, clock=clock) as gateway:
        await gateway.run(make_task())
        run = await run_to_end(gateway, make_task(deadline=timedelta(seconds=30)))
        assert run.failure is not None
        assert run.failure.kind is FailureKind.DEADLINE
        assert (await gateway.run(make_task())).status is Status.COMPLETED
    assert (len(a.accepted), a.refused) == (2, 0)


async def test_one_key_does_not_take_all_of_what_is_let_in_anew() -> None:
    clock = FakeClock()
    a = Limited("a", most=4, window=60.0, says="headers", clock=clock)
    async with make_gateway(a, clock=clock) as gateway:
        crowd = [await gateway.submit(make_task(), api_key="crowd") for _ in range(20)]
        one = await gateway.submit(make_task(), api_key="one")
        await gateway.wait(one.id)
        done = sum([(await gateway.get(run.id)).status.is_final for run in crowd])
        await clock.sleep(600)
        assert {(await gateway.get(run.id)).status for run in crowd} == {Status.COMPLETED}
    assert done < 2 * FIRST_AT_ONCE


async def test_what_was_planned_before_a_limit_was_used_up_goes_elsewhere_too() -> None:
    clock = FakeClock()
    a = Limited("a", most=1, window=60.0, says="headers", clock=clock)
    b = FakeAdapter("b", clock=clock, steps=[(1.0, Status.COMPLETED)])
    async with make_gateway(a, b, clock=clock) as gateway:
        plan = await gateway.plan(make_task(), ["a", "b"])
        await gateway.run(make_task(), "a")
        gates = gateway._engine._worker._dispatcher.gates
        best = [choose_best(plan, tried, gates) for tried in ([], ["a"], ["b"], ["a", "b"])]
    assert [candidate.backend for candidate in best if candidate] == ["b", "b", "a", "a"]
