"""Processes that share a store: they hear of each other, and a paused one sends nothing that it lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest

from gateway.client import AsyncGateway
from gateway.errors import RunTakenOver, StoreError
from gateway.lifecycle import Status
from gateway.policy.capacity import Capacity
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


async def test_who_was_silent_while_it_wrote_asks_before_it_sends() -> None:
    """A process that stood still behind a commit, and beats again before it goes on, has lost the run."""

    class SlowStore(TellingStore):
        written: asyncio.Future[None] | None = None

        def save(self, run: Run, **words: Any) -> Awaitable[None]:
            saved = super().save(run, **words)
            if self.written is None:
                self.written = asyncio.get_running_loop().create_future()
                return self.written
            return saved

    clock, store = FakeClock(), SlowStore()
    a = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    async with make_gateway(a, store, clock) as owner:
        run = await owner.submit(Task(model="m"))
        await clock.sleep(1)
        keeper = owner._engine._keeper
        store.is_away = True
        await clock.sleep(SHARED_LEASE_LASTS.total_seconds() + 0.1)
        later = clock.now() + timedelta(minutes=1)
        (claimed,) = await store.claim("other", keeper._scope, now=later, limit=1)
        store.is_away = False
        await clock.sleep(SHARED_LEASE_LASTS.total_seconds() / 2)
        assert (claimed.run.id, keeper.is_believed, a.calls["submit"]) == (run.id, True, 0)
        assert store.written is not None
        store.written.set_result(None)
        await clock.sleep(1)
        assert a.calls["submit"] == 0
        assert owner._engine.get_live(run.id) is None


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


async def test_a_run_that_comes_back_is_followed_to_its_end() -> None:
    """Another had it for a moment: what this process knew of it before must not stand in the way."""
    clock, store = FakeClock(), TellingStore()
    a = FakeAdapter("a", clock=clock, steps=[(30.0, Status.COMPLETED)])
    async with make_gateway(a, store, clock) as owner:
        run = await owner.submit(Task(model="m"))
        await clock.sleep(3)
        engine = owner._engine
        before = engine.get_live(run.id)
        assert before is not None
        assert before.has_landed
        later = clock.now() + timedelta(minutes=1)
        await store.claim("other", engine._keeper._scope, now=later, limit=1)
        await store.release("other")
        await engine._keeper.claim()
        after = engine.get_live(run.id)
        assert after is not None
        assert after is not before
        await clock.sleep(1)
        watcher = engine._worker._watchers["a"]
        watcher.look_soon(before, 0.0)  # as after a look that it had under way when it lost the run
        await clock.sleep(300)
        assert (await store.get(run.id)).status is Status.COMPLETED
        assert engine.get_live(run.id) is None
    assert a.calls["submit"] == 1


async def test_a_place_is_not_lost_with_a_run_that_another_took() -> None:
    """Whoever has the run counts its job; here there is room for the next."""
    clock, store = FakeClock(), TellingStore()
    a = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    async with make_gateway(a, store, clock) as owner:
        run = await owner.submit(Task(model="m"))
        await clock.sleep(3)
        engine = owner._engine
        live = engine.get_live(run.id)
        assert live is not None
        gate = engine._worker._gates.get("a")
        assert gate.running == 1
        later = clock.now() + timedelta(minutes=1)
        await store.claim("other", engine._keeper._scope, now=later, limit=1)
        with pytest.raises(RunTakenOver):
            await engine._journal.save(live)
        assert gate.running == 0


async def test_a_wait_for_a_place_that_could_not_be_stored_takes_none() -> None:
    """The next try is another attempt: this one would hold its place for ever."""
    clock, store = FakeClock(), TellingStore()
    a = FakeAdapter("a", clock=clock, steps=[(5.0, Status.COMPLETED)])
    models = {"m": {"targets": {"a": {"app": "echo"}}}}
    one = {"a": Capacity(max_in_flight=1)}
    async with AsyncGateway([a], models, store=store, clock=clock, capacities=one) as gateway:
        first = await gateway.submit(Task(model="m"))
        await clock.sleep(1)
        real, failing = store.save, 1

        async def save(run: Run, **words: Any) -> None:
            nonlocal failing
            if failing and run.id != first.id:
                failing -= 1
                raise StoreError("it is away")
            await real(run, **words)

        store.save = save  # type: ignore[method-assign]
        second = await gateway.submit(Task(model="m"))
        for run in (first, second):
            assert (await gateway.wait(run.id, timeout=300.0)).status is Status.COMPLETED
        assert failing == 0
        assert gateway._engine._worker._gates.get("a").running == 0
