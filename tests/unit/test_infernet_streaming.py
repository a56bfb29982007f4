"""Streamed jobs: what is refused, what comes, and what an end means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx  # respx's name for what is httpx2 here: see conftest.py
import pytest
import respx

from gateway.adapter import Landed
from gateway.errors import BackendError, InDoubt, Misbehaved, NotSupported, Rejected, Throttled, Unavailable
from gateway.lifecycle import Status
from gateway.task import Envelope, Event, FailureKind, Handle, Snapshot, Task
from gateway.testing.clock import FakeClock
from gateway.types import AttemptId
from gateway_infernet import InfernetAdapter, InfernetConfig

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:4000"
RUNNING = {"id": "a", "result": None, "status": "running"}
SUCCESS = {"id": "a", "result": {"container": "c", "output": {"output": "text"}}, "status": "success"}
FAILED = {"id": "a", "result": {"container": "c", "error": "it broke"}, "status": "failed"}


class Body(httpx.AsyncByteStream):
    """A body in given chunks; an exception among them is raised where it stands, None is silence for ever."""

    def __init__(self, *chunks: bytes | Exception | None) -> None:
        self.chunks = chunks
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            await asyncio.sleep(0)
            if isinstance(chunk, Exception):
                raise chunk
            if chunk is None:
                await asyncio.Event().wait()
            else:
                yield chunk

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def node() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=URL, assert_all_called=False) as router:
        yield router


@pytest.fixture
async def adapter(node: respx.MockRouter, clock: FakeClock) -> AsyncIterator[InfernetAdapter]:
    adapter = InfernetAdapter("n", InfernetConfig(url=URL, version="1.4.0"), clock=clock)
    yield adapter
    await adapter.aclose()


async def prepare(adapter: InfernetAdapter) -> Envelope:
    task = Task(input={"text": "x"}, stream=True)
    return await adapter.prepare(task, {"containers": ["c"]}, attempt_id=AttemptId("a"))


async def open_stream(adapter: InfernetAdapter, node: respx.MockRouter, *chunks: bytes | Exception) -> Handle:
    node.post("/api/jobs/stream").mock(return_value=httpx.Response(200, stream=Body(*chunks)))
    return await adapter.submit(await prepare(adapter))


async def read(adapter: InfernetAdapter, handle: Handle) -> tuple[list[bytes], Snapshot]:
    events: list[Event] = [event async for event in adapter.events(handle)]
    assert [event.kind for event in events] == ["piece"] * (len(events) - 1) + ["snapshot"]
    last = events[-1].snapshot
    assert last is not None
    return [event.data for event in events[:-1] if event.data is not None], last


def kind_of(snapshot: Snapshot) -> FailureKind | None:
    return snapshot.failure.kind if snapshot.failure else None


async def test_the_id_is_split_off_and_the_bytes_are_kept(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    node.get("/api/jobs").respond(json=[SUCCESS])
    handle = await open_stream(adapter, node, b"", b"a", b"\n\xff", b"\xc3", b"\xa4\n")
    assert handle.job_id == "a"
    pieces, last = await read(adapter, handle)
    assert pieces == [b"\xff", b"\xc3", b"\xa4\n"]
    assert (last.status, last.output) == (Status.COMPLETED, {"output": "text"})
    body = node.calls[0].request.content
    assert b'"id":"a"' in body


async def test_a_clean_end_is_no_success(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    node.get("/api/jobs").respond(json=[FAILED])
    pieces, last = await read(adapter, await open_stream(adapter, node, b"a\nhalf"))
    assert (pieces, kind_of(last)) == ([b"half"], FailureKind.JOB)


async def test_the_node_may_write_the_end_down_a_moment_late(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    late = [httpx.Response(200, json=[RUNNING]), httpx.Response(200, json=[SUCCESS])]
    node.get("/api/jobs").mock(side_effect=late)
    _, last = await read(adapter, await open_stream(adapter, node, b"a\n"))
    assert last.status is Status.COMPLETED


@pytest.mark.parametrize("end", [(), (httpx.RemoteProtocolError("cut"),), (httpx.ReadTimeout("stalled"),)])
async def test_a_job_that_still_runs_after_its_stream_is_not_waited_for(
    adapter: InfernetAdapter, node: respx.MockRouter, clock: FakeClock, end: tuple[Exception, ...]
) -> None:
    route = node.get("/api/jobs").respond(json=[RUNNING])
    handle = await open_stream(adapter, node, b"a\n", b"so far", *end)
    began = clock.monotonic()
    pieces, last = await read(adapter, handle)
    assert pieces == [b"so far"]
    assert kind_of(last) is FailureKind.TIMEOUT
    assert clock.monotonic() - began < 1
    # A poll says the same, and the truth, should there be one after all.
    assert kind_of((await adapter.poll([handle]))[handle]) is FailureKind.TIMEOUT
    route.respond(json=[SUCCESS])
    assert (await adapter.poll([handle]))[handle].status is Status.COMPLETED


async def test_while_it_streams_a_poll_says_running(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    node.get("/api/jobs").respond(json=[RUNNING])
    handle = await open_stream(adapter, node, b"a\n", b"b")
    assert (await adapter.poll([handle]))[handle].status is Status.RUNNING


async def test_after_a_restart_there_is_one_look_and_no_wait_beyond_the_limit(
    adapter: InfernetAdapter, node: respx.MockRouter, clock: FakeClock
) -> None:
    node.get("/api/jobs").respond(json=[RUNNING])
    found = await adapter.recover(await prepare(adapter))
    assert isinstance(found, Landed)
    assert await read(adapter, found.handle) == ([], Snapshot(status=Status.RUNNING))
    clock.advance(64)
    assert (await adapter.poll([found.handle]))[found.handle].status is Status.RUNNING
    clock.advance(2)
    assert kind_of((await adapter.poll([found.handle]))[found.handle]) is FailureKind.TIMEOUT


async def test_who_stops_reading_hangs_up(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    node.get("/api/jobs").respond(json=[RUNNING])
    body = Body(b"a\n", b"b", b"c")
    node.post("/api/jobs/stream").mock(return_value=httpx.Response(200, stream=body))
    handle = await adapter.submit(await prepare(adapter))
    events = adapter.events(handle)
    assert (await anext(events)).data == b"b"
    await events.aclose()  # type: ignore[attr-defined]
    assert body.is_closed
    assert kind_of((await adapter.poll([handle]))[handle]) is FailureKind.TIMEOUT


async def test_a_stream_that_nobody_reads_is_not_kept_for_ever(
    adapter: InfernetAdapter, node: respx.MockRouter, clock: FakeClock
) -> None:
    node.get("/api/jobs").respond(json=[RUNNING])
    body = Body(b"a\n", b"b")
    node.post("/api/jobs/stream").mock(return_value=httpx.Response(200, stream=body))
    handle = await adapter.submit(await prepare(adapter))
    clock.advance(66)
    assert kind_of((await adapter.poll([handle]))[handle]) is FailureKind.TIMEOUT
    assert body.is_closed


async def test_closing_hangs_up(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    body = Body(b"a\n", b"b")
    node.post("/api/jobs/stream").mock(return_value=httpx.Response(200, stream=body))
    await adapter.submit(await prepare(adapter))
    assert not body.is_closed
    await adapter.aclose()
    assert body.is_closed


@pytest.mark.parametrize(
    ("chunks", "error"),
    [
        ((), Misbehaved),
        ((b"a",), Misbehaved),
        ((b"x" * 500,), Misbehaved),
        ((b"\xff\n",), Misbehaved),
        ((b"a", httpx.RemoteProtocolError("cut")), InDoubt),
        ((httpx.ReadTimeout("silent"),), InDoubt),
    ],
)
async def test_a_stream_without_its_id_leaves_a_doubt(
    adapter: InfernetAdapter, node: respx.MockRouter, chunks: tuple[Any, ...], error: type[BackendError]
) -> None:
    body = Body(*chunks)
    node.post("/api/jobs/stream").mock(return_value=httpx.Response(200, stream=body))
    with pytest.raises(error):
        await adapter.submit(await prepare(adapter))
    assert body.is_closed


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(404, html="<p>"), Rejected),
        (httpx.Response(405, json={"error": "Container not supported", "params": {}}), Rejected),
        (httpx.Response(500, json={"error": "Internal server error: can not match type"}), Rejected),
        (httpx.Response(500, html="<p>"), InDoubt),
        (httpx.Response(500, stream=Body(httpx.ReadError("cut"))), InDoubt),
        (httpx.Response(429, html="<p>"), Throttled),
        (httpx.Response(503, html="<p>"), Unavailable),
    ],
)
async def test_refusals(
    adapter: InfernetAdapter, node: respx.MockRouter, answer: httpx.Response, error: type[BackendError]
) -> None:
    node.post("/api/jobs/stream").mock(return_value=answer)
    with pytest.raises(error) as caught:
        await adapter.submit(await prepare(adapter))
    assert type(caught.value) is error


async def test_a_stream_that_never_begins_is_in_doubt(node: respx.MockRouter, clock: FakeClock) -> None:
    adapter = InfernetAdapter(
        "n", InfernetConfig(url=URL, version="1.4.0", timeout_seconds=0.05), clock=clock
    )
    body = Body(b"half an id", None)
    node.post("/api/jobs/stream").mock(return_value=httpx.Response(200, stream=body))
    with pytest.raises(InDoubt, match="did not begin in time"):
        await adapter.submit(await prepare(adapter))
    assert body.is_closed
    await adapter.aclose()


async def test_streams_have_a_limit_of_their_own(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    route = node.post("/api/jobs/stream").respond(429, html="<p>")
    for _ in range(2):
        with pytest.raises(Throttled):
            await adapter.submit(await prepare(adapter))
    assert route.call_count == 1


async def test_old_nodes_have_no_events(node: respx.MockRouter, clock: FakeClock) -> None:
    old = InfernetAdapter("n", InfernetConfig(url=URL, version="0.2.0"), clock=clock)
    with pytest.raises(NotSupported):
        _ = [event async for event in old.events(Handle("n", "a"))]
    await old.aclose()
