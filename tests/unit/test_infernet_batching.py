from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BackendError, InDoubt, Rejected, Unavailable
from gateway_infernet.batching import Batcher

pytestmark = pytest.mark.anyio


class Wire:
    """Keeps what is sent together, and answers when it is told to."""

    def __init__(self, most: int = 100) -> None:
        self.most = most
        self.sent: list[list[int]] = []
        self.gates: list[asyncio.Event] = []
        self.is_open = True

    async def send(self, items: Sequence[int]) -> list[str | BackendError]:
        self.sent.append(list(items))
        gate = asyncio.Event()
        self.gates.append(gate)
        if not self.is_open:
            await gate.wait()
        return [Rejected("odd") if item < 0 else f"r{item}" for item in items]

    def make(self, **more: Any) -> Batcher[int, str]:
        return Batcher("n", self.send, lambda items: min(len(items), self.most), **more)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30), st.integers(1, 7))
def test_everybody_gets_their_own_result(items: list[int], most: int) -> None:
    async def scenario() -> None:
        wire = Wire(most)
        results = await asyncio.gather(*map(wire.make().add, items), return_exceptions=True)
        for item, result in zip(items, results, strict=True):
            assert isinstance(result, Rejected) if item < 0 else result == f"r{item}"
        assert [item for batch in wire.sent for item in batch] == items
        assert max(map(len, wire.sent)) <= most
        assert len({id(result) for result in results if isinstance(result, Rejected)}) == sum(
            item < 0 for item in items
        )

    asyncio.run(scenario())


async def test_what_gathers_goes_together() -> None:
    wire = Wire()
    wire.is_open = False
    batcher = wire.make()
    tasks = [asyncio.create_task(batcher.add(1))]
    await settle()
    for item in (2, 3):
        tasks.append(asyncio.create_task(batcher.add(item)))
        await settle()
    assert wire.sent == [[1]]
    wire.gates[0].set()
    await settle()
    assert wire.sent == [[1], [2, 3]]
    wire.gates[1].set()
    assert await asyncio.gather(*tasks) == ["r1", "r2", "r3"]


async def test_a_request_that_hangs_is_overtaken_by_a_few() -> None:
    wire = Wire()
    wire.is_open = False
    batcher = wire.make(patience_seconds=0.001)
    tasks = []
    for item in range(7):
        tasks.append(asyncio.create_task(batcher.add(item)))
        await asyncio.sleep(0.02)
    assert wire.sent == [[0], [1], [2], [3]]
    wire.gates[2].set()
    await settle()
    assert wire.sent[4:] == [[4, 5, 6]]
    for gate in wire.gates:
        gate.set()
    assert await asyncio.gather(*tasks) == [f"r{item}" for item in range(7)]
    wire.is_open = True
    assert [*await asyncio.gather(batcher.add(8), batcher.add(9))] == ["r8", "r9"]
    assert wire.sent[5:] == [[8, 9]]


async def test_who_gives_up_in_time_is_not_sent() -> None:
    wire = Wire()
    wire.is_open = False
    batcher = wire.make()
    first, second, third = (asyncio.create_task(batcher.add(1)) for _ in range(3))
    await settle()
    late = asyncio.create_task(batcher.add(2))
    await settle()
    late.cancel()
    wire.gates[0].set()
    assert [*await asyncio.gather(first, second, third)] == ["r1"] * 3
    await settle()
    assert wire.sent == [[1, 1, 1]]


async def test_closing() -> None:
    wire = Wire()
    wire.is_open = False
    batcher = wire.make()
    out = asyncio.create_task(batcher.add(1))
    await settle()
    waiting = asyncio.create_task(batcher.add(2))
    await settle()
    await batcher.aclose()
    await batcher.aclose()
    results = await asyncio.gather(out, waiting, return_exceptions=True)
    assert [type(result) for result in results] == [InDoubt, Unavailable]
    assert all(isinstance(result, BackendError) and result.backend == "n" for result in results)
    assert wire.sent == [[1]]


async def test_a_defect_leaves_a_doubt_and_stops_nobody() -> None:
    seen: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    sent: list[Sequence[int]] = []

    async def send(items: Sequence[int]) -> list[str | BackendError]:
        sent.append(items)
        if len(sent) == 1:
            raise ZeroDivisionError
        return ["fine" for _ in items]

    batcher: Batcher[int, str] = Batcher("n", send, lambda items: 1)
    results = await asyncio.gather(batcher.add(1), batcher.add(2), return_exceptions=True)
    assert isinstance(results[0], InDoubt)
    assert results[1] == "fine"
