from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from engine_setup import make_task, open_gateway

from gateway.adapter import Feature
from gateway.lifecycle import Status
from gateway.store.memory import MemoryStore
from gateway.task import Event
from gateway.testing import FakeAdapter, FakeClock, FakeConfig

pytestmark = pytest.mark.anyio


async def test_events_go_on_after_the_one_that_was_read() -> None:
    clock = FakeClock()
    async with open_gateway(FakeAdapter("a", clock=clock), clock=clock) as gateway:
        run = await gateway.submit(make_task())
        whole = [event async for event in gateway.events(run.id)]
        for after in range(len(whole) + 1):
            assert [event async for event in gateway.events(run.id, after=after)] == whole[after:]
    assert [event.seq for event in whole] == list(range(1, len(whole) + 1))


async def test_a_reader_who_falls_behind_gets_every_stored_event_from_the_store() -> None:
    clock, store = FakeClock(), MemoryStore()
    async with open_gateway(FakeAdapter("a", clock=clock), clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task())
        events = gateway.events(run.id)
        read = [await anext(events)]
        live = gateway._engine.get_live(run.id)
        assert live is not None
        for queue in live.listeners:  # a reader whose queue ran over: its oldest events are gone
            queue.put_nowait(Event(kind="status", seq=10**9, run_id=run.id))
        read += [event async for event in events if event.seq < 10**9]
        assert read == await store.list_events(run.id)


async def test_who_follows_a_stream_in_hand_need_not_wait_for_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, store = FakeClock(), MemoryStore()
    config = FakeConfig(features=frozenset({Feature.STREAM}))
    slow = FakeAdapter("a", config, clock=clock, steps=((0.0, Status.RUNNING), (5.0, Status.COMPLETED)))
    asked: list[str] = []
    list_events = store.list_events

    async def note(run_id: str, *, after: int = 0) -> list[Event]:
        asked.append(run_id)
        return await list_events(run_id, after=after)

    monkeypatch.setattr(store, "list_events", note)
    async with open_gateway(slow, clock=clock, store=store) as gateway:
        streaming = await gateway.submit(make_task().replace(stream=True))
        plain = await gateway.submit(make_task())
        tell = gateway.hosting.track(streaming.id)
        assert tell is not None
        await clock.sleep(1)
        first, later = gateway.events(streaming.id), gateway.events(streaming.id, after=1)
        begun = [await anext(first), await anext(later), await anext(gateway.events(plain.id))]
        assert [event.seq for event in begun] == [1, 2, 1]
        assert asked == [plain.id]
        whole = [begun[0], *await _read(first)]
        assert [begun[1], *await _read(later)] == whole[1:]
        assert [event for event in whole if event.seq] == await list_events(streaming.id)
        assert tell() == await gateway.get(streaming.id)
        assert gateway.hosting.track(streaming.id) is None


async def test_a_reader_follows_a_run_that_another_process_takes_over() -> None:
    clock, store = FakeClock(), MemoryStore()
    slow = FakeAdapter("a", clock=clock, steps=((0.0, Status.RUNNING),))
    async with open_gateway(slow, clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task())
        reading = asyncio.create_task(_read(gateway.events(run.id)))
        await clock.sleep(1)
        live = gateway._engine.get_live(run.id)
        assert live is not None
        fence = store._rows[run.id].fence = live.fence + 1
        live.drop()
        done = replace(await store.get(run.id), status=Status.COMPLETED, output="elsewhere")
        last = Event(kind="end", seq=live.seq + 1, run_id=run.id, status=Status.COMPLETED)
        await store.save(done, fence=fence, events=[last])
        assert (await reading)[-1] == last


async def _read(events: object) -> list[Event]:
    return [event async for event in events]  # type: ignore[attr-defined]  # an async generator
