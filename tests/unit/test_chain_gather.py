"""What many ask in one moment is one piece of work."""

from __future__ import annotations

import asyncio

import pytest

from gateway.chain.gather import Gather, Shared

pytestmark = pytest.mark.anyio


class Work:
    """Doubles numbers, and can be held up."""

    def __init__(self) -> None:
        self.lists: list[list[int]] = []
        self.running = self.most = 0
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, items: list[int]) -> list[int]:
        self.lists.append(items)
        self.begun.set()
        self.running += 1
        self.most = max(self.most, self.running)
        await self.go.wait()
        self.running -= 1
        if -1 in items:
            raise RuntimeError("one is bad")
        return [item * 2 for item in items]


async def test_each_gets_its_own_part() -> None:
    work = Work()
    work.go.set()
    gather = Gather[int, int](work)
    assert await asyncio.gather(gather.ask([1, 2]), gather.ask([]), gather.ask([3])) == [[2, 4], [], [6]]
    assert work.lists == [[1, 2, 3]]


@pytest.mark.parametrize(("in_turn", "most"), [(True, 1), (False, 2)])
async def test_in_turn(in_turn: bool, most: int) -> None:  # noqa: FBT001  a table's column
    work = Work()
    gather = Gather[int, int](work, in_turn=in_turn, window_seconds=0)
    first = asyncio.create_task(gather.ask([1]))
    await work.begun.wait()
    others = [asyncio.create_task(gather.ask([number])) for number in (2, 3)]
    for _ in range(20):
        await asyncio.sleep(0)
    work.go.set()
    assert await asyncio.gather(first, *others) == [[2], [4], [6]]
    assert work.most == most
    assert work.lists == [[1], [2, 3]]


async def test_what_fails_fails_for_all_and_only_once() -> None:
    work = Work()
    work.go.set()
    gather = Gather[int, int](work)
    results = await asyncio.gather(gather.ask([1]), gather.ask([-1]), return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError] * 2
    assert await gather.ask([4]) == [8]


async def test_who_leaves_takes_nobody_along() -> None:
    work = Work()
    gather = Gather[int, int](work)
    leaving, staying = asyncio.create_task(gather.ask([1])), asyncio.create_task(gather.ask([2]))
    await work.begun.wait()
    leaving.cancel()
    work.go.set()
    assert await staying == [4]
    assert work.lists == [[1, 2]]


async def test_a_question_under_way_is_shared_and_goes_on_without_those_who_leave() -> None:
    work = Work()

    async def run() -> int:
        [found] = await work([len(work.lists) + 1])
        return found

    shared = Shared(run)
    first, second = asyncio.create_task(shared.ask()), asyncio.create_task(shared.ask())
    await work.begun.wait()
    first.cancel()
    third = asyncio.create_task(shared.ask())
    await asyncio.sleep(0)
    work.go.set()
    assert await second == await third
    assert len(work.lists) == 1
    await shared.ask()  # a new question, for that one is answered
    assert len(work.lists) == 2
    assert first.cancelled()


async def test_an_error_is_shared_and_not_kept() -> None:
    tries = 0

    async def run() -> int:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        if tries == 1:
            raise RuntimeError("bad")
        return tries

    shared = Shared(run)
    told = await asyncio.gather(shared.ask(), shared.ask(), return_exceptions=True)
    assert [type(one) for one in told] == [RuntimeError, RuntimeError]
    assert await shared.ask() == 2
