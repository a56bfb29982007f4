from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from gateway.clock import Clock
from gateway.testing.clock import FakeClock

pytestmark = pytest.mark.anyio


async def test_an_hour_of_polling_is_a_jump() -> None:
    clock: Clock = FakeClock()
    began_at, began = clock.now(), time.monotonic()
    looks = 0
    while clock.monotonic() < 3600:
        await clock.sleep(1)
        looks += 1
    assert looks == 3600
    assert clock.now() - began_at == timedelta(hours=1)
    assert time.monotonic() - began < 60  # a real hour would be 3600; the bound is wide for slow machines


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock = FakeClock()
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    await asyncio.gather(sleep("c", 3), sleep("a", 1), sleep("b", 2), sleep("b too", 2))
    assert woken == [("a", 1), ("b", 2), ("b too", 2), ("c", 3)]


async def test_a_cancelled_sleeper_moves_nothing() -> None:
    clock = FakeClock()
    long = asyncio.ensure_future(clock.sleep(1000))
    await asyncio.sleep(0)
    long.cancel()
    await clock.sleep(5)
    assert clock.monotonic() == 5
    with pytest.raises(asyncio.CancelledError):
        await long


async def test_no_jump_while_others_have_something_to_do() -> None:
    clock = FakeClock()
    sleeper = asyncio.ensure_future(clock.sleep(10))
    for _ in range(200):
        await asyncio.sleep(0)
        assert clock.monotonic() == 0
    await sleeper
    assert clock.monotonic() == 10


async def test_a_thread_s_work_is_waited_for_under_hold() -> None:
    clock = FakeClock()
    loop = asyncio.get_running_loop()
    seen: list[float] = []

    async def write(pool: ThreadPoolExecutor) -> None:
        with clock.hold():
            await loop.run_in_executor(pool, time.sleep, 0.05)
            seen.append(clock.monotonic())

    with ThreadPoolExecutor(1) as pool:
        await asyncio.gather(write(pool), write(pool), clock.sleep(60))
    assert seen == [0, 0]
    assert clock.monotonic() == 60


async def test_a_hold_may_be_let_go_in_another_thread() -> None:
    clock = FakeClock()

    def work() -> float:
        with clock.hold():
            entered()
            time.sleep(0.05)
            return clock.monotonic()

    loop = asyncio.get_running_loop()
    is_held = asyncio.Event()

    def entered() -> None:
        loop.call_soon_threadsafe(is_held.set)

    working = asyncio.ensure_future(asyncio.to_thread(work))
    await is_held.wait()
    await clock.sleep(7)
    assert await working == 0
    assert clock.monotonic() == 7


async def test_settle_seconds_gives_unseen_work_the_time_to_show_up() -> None:
    clock = FakeClock(settle_seconds=1)
    sleeper = asyncio.ensure_future(clock.sleep(60))
    await asyncio.to_thread(time.sleep, 0.02)
    assert clock.monotonic() == 0
    began = time.monotonic()
    await sleeper
    assert clock.monotonic() == 60
    assert time.monotonic() - began > 0.9


async def test_without_autojump_time_stands_still_until_told() -> None:
    clock = FakeClock(autojump=False)
    sleeper = asyncio.ensure_future(clock.sleep(2))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(1.5)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(0.5)
    await sleeper
    assert clock.monotonic() == 2


async def test_pass_time_stops_at_each_sleeper() -> None:
    clock = FakeClock(autojump=False)
    looks: list[float] = []

    async def poll() -> None:
        while True:
            await clock.sleep(1)
            looks.append(clock.monotonic())

    polling = asyncio.ensure_future(poll())
    await clock.pass_time(3.5)
    assert looks == [1, 2, 3]
    assert clock.monotonic() == 3.5
    polling.cancel()


async def test_an_endless_loop_is_an_error_and_not_a_hanging_test() -> None:
    clock = FakeClock(horizon=timedelta(hours=1))

    async def poll_for_ever() -> None:
        while True:
            await clock.sleep(60)

    with pytest.raises(RuntimeError, match="endless"):
        await poll_for_ever()


async def test_who_sleeps_for_ever_does_not_move_the_clock() -> None:
    clock = FakeClock()
    sleeper = asyncio.ensure_future(clock.sleep(math.inf))
    await clock.sleep(1)
    assert clock.monotonic() == 1
    assert not sleeper.done()
    sleeper.cancel()


async def test_nothing_and_less_than_nothing_still_yield_to_the_loop() -> None:
    clock = FakeClock()
    seen: list[str] = []
    asyncio.get_running_loop().call_soon(seen.append, "other")
    await clock.sleep(-1)
    assert seen == ["other"]
    assert clock.monotonic() == 0


def test_a_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="back"):
        FakeClock().advance(-1)


def test_one_clock_may_serve_one_loop_after_another() -> None:
    clock = FakeClock()
    asyncio.run(clock.sleep(1))
    asyncio.run(clock.sleep(1))
    assert clock.monotonic() == 2
