"""The server's end cuts every wait short, also one that begins after it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.server.stopping import Stopping

pytestmark = pytest.mark.anyio


async def _wait_long(stopping: Stopping, waits: asyncio.Event) -> str:
    try:
        async with asyncio.timeout(3600) as limit:
            with stopping.ends(limit):
                waits.set()
                await asyncio.sleep(3600)
    except TimeoutError:
        return "cut short"
    return "waited"


async def test_who_waits_and_who_comes_to_wait_is_told() -> None:
    stopping, waits = Stopping(), asyncio.Event()
    waiting = asyncio.create_task(_wait_long(stopping, waits))
    await waits.wait()
    assert not stopping.is_set()
    stopping.set()
    stopping.set()
    assert await waiting == "cut short"
    assert await _wait_long(stopping, waits) == "cut short"
    await stopping.wait()


async def test_what_has_ended_before_is_left_alone() -> None:
    stopping = Stopping()
    async with asyncio.timeout(3600) as limit:
        with stopping.ends(limit):
            await asyncio.sleep(0)
    stopping.set()
    assert not limit.expired()
