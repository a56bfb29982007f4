from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

from gateway.adapter import Feature
from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.config import ServerSettings
from gateway.engine.live import Live
from gateway.lifecycle import Status
from gateway.server import events as events_module
from gateway.server.app import App
from gateway.server.callers import ANYBODY, NOBODY
from gateway.server.dialects.inferencesh import streams as streams_module
from gateway.server.events import read_events, stream_events, with_pauses
from gateway.server.service import Service
from gateway.server.siblings import Siblings
from gateway.server.stopping import Stopping
from gateway.server.tapes import Place, Tape
from gateway.store.memory import MemoryStore
from gateway.task import Event, Task
from gateway.testing import FakeAdapter, FakeConfig
from gateway.testing.backend import FakeBackend
from gateway.types import JSON

pytestmark = pytest.mark.anyio
STREAMS = frozenset({Feature.STREAM, Feature.CANCEL, Feature.RECALL})
WORDS = [f"word {number}" for number in range(50)]


def make_service(store: MemoryStore, adapter: FakeAdapter) -> Service:
    gateway = AsyncGateway([adapter], {"words": {"targets": {"fake": {"app": "echo"}}}}, store=store)
    return Service(gateway, ServerSettings(), SystemClock())


@pytest.fixture
async def streaming() -> AsyncIterator[Service]:
    """A server whose model says words one by one."""
    adapter = FakeAdapter(
        "fake",
        FakeConfig(features=STREAMS),
        steps=((0.0, Status.RUNNING), (0.02, Status.COMPLETED)),
        pieces=lambda _: WORDS,
    )
    service = make_service(MemoryStore(), adapter)
    await service.start()
    yield service
    await service.aclose()


def connect(service: Service) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(App(service)), base_url="http://localhost")


def parse(text: str) -> list[dict[str, Any]]:
    """Return the events of a whole answer, as a browser reads them."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append({"id": fields["id"], "event": fields["event"], **json.loads(fields["data"])})
    return found


async def test_pieces_and_stored_events_come_in_order_to_the_end(streaming: Service) -> None:
    async with connect(streaming) as client:
        run = (await client.post("/v1/runs", json={"model": "words", "stream": True})).json()
        answer = await client.get(f"/v1/runs/{run['id']}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = parse(answer.text)
    assert [event["piece"] for event in events if event["event"] == "piece"] == WORDS
    assert events[-1]["event"] == "end"
    assert events[-1]["status"] == "COMPLETED"
    places = [Place.parse(event["id"]) for event in events]
    assert places == sorted(set(places))


async def test_whoever_comes_again_misses_nothing_wherever_it_stopped(streaming: Service) -> None:
    async with connect(streaming) as client:
        run = (await client.post("/v1/runs", json={"model": "words", "stream": True})).json()
        path = f"/v1/runs/{run['id']}/events"
        whole = parse((await client.get(path)).text)
        for number, event in enumerate(whole):
            rest = await client.get(path, headers={"last-event-id": event["id"]})
            if number + 1 < len(whole):
                assert parse(rest.text) == whole[number + 1 :]
            else:
                assert rest.status_code == 204  # the end was seen: an EventSource comes no more
        assert parse((await client.get(path, headers={"last-event-id": "nonsense"})).text) == whole


async def test_another_process_goes_on_from_what_is_stored() -> None:
    store, adapter = MemoryStore(), FakeAdapter("fake", steps=((0.0, Status.RUNNING),))
    first = make_service(store, adapter)
    await first.start()
    run = await first.gateway.submit(Task(model="words"))
    reading = stream_events(first, run.id, Place(0))
    seen: list[dict[str, Any]] = []
    while not any(event.get("status") == "RUNNING" for event in seen):
        seen += parse((await anext(reading)).decode())
    await reading.aclose()  # type: ignore[attr-defined]  # an async generator
    await first.aclose()
    second = make_service(store, FakeAdapter("fake", backend=adapter.backend))
    await second.start()
    await second.gateway.cancel(run.id)
    async with connect(second) as client:
        answer = await client.get(f"/v1/runs/{run.id}/events", headers={"last-event-id": seen[-1]["id"]})
        stored = await client.get(f"/v1/runs/{run.id}/events", headers={"accept": "application/json"})
    await second.aclose()
    rest = parse(answer.text)
    assert [int(event["id"]) for event in seen + rest] == list(range(1, len(seen + rest) + 1))
    assert rest[-1]["event"] == "end"
    assert [event["seq"] for event in stored.json()["events"]] == [int(e["id"]) for e in seen + rest]


def nest(levels: int) -> JSON:
    value: JSON = "the end"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("said", [WORDS, [nest(220)]], ids=["words", "deep"])
async def test_a_key_that_is_sent_again_to_another_worker_hides_no_pieces(
    tmp_path: Path, said: list[JSON]
) -> None:
    store, backend = MemoryStore(), FakeBackend(steps=((0.0, Status.RUNNING), (1.0, Status.COMPLETED)))
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(2):
            adapter = FakeAdapter(
                "fake", FakeConfig(features=STREAMS), backend=backend, pieces=lambda _: said
            )
            service = make_service(store, adapter)
            stack.push_async_callback(service.aclose)
            await service.start()
            service.siblings = Siblings(service, tmp_path / f"{number}.sock")
            await service.siblings.open()
            clients.append(await stack.enter_async_context(connect(service)))
        body, headers = {"model": "words", "stream": True}, {"idempotency-key": "abc"}
        run, again = [(await one.post("/v1/runs", json=body, headers=headers)).json() for one in clients]
        assert run["id"] == again["id"]
        for client in clients:
            events = parse((await client.get(f"/v1/runs/{run['id']}/events")).text)
            assert [event["piece"] for event in events if event["event"] == "piece"] == said


async def test_a_stream_ends_when_the_server_does(streaming: Service) -> None:
    streaming.gateway._engine.adapters["fake"].backend.steps = ((0.0, Status.RUNNING),)  # type: ignore[attr-defined]
    run = await streaming.gateway.submit(Task(model="words"))
    reading = asyncio.create_task(_gather(stream_events(streaming, run.id, Place(0))))
    await asyncio.sleep(0)
    streaming.stopping.set()
    async with asyncio.timeout(30):
        await reading


async def test_a_silent_stream_says_that_it_is_there() -> None:
    async def silent() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    items = with_pauses(silent(), Stopping(), 0.01)
    assert [await anext(items) for _ in range(3)] == [1, None, None]
    await items.aclose()


async def test_a_silent_stream_can_be_left(streaming: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the client goes away while it is told that nothing has come."""
    monkeypatch.setattr(events_module, "_STILL_HERE_SECONDS", 0.01)
    monkeypatch.setattr(streams_module, "HEARTBEAT_SECONDS", 0.01)
    streaming.gateway._engine.adapters["fake"].backend.steps = ((0.0, Status.RUNNING),)  # type: ignore[attr-defined]
    run = await streaming.gateway.submit(Task(model="words"))
    request = SimpleNamespace(
        service=streaming, caller=ANYBODY, params={"id": run.id}, get_header=lambda _: None
    )
    answer: Any = await streams_module.stream_task(cast("Any", request))
    left: tuple[Any, ...] = (stream_events(streaming, run.id, Place(0)), answer.chunks)
    for chunks in left:
        while b"still here" not in (chunk := await anext(chunks)) and b"heartbeat" not in chunk:
            continue
        await chunks.aclose()


async def test_a_tape_is_read_from_anywhere_while_it_is_recorded() -> None:
    source: asyncio.Queue[Event | None] = asyncio.Queue()

    async def events() -> AsyncIterator[Event]:
        while (event := await source.get()) is not None:
            yield event

    tape = Tape()
    recording = asyncio.create_task(tape.record(events()))
    early = asyncio.create_task(_gather(tape.read(Place(0))))
    for number in range(1, 4):
        source.put_nowait(Event(kind="status", seq=number))
        source.put_nowait(Event(kind="piece", piece=number))
        await asyncio.sleep(0)
    late = asyncio.create_task(_gather(tape.read(Place(2))))
    source.put_nowait(None)
    await recording
    whole = await early
    assert [str(place) for place, _ in whole] == ["1", "1.1", "2", "2.1", "3", "3.1"]
    assert await late == whole[3:]
    assert await _gather(tape.read(Place(3, 1))) == []


async def test_what_came_meanwhile_is_read_together() -> None:
    async def events() -> AsyncIterator[Event]:
        for number in range(600):
            yield Event(kind="piece", piece=number)

    tape = Tape()
    await tape.record(events())
    batches = await _gather(tape.read_batches(Place(0, 10)))
    assert [event.piece for batch in batches for _, event in batch] == list(range(10, 600))
    assert len(batches) < 10


async def test_an_event_that_overtakes_another_waits_for_it_and_none_is_recorded_twice() -> None:
    tape = Tape()
    for seq in (1, 3, 4, 2, 2, 4, 5):
        tape.take(Event(kind="status", seq=seq))
        tape.take(Event(kind="piece", piece=seq))
    tape.end()
    found = await _gather(tape.read(Place(0)))
    assert [event.seq for _, event in found if event.seq] == [1, 2, 3, 4, 5]
    assert [event.piece for _, event in found if not event.seq] == [1, 3, 4, 2, 2, 4, 5]


async def test_a_reader_hears_of_silence_and_of_the_servers_end() -> None:
    tape, stopping = Tape(), Stopping()
    reading = tape.follow(Place(0), stopping, 0.01)
    assert await anext(reading) is None
    assert await anext(reading) is None
    tape.take(Event(kind="piece", piece=1))
    assert await anext(reading) == [(Place(0, 1), Event(kind="piece", piece=1))]
    end = asyncio.create_task(_gather(tape.follow(Place(0, 1), stopping, 1000)))
    await asyncio.sleep(0)
    stopping.set()
    assert await end == []
    assert await _gather(reading) == []


async def test_a_run_that_another_process_takes_over_is_recorded_to_its_end(streaming: Service) -> None:
    backend = streaming.gateway._engine.adapters["fake"].backend  # type: ignore[attr-defined]
    backend.steps = ((0.0, Status.RUNNING),)
    run = await streaming.submit(NOBODY, Task(model="words", stream=True))
    reading = asyncio.create_task(_gather(read_events(streaming, run.id, Place(0))))
    await asyncio.sleep(0)
    live = streaming.gateway._engine.get_live(run.id)
    assert live is not None
    store = streaming.store
    assert isinstance(store, MemoryStore)
    fence = store._rows[run.id].fence = live.fence + 1
    live.drop()
    done = replace(await store.get(run.id), status=Status.COMPLETED, output="elsewhere")
    last = Event(kind="end", seq=live.seq + 1, run_id=run.id, status=Status.COMPLETED)
    await store.save(done, fence=fence, events=[last])
    async with asyncio.timeout(30):
        found = await reading
    assert found[-1][1] == last
    seqs = [event.seq for _, event in found if event.seq]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_a_tape_keeps_what_was_said_of_a_run_and_nothing_else_of_it(streaming: Service) -> None:
    for _ in range(2):  # what begins with the first may keep that
        run = await streaming.submit(NOBODY, Task(model="words", stream=True))
        assert len(await _gather(read_events(streaming, run.id, Place(0)))) > len(WORDS)
    async with asyncio.timeout(30):
        while [one for one in gc.get_objects() if isinstance(one, Live) and one.run.id == run.id]:
            await asyncio.sleep(0.01)
            gc.collect()
    assert streaming.tapes.get(run.id) is not None


async def test_a_run_without_a_tape_is_read_from_the_store(streaming: Service) -> None:
    run = await streaming.gateway.run(Task(model="words"))
    places = [place for place, _ in await _gather(read_events(streaming, run.id, Place(2, 7)))]
    assert places[0] == Place(3)


@pytest.mark.parametrize("text", ["", "x", "1.x", "-1", "1.2.3", "٣", "9" * 30])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="event"):
        Place.parse(text)


async def _gather(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]
