"""A backend is silent when it does not answer, not when this process does not listen."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.engine.waits import listen

pytestmark = pytest.mark.anyio


async def test_time_in_which_the_loop_stood_still_is_not_counted() -> None:
    async def answer() -> int:
        time.sleep(1.0)  # noqa: ASYNC251  as the import of a large library does
        await asyncio.sleep(0.01)
        return 7

    assert await listen(answer(), 0.9) == 7


async def test_silence_is_counted() -> None:
    ended = False

    async def say_nothing() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    with pytest.raises(TimeoutError):
        await listen(say_nothing(), 0.05)
    assert ended


async def test_what_is_raised_comes_out() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await listen(fail(), 30)


async def test_a_caller_that_leaves_ends_the_question() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def ask() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    listening = asyncio.create_task(listen(ask(), 30))
    await begun.wait()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert listening.cancelled()
    assert ended.is_set()
