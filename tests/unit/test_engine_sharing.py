"""Processes that share a store: they hear of each other, and a paused one sends nothing that it lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from gateway.client import AsyncGateway
from gateway.errors import StoreError
from gateway.lifecycle import Status
from gateway.store.memory import MemoryStore
from gateway.store.news import News
from gateway.store.protocol import SHARED_LEASE_LASTS, Wish
from gateway.task import Run, Task
from gateway.testing import FakeAdapter, FakeClock

pytestmark = pytest.mark.anyio


class TellingStore(MemoryStore):
    """A store for many processes, which tells of wishes; `is_away` makes it fail."""

    def __init__(self) -> None:
        super().__init__()
        self.news = News()
        self.is_away = False

    async def wish(self, wish: Wish) -> Run:
        run = await super().wish(wish)
        self.news.ring(["wishes"])
        return run

    async def beat(self, owner: str, *, until: object) -> None:
        if self.is_away:
            raise StoreError("it is away")
        await super().beat(owner, until=until)  # type: ignore[arg-type]  # as given


def make_gateway(adapter: FakeAdapter, store: MemoryStore, clock: FakeClock) -> AsyncGateway:
    return AsyncGateway(
        [adapter], {"m": {"targets": {adapter.name: {"app": "echo"}}}}, store=store, clock=clock
    )


async def test_news_wake_those_who_listen_to_them() -> None:
    news = News()
    with news.listen("a") as a, news.listen("a") as also_a, news.listen("b") as b:
        news.ring(["a", "unheard of"])
        assert (a.is_set(), also_a.is_set(), b.is_set()) == (True, True, False)
        news.ring_all()
        assert b.is_set()
    a.clear()
    news.ring(["a"])
    assert not a.is_set()


async def test_a_waiter_is_woken_and_need_not_look() -> None:
    """With news that come, the store is looked at when they do, and every five seconds."""
    clock, store = FakeClock(), TellingStore()
    store.news.is_live = True
    a = FakeAdapter("a", clock=clock, steps=[(3.0, Status.COMPLETED)])
    looks = 0
    async with make_gateway(a, store, clock) as owner, make_gateway(a, store, clock) as other:
        run = await owner.submit(Task(model="m"))
        real = store.get

        async def get(run_id: str) -> Run:
            nonlocal looks
            looks += 1
            return await real(run_id)

        store.get = get  # type: ignore[method-assign]
        waiting = asyncio.create_task(other.wait(run.id))
        await clock.sleep(4)
        assert not waiting.done()
        store.news.ring([run.id])
        assert (await waiting).status is Status.COMPLETED
    assert looks <= 3


async def test_lost_news_are_made_up_for() -> None:
    clock, store = FakeClock(), TellingStore()
    store.news.is_live = True  # it says so, and nothing comes
    a = FakeAdapter("a", clock=clock, steps=[(3.0, Status.COMPLETED)])
    async with make_gateway(a, store, clock) as owner, make_gateway(a, store, clock) as other:
        run = await owner.submit(Task(model="m"))
        assert (await other.wait(run.id)).status is Status.COMPLETED
        events = [event.kind async for event in other.events(run.id)]
    assert events[-1] == "end"


async def test_a_wish_is_heard_at_once() -> None:
    clock, store = FakeClock(), TellingStore()
    a = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    async with make_gateway(a, store, clock) as owner, make_gateway(a, store, clock) as other:
        run = await owner.submit(Task(model="m"))
        await clock.sleep(1.5)
        before = clock.monotonic()
        await other.cancel(run.id)
        live = owner._engine.get_live(run.id)
        assert live is not None
        while not live.cancel.is_set():  # noqa: ASYNC110  the clock stands still meanwhile
            await asyncio.sleep(0)
        assert clock.monotonic() == before


async def test_who_was_silent_asks_before_it_sends() -> None:
    """A beat that failed for longer than the lease: others may have the run."""
    clock, store = FakeClock(), TellingStore()
    a = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    async with make_gateway(a, store, clock) as owner:
        run = await owner.submit(Task(model="m"))
        await clock.sleep(1)
        keeper, live = owner._engine._keeper, owner._engine.get_live(run.id)
        assert live is not None
        assert keeper.is_believed
        store.is_away = True
        await clock.sleep(SHARED_LEASE_LASTS.total_seconds() + 0.1)
        assert not keeper.is_believed
        (claimed,) = await store.claim(
            "other", owner._engine._keeper._scope, now=clock.now() + timedelta(minutes=1), limit=1
        )
        sent = a.calls["submit"]
        attempt = live.run.attempt
        assert attempt is not None
        assert attempt.envelope is not None
        with pytest.raises(Exception, match="taken over"):
            await owner._engine._worker._sender.send(live, attempt.envelope)
        assert a.calls["submit"] == sent
        assert live.dropped
        assert claimed.run.id == run.id


async def test_who_was_silent_lets_the_others_beat_first() -> None:
    """After the store was away for all, the first that is back takes nobody's runs."""
    clock, store = FakeClock(), TellingStore()
    a = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    async with make_gateway(a, store, clock) as one, make_gateway(a, store, clock) as other:
        run = await one.submit(Task(model="m"))
        await clock.sleep(1)
        store.is_away = True
        for gateway in (one, other):
            gateway._engine._keeper.claim = _never  # type: ignore[method-assign]  # it could not ask either
        await clock.sleep(60)
        for gateway in (one, other):
            del gateway._engine._keeper.claim
        store.is_away = False
        await clock.sleep(10)
        assert one._engine.get_live(run.id) is not None
        assert other._engine.get_live(run.id) is None
        await one.cancel(run.id)


async def _never() -> None:
    raise StoreError("it is away")
