"""A time limit that many calls share."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engine.time_limit import TimeLimit

pytestmark = pytest.mark.anyio


async def test_what_takes_too_long_is_ended() -> None:
    limit = TimeLimit(0.01)
    for _ in range(2):
        with pytest.raises(TimeoutError), limit():
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # would raise, were a cancel left over


async def test_each_call_has_its_own_time() -> None:
    limit, first, ended = TimeLimit(0.05), asyncio.Event(), list[str]()

    async def call(name: str, done: asyncio.Event) -> None:
        try:
            with limit():
                await done.wait()
            ended.append(f"{name} answered")
        except TimeoutError:
            ended.append(f"{name} took too long")

    calls = [asyncio.create_task(call("first", first))]
    await asyncio.sleep(0)
    calls.append(asyncio.create_task(call("second", asyncio.Event())))
    first.set()
    await asyncio.gather(*calls)
    assert ended == ["first answered", "second took too long"]


async def test_a_cancel_from_outside_stays_one() -> None:
    limit = TimeLimit(60)

    async def call() -> None:
        with limit():
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_goes_through() -> None:
    limit = TimeLimit(60)
    with pytest.raises(ValueError, match="as it is"), limit():
        raise ValueError("as it is")


async def test_a_late_call_that_is_cancelled_as_well_is_cancelled() -> None:
    limit = TimeLimit(0.01)

    async def call() -> None:
        with limit():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                task.cancel()
                raise

    task = asyncio.create_task(call())
    with pytest.raises(asyncio.CancelledError):
        await task
