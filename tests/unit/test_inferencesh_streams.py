"""Following a task by its stream, on a local server that sends the bytes as told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from gateway.clock import Clock, SystemClock
from gateway.errors import Misbehaved, Rejected, Throttled, Unavailable
from gateway.lifecycle import Status
from gateway.task import Event, FailureKind, Handle
from gateway.testing.clock import FakeClock
from gateway_inferencesh import InferenceshAdapter, InferenceshConfig

pytestmark = pytest.mark.anyio

HEARTBEAT = {"type": "heartbeat"}
DONE = {"id": "t1", "status": 10, "output": {"response": "over the lazy dog", "output_meta": {"n": 1}}}
JOB = Handle("hosted", "t1")

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers GET /tasks/t1 and /tasks/t1/status with `task`, and each stream with the next of `scripts`."""

    def __init__(self) -> None:
        self.task: dict[str, Any] | None = {"id": "t1", "status": 7}
        self.light: dict[str, Any] | None = None
        self.scripts: list[Script] = []
        self.asked: list[str] = []
        self.headers: list[str] = []
        self.connections = 0
        self.url = ""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, _, headers = head.decode().partition("\r\n")
                method, path, _ = line.split(" ")
                self.asked.append(f"{method} {path}")
                self.headers.append(headers.lower())
                if path.endswith("/stream"):
                    await self.scripts.pop(0)(writer)
                    return
                task = self.light if path.endswith("/status") and self.light else self.task
                self._answer(writer, 200 if task else 404, task or {"detail": "gone"})
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        writer.write(head.encode() + raw)


def stream(*steps: Any, then: str = "end", kind: str = "application/x-ndjson") -> Script:
    """Make a script.

    A dict is a line, bytes are sent as they stand, a number is a pause, a function is called.
    `then`: "end" ends the body properly, "cut" breaks off, "hang" stays silent.
    """

    async def play(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        for step in steps:
            if callable(step):
                step()
            elif isinstance(step, int | float):
                await asyncio.sleep(step)
            else:
                raw = step if isinstance(step, bytes) else json.dumps(step).encode() + b"\n"
                writer.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
            await writer.drain()
        if then == "hang":
            await asyncio.Event().wait()
        writer.write(b"0\r\n\r\n" if then == "end" else b"5\r\nab")
        await writer.drain()

    return play


def refuse(status: int, body: bytes = b"{}", kind: str = "application/problem+json") -> Script:
    async def play(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nRetry-After: 4\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return play


def part(**data: Any) -> dict[str, Any]:
    return {"data": data, "fields": list(data)}


def delta(seq: int, **data: Any) -> dict[str, Any]:
    return {"event": "delta", "data": {"delta": data, "seq": seq}}


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


def make_adapter(server: Server, *, clock: Clock | None = None, **config: Any) -> InferenceshAdapter:
    """Make an adapter whose waits between two streams take no time, unless it is given another clock."""
    words = {"api_key": "k", "url": server.url, "heartbeat_seconds": 0.5, **config}
    return InferenceshAdapter("hosted", InferenceshConfig.model_validate(words), clock=clock or FakeClock())


async def follow(adapter: InferenceshAdapter, patience_seconds: float = 20) -> list[Event]:
    async with asyncio.timeout(patience_seconds):
        return [event async for event in adapter.events(JOB)]


def get_statuses(events: list[Event]) -> list[Status]:
    return [event.snapshot.status for event in events if event.snapshot]


def get_last(events: list[Event]) -> Any:
    return events[-1].snapshot


def end(server: Server, task: dict[str, Any] | None = None) -> Callable[[], None]:
    """Let the task be over for GET from here on."""

    def set_task() -> None:
        server.task = task or DONE

    return set_task


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
    clock = FakeClock()
    day = [step for _ in range(8640) for step in (HEARTBEAT, lambda: clock.advance(10))]
    server.light = {"id": "t1", "status": 2}
    server.scripts = [stream({"id": "t1", "status": 2}, *day, end(server), part(status=10))]
    adapter = make_adapter(server, clock=clock, heartbeat_seconds=10)
    events = await follow(adapter, patience_seconds=60)
    assert get_statuses(events) == [Status.QUEUED, Status.COMPLETED]
    assert server.asked.count("GET /tasks/t1/stream") == 1
    assert (
        0 < server.asked.count("GET /tasks/t1/status") < 300
    )  # looked up now and then, not with each heartbeat
    await adapter.aclose()


async def test_heartbeats_alone_do_not_hide_the_end(server: Server, hasty: InferenceshAdapter) -> None:
    quiet = [step for _ in range(200) for step in (HEARTBEAT, 0.05)]
    server.scripts = [stream({"id": "t1", "status": 7}, end(server), *quiet)]
    began = time.monotonic()
    assert get_statuses(await follow(hasty)) == [Status.RUNNING, Status.COMPLETED]
    assert time.monotonic() - began < 8


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
    assert took < 5


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
    async with asyncio.timeout(10):
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
