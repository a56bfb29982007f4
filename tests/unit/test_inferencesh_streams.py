"""Following a task by its stream, on a local server that sends the bytes as told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from raw_stream_server import (
    DONE,
    HEARTBEAT,
    JOB,
    Script,
    Server,
    delta,
    end,
    follow,
    get_last,
    get_statuses,
    make_adapter,
    part,
    refuse,
    stream,
)

from gateway.clock import SystemClock
from gateway.errors import Misbehaved, Rejected, Throttled, Unavailable
from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle
from gateway.testing.clock import FakeClock
from gateway_inferencesh import InferenceshAdapter

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def hasty(server: Server) -> AsyncIterator[InferenceshAdapter]:
    """An adapter that expects a heartbeat every tenth of a second of real time."""
    adapter = make_adapter(server, clock=SystemClock(), heartbeat_seconds=0.1)
    yield adapter
    await adapter.aclose()


@pytest.fixture
async def adapter(server: Server) -> AsyncIterator[InferenceshAdapter]:
    adapter = make_adapter(server)
    yield adapter
    await adapter.aclose()


async def test_a_whole_life(server: Server, adapter: InferenceshAdapter) -> None:
    server.scripts = [
        stream(
            {"id": "t1", "status": 2},
            part(status="running"),
            part(output={"response": "over"}),
            end(server),
            part(status=10),
        )
    ]
    events = await follow(adapter)
    assert get_statuses(events) == [Status.QUEUED, Status.RUNNING, Status.RUNNING, Status.COMPLETED]
    assert events[2].snapshot is not None
    assert events[2].snapshot.output == {"response": "over"}
    assert get_last(events).output == {"response": "over the lazy dog"}
    assert get_last(events).detail["output_meta"] == {"n": 1}
    assert server.asked == ["GET /tasks/t1/stream", "GET /tasks/t1"]
    assert "accept: application/x-ndjson" in server.headers[0]
    assert "authorization: bearer k" in server.headers[0]


async def test_a_terminal_line_without_output_loses_nothing(
    server: Server, adapter: InferenceshAdapter
) -> None:
    server.scripts = [
        stream({"id": "t1", "status": 7, "output": {"a": 1}}, end(server), {"id": "t1", "status": 10})
    ]
    assert get_last(await follow(adapter)).output == {"response": "over the lazy dog"}


async def test_deltas_are_pieces_and_never_the_output(server: Server, adapter: InferenceshAdapter) -> None:
    server.scripts = [
        stream(
            {"id": "t1", "status": 7},
            delta(0, response="ov"),
            delta(1, response="er"),
            delta(1, response="er"),
            delta(0, response="ov"),
            then="cut",
        ),
        stream(
            delta(1, response="er"), delta(2, response=" the"), part(status=9), end(server), part(status=10)
        ),
    ]
    events = await follow(adapter)
    assert [event.piece for event in events if event.kind == "piece"] == [
        {"response": "ov"},
        {"response": "er"},
        {"response": " the"},
    ]
    uploading = next(e.snapshot for e in events if e.snapshot and e.snapshot.status is Status.UPLOADING)
    assert uploading.output == {"response": "over the"}
    assert get_last(events).output == {"response": "over the lazy dog"}


async def test_a_job_that_ends_without_output_has_none(server: Server, adapter: InferenceshAdapter) -> None:
    server.scripts = [
        stream(
            delta(0, response="ov"), end(server, {"id": "t1", "status": 10, "output": None}), part(status=10)
        )
    ]
    assert get_last(await follow(adapter)).output is None


async def test_a_long_and_quiet_task_just_works(server: Server) -> None:
    class Ticking(FakeClock):
        def monotonic(self) -> float:
            """Let ten seconds pass with each heartbeat, which is when the time is asked for."""
            self.advance(10)
            return super().monotonic()

    day = [HEARTBEAT] * 8640
    server.light = {"id": "t1", "status": 2}
    server.scripts = [stream({"id": "t1", "status": 2}, *day, end(server), part(status=10))]
    adapter = make_adapter(server, clock=Ticking(), heartbeat_seconds=10)
    events = await follow(adapter, patience_seconds=60)
    assert get_statuses(events) == [Status.QUEUED, Status.COMPLETED]
    assert server.asked.count("GET /tasks/t1/stream") == 1
    assert (
        0 < server.asked.count("GET /tasks/t1/status") < 300
    )  # looked up now and then, not with each heartbeat
    await adapter.aclose()


async def test_heartbeats_alone_do_not_hide_the_end(server: Server, hasty: InferenceshAdapter) -> None:
    quiet = [step for _ in range(2000) for step in (HEARTBEAT, 0.05)]  # for longer than is waited here
    server.scripts = [stream({"id": "t1", "status": 7}, end(server), *quiet)]
    assert get_statuses(await follow(hasty)) == [Status.RUNNING, Status.COMPLETED]


async def test_a_stream_without_a_first_snapshot_is_looked_up(
    server: Server, adapter: InferenceshAdapter
) -> None:
    server.scripts = [stream(HEARTBEAT, 0.05, end(server), then="cut")]
    assert get_statuses(await follow(adapter)) == [Status.RUNNING, Status.COMPLETED]


@pytest.mark.parametrize("first", [{"id": "t1", "status": 7}, 0], ids=["after a line", "from the start"])
async def test_a_stalled_stream_is_left(server: Server, hasty: InferenceshAdapter, first: Any) -> None:
    server.scripts = [stream(first, end(server), then="hang")]
    began = time.monotonic()
    events = await follow(hasty)
    took = time.monotonic() - began
    assert get_last(events).status is Status.COMPLETED
    assert took >= 0.25  # two and a half heartbeats


async def test_a_stream_that_never_answers_is_left(server: Server, hasty: InferenceshAdapter) -> None:
    async def hang(_: asyncio.StreamWriter) -> None:
        end(server)()
        await asyncio.Event().wait()

    server.scripts = [hang]
    assert get_last(await follow(hasty)).status is Status.COMPLETED


@pytest.mark.parametrize("then", ["end", "cut"])
async def test_what_ends_early_is_opened_again(
    server: Server, adapter: InferenceshAdapter, then: str
) -> None:
    server.scripts = [
        stream({"id": "t1", "status": 2}, then=then),
        stream({"id": "t1", "status": 7}, b'{"id": "t1", "sta', then=then),
        stream(end(server), then=then),
    ]
    events = await follow(adapter)
    assert get_statuses(events) == [Status.QUEUED, Status.RUNNING, Status.COMPLETED]


async def test_the_last_line_needs_no_line_end(server: Server, adapter: InferenceshAdapter) -> None:
    server.scripts = [stream(b'{"id":"t1","status":3}', end(server), then="end")]
    assert get_statuses(await follow(adapter)) == [Status.DISPATCHED, Status.COMPLETED]


async def test_streams_that_say_nothing_are_given_up(server: Server, adapter: InferenceshAdapter) -> None:
    server.scripts = [stream(then="end") for _ in range(20)]
    events = await follow(adapter)
    assert get_statuses(events) == [Status.RUNNING]
    assert 2 < server.asked.count("GET /tasks/t1/stream") < 10


async def test_progress_renews_the_budget(server: Server, adapter: InferenceshAdapter) -> None:
    server.scripts = [stream(delta(n, response="x"), then="cut") for n in range(12)]
    server.scripts.append(stream(end(server), then="end"))
    events = await follow(adapter)
    assert len([event for event in events if event.kind == "piece"]) == 12
    assert get_last(events).status is Status.COMPLETED


async def test_noise_is_ignored(server: Server, adapter: InferenceshAdapter) -> None:
    server.scripts = [
        stream(
            {"id": "t1", "status": 7},
            b"\n\r\n[1]\nnull\n7\nnot json\n\xff\xfe\n",
            {"type": "surprise"},
            {"event": "chats", "data": {"id": "c"}},
            {"id": None, "status": 500},
            {"id": "other", "status": 10},
            part(status=99),
            part(status="dreaming"),
            part(status=0, output=None),
            end(server),
            {"id": "t1", "status": 10},
            {"id": "t1", "status": 7},
        )
    ]
    assert get_statuses(await follow(adapter)) == [Status.RUNNING, Status.COMPLETED]


async def test_lines_cut_anywhere(server: Server, adapter: InferenceshAdapter) -> None:
    raw = (
        json.dumps({"id": "t1", "status": 7, "output": {"t": "größer"}}, ensure_ascii=False).encode() + b"\n"
    )
    server.scripts = [stream(*(raw[n : n + 1] for n in range(len(raw))), end(server), part(status=10))]
    events = await follow(adapter)
    assert events[0].snapshot is not None
    assert events[0].snapshot.output == {"t": "größer"}


async def test_a_line_of_megabytes(server: Server, adapter: InferenceshAdapter) -> None:
    text = "x" * 3_000_000
    server.scripts = [
        stream(
            {"id": "t1", "status": 7, "output": text}, end(server, {**DONE, "output": text}), part(status=10)
        )
    ]
    events = await follow(adapter)
    assert events[0].snapshot is not None
    assert events[0].snapshot.output == get_last(events).output == text


async def test_a_line_that_is_too_long(server: Server) -> None:
    adapter = make_adapter(server, max_line_bytes=1000)
    server.scripts = [stream({"id": "t1", "status": 7, "output": "x" * 2000})]
    with pytest.raises(Misbehaved, match="longer than 1000") as caught:
        await follow(adapter)
    assert caught.value.job_id == "t1"
    await adapter.aclose()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (refuse(401, b'{"id": "t1", "status": 10}'), Rejected),
        (refuse(429), Throttled),
        (refuse(500), Unavailable),
        (refuse(200, b"<html>", "text/html"), Misbehaved),
        (refuse(200, b'{"id": "t1", "status": 10}', "application/json"), Misbehaved),
        (stream({"id": "t1", "status": 10}, kind="text/event-stream"), Misbehaved),
    ],
)
async def test_what_is_no_stream_is_not_read_as_one(
    server: Server, adapter: InferenceshAdapter, script: Script, kind: Any
) -> None:
    server.scripts = [script]
    with pytest.raises(kind) as caught:
        await follow(adapter)
    assert caught.value.job_id == "t1"
    assert server.asked == ["GET /tasks/t1/stream"]


async def test_a_refusal_says_how_long_to_wait(server: Server, adapter: InferenceshAdapter) -> None:
    server.scripts = [refuse(429)]
    with pytest.raises(Throttled) as caught:
        await follow(adapter)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 4


async def test_a_forgotten_task_is_lost(server: Server, adapter: InferenceshAdapter) -> None:
    server.task = None
    server.scripts = [refuse(404)]
    last = get_last(await follow(adapter))
    assert (last.status, last.failure.kind) == (Status.FAILED, FailureKind.LOST)


async def test_failures_come_from_the_truth(server: Server, adapter: InferenceshAdapter) -> None:
    server.scripts = [stream(end(server, {"id": "t1", "status": 11, "error": "boom"}), part(status=11))]
    last = get_last(await follow(adapter))
    assert (last.status, last.failure.message) == (Status.FAILED, "boom")


async def test_an_end_that_get_does_not_confirm_is_none(server: Server, adapter: InferenceshAdapter) -> None:
    server.scripts = [
        stream({"id": "t1", "status": 7}, {"id": "t1", "status": 10}),
        stream(end(server), {"id": "t1", "status": 10}),
    ]
    assert get_statuses(await follow(adapter)) == [Status.RUNNING, Status.COMPLETED]


async def test_who_stops_listening_hangs_up(server: Server, adapter: InferenceshAdapter) -> None:
    hung_up = asyncio.Event()

    async def watch(writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\n\r\n"
        writer.write(head + b'{"id":"t1","status":7}\n')
        try:
            while True:
                writer.write(b'{"type":"heartbeat"}\n')
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            hung_up.set()

    server.scripts = [watch]
    async with aclosing(adapter.events(JOB)) as events:  # type: ignore[type-var]  # it is a generator
        async for event in events:
            assert event.snapshot is not None
            break
    async with asyncio.timeout(60):
        await hung_up.wait()


async def test_beyond_max_streams_the_job_is_left_to_polling(server: Server) -> None:
    adapter = make_adapter(server, max_streams=0)
    assert await follow(adapter) == []
    assert server.asked == []
    await adapter.aclose()


async def test_connections_are_reused(server: Server, adapter: InferenceshAdapter) -> None:
    for _ in range(30):
        await adapter.poll([JOB])
        await adapter.cancel(JOB)
    assert len(server.asked) == 90
    assert server.connections == 1
    for _ in range(10):
        await adapter.poll([Handle("hosted", f"t{n}") for n in range(40)])
    assert server.connections <= 16


async def test_a_stream_that_is_over_gives_its_connection_back(
    server: Server, adapter: InferenceshAdapter
) -> None:
    server.scripts = [stream(end(server), part(status=10)) for _ in range(5)]
    for _ in range(5):
        assert get_last(await follow(adapter)).status is Status.COMPLETED
    assert server.connections == 1


async def test_a_stream_that_is_over_and_does_not_end_is_not_waited_for(server: Server) -> None:
    server.scripts = [stream(end(server), part(status=10), then="hang")]
    adapter = make_adapter(server, heartbeat_seconds=3600)  # no silence makes it leave the stream
    assert get_last(await follow(adapter)).status is Status.COMPLETED
    await adapter.aclose()
