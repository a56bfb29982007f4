"""The Infernet adapter over real connections: what a node does when it is pressed, struck or restarted."""

from __future__ import annotations

import asyncio
import base64
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from gateway.adapter import Landed, NotLanded, Unknown
from gateway.devnet.faults import Fault, Operation
from gateway.devnet.infernet import InfernetNode
from gateway.errors import InDoubt, Misbehaved, Rejected, Throttled, Unavailable
from gateway.lifecycle import Status
from gateway.task import Envelope, Event, FailureKind, Handle, Snapshot, Task
from gateway.testing.case import make_attempt_id
from gateway.testing.clock import FakeClock
from gateway_infernet import InfernetAdapter, InfernetConfig

pytestmark = pytest.mark.anyio

ECHO = {"containers": ["echo"]}


class Place:
    """A node, an adapter for it, and every request and status that went between them."""

    def __init__(self, node: InfernetNode, clock: FakeClock | None, **config: Any) -> None:
        self.node = node
        self.requests: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        hooks: dict[str, list[Any]] = {"request": [self._count], "response": [self._note]}
        self.client = httpx2.AsyncClient(event_hooks=hooks)
        settings = InfernetConfig.model_validate({"url": node.url, **config})
        self.adapter = InfernetAdapter("n", settings, clock=clock, client=self.client)

    async def _count(self, request: httpx2.Request) -> None:
        self.requests[f"{request.method} {request.url.path}"] += 1

    async def _note(self, response: httpx2.Response) -> None:
        self.statuses[response.status_code] += 1

    async def prepare(self, target: Any = ECHO, *, stream: bool = False, **data: Any) -> Envelope:
        return await self.adapter.prepare(
            Task(input=data, stream=stream), target, attempt_id=make_attempt_id()
        )

    async def start(self, target: Any = ECHO, *, stream: bool = False, **data: Any) -> Handle:
        return await self.adapter.submit(await self.prepare(target, stream=stream, **data))

    async def look(self, handle: Handle) -> Snapshot:
        return (await self.adapter.poll([handle]))[handle]

    async def finish(self, handle: Handle) -> Snapshot:
        async with asyncio.timeout(60):
            while True:
                seen = await self.look(handle)
                if seen.status.is_final:
                    return seen
                await asyncio.sleep(0.01)

    async def read(self, handle: Handle) -> tuple[bytes, Snapshot]:
        events: list[Event] = [event async for event in self.adapter.events(handle)]
        last = events[-1].snapshot
        assert last is not None
        return b"".join(event.data for event in events if event.data is not None), last


Open = Callable[..., Any]


@pytest.fixture
async def open_place() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def open_place(clock: FakeClock | None = None, *, config: Any = None, **node: Any) -> Place:
            node.setdefault("rate_limit", None)
            if clock is not None:
                node["now"] = clock.monotonic
            stand_in = InfernetNode(**node)
            await stand_in.start()
            stack.push_async_callback(stand_in.stop)
            place = Place(stand_in, clock, **(config or {}))
            stack.push_async_callback(place.client.aclose)
            stack.push_async_callback(place.adapter.aclose)
            return place

        yield open_place


def kind_of(snapshot: Snapshot) -> FailureKind | None:
    return snapshot.failure.kind if snapshot.failure else None


async def try_all(place: Place, envelopes: list[Envelope]) -> list[Handle | BaseException]:
    return await asyncio.gather(*map(place.adapter.submit, envelopes), return_exceptions=True)


async def land(place: Place, clock: FakeClock, envelope: Envelope) -> Handle:
    """Do what an engine does: submit once, and after a doubt ask until it is over."""
    for _ in range(20):
        try:
            return await place.adapter.submit(envelope)
        except (InDoubt, Misbehaved):
            found: Any = Unknown("")
            while isinstance(found, Unknown):
                found = await place.adapter.recover(envelope)
                clock.advance(0.5)
            if isinstance(found, Landed):
                return found.handle
            assert found == NotLanded(final=False)
        except Unavailable as error:
            clock.advance(error.retry_after.total_seconds() if error.retry_after else 1)
    raise AssertionError("it never landed")


async def test_200_runs_are_few_requests_and_each_lands_once(open_place: Open) -> None:
    place = await open_place(rate_limit=(60, 60.0))
    envelopes = [await place.prepare(i=i) for i in range(200)]
    handles = await try_all(place, envelopes)
    assert all(isinstance(one, Handle) for one in handles)
    assert sum(place.requests.values()) <= 3
    assert sorted(one.job_id for one in place.node.journal) == sorted(one.attempt_id for one in envelopes)
    ends = [seen async for seen in _finish_all(place, handles)]
    assert [seen.output for seen in ends] == [{"i": i} for i in range(200)]
    assert set(place.statuses) == {200}


async def _finish_all(place: Place, handles: list[Any]) -> AsyncIterator[Snapshot]:
    async with asyncio.timeout(60):
        while True:
            news = await place.adapter.poll(handles)
            if all(seen.status.is_final for seen in news.values()):
                break
    for handle in handles:
        yield news[handle]


@pytest.mark.parametrize("version", ["1.4.0", "1.0.0", "0.2.0"])
async def test_lost_answers_to_batches_are_looked_up_and_not_repeated(open_place: Open, version: str) -> None:
    place = await open_place(version=version)
    place.node.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT, times=None)
    envelopes = [await place.prepare(i=i) for i in range(200)]
    assert {type(one) for one in await try_all(place, envelopes)} == {InDoubt}
    place.requests.clear()
    found = await asyncio.gather(*map(place.adapter.recover, envelopes))
    assert {type(one) for one in found} == {Landed}
    assert place.requests == {"GET /api/jobs": 1}
    assert set(Counter(one.job_id for one in place.node.journal).values()) == {1}
    assert len(place.node.journal) == 200


@pytest.mark.parametrize("version", ["1.4.0", "1.0.0", "0.2.0"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault.ANSWER_LOST,
        Fault.HANG,
        Fault.RATE_LIMIT,
        Fault.SERVER_ERROR,
        Fault.ERROR_AFTER,
        Fault.GARBAGE,
    ],
)
async def test_whatever_strikes_a_job_lands_exactly_once(
    open_place: Open, version: str, fault: Fault
) -> None:
    clock = FakeClock()
    place = await open_place(clock, version=version, config={"timeout_seconds": 0.3})
    place.node.faults.arm(fault, on=Operation.SUBMIT)
    place.node.faults.arm(fault, on=Operation.POLL)
    envelopes = [await place.prepare(i=i) for i in range(3)]
    handles = await asyncio.gather(*(land(place, clock, envelope) for envelope in envelopes))
    assert Counter(one.job_id for one in place.node.journal) == {e.attempt_id: 1 for e in envelopes}
    assert [handle.job_id for handle in handles] == [envelope.attempt_id for envelope in envelopes]


async def test_refusals_in_a_batch_are_single(open_place: Open) -> None:
    place = await open_place()
    good, bad = await place.prepare(i=1), await place.prepare({"containers": ["nope"]})
    internal = await place.prepare({"containers": ["internal", "echo"]})
    first, second, third = await try_all(place, [good, bad, internal])
    assert isinstance(first, Handle)
    assert isinstance(second, Rejected)
    assert second.message == "Container not supported (container nope)"
    assert isinstance(third, Rejected)
    assert third.code == "First container must be external"
    assert [one.job_id for one in place.node.journal] == [good.attempt_id]


async def test_a_restarted_node_has_lost_what_ran_and_kept_what_ended(open_place: Open) -> None:
    place = await open_place()
    ended = await place.start(text="x")
    await place.finish(ended)
    running = await place.start({"containers": ["sleep"]}, seconds=30)
    assert (await place.look(running)).status is Status.RUNNING
    await place.node.restart()
    news = await place.adapter.poll([running, ended])
    assert kind_of(news[running]) is FailureKind.LOST
    assert news[ended].status is Status.COMPLETED


async def test_polling_never_meets_the_limit_of_a_node(open_place: Open) -> None:
    clock = FakeClock()
    place = await open_place(clock, rate_limit=(5, 60.0))
    handle = await place.start({"containers": ["sleep"]}, seconds=30)
    looks = waited = 0
    while looks < 40:
        try:
            await place.look(handle)
            looks += 1
        except Throttled as error:
            clock.advance(error.retry_after.total_seconds() if error.retry_after else 0)
            waited += 1
    assert waited >= 30
    assert place.requests["GET /api/jobs"] == 40
    assert set(place.statuses) == {200}


async def test_lone_jobs_use_both_endpoints_before_they_are_held_back(open_place: Open) -> None:
    clock = FakeClock()
    place = await open_place(clock, rate_limit=(10, 60.0))
    for _ in range(18):
        await place.start(text="x")
    with pytest.raises(Throttled) as caught:
        await place.start(text="x")
    assert len(place.node.journal) == 18
    assert place.requests == {"POST /api/jobs": 9, "POST /api/jobs/batch": 9}
    assert set(place.statuses) == {200}
    assert caught.value.retry_after is not None
    clock.advance(caught.value.retry_after.total_seconds())
    await place.start(text="x")
    assert set(place.statuses) == {200}


async def test_a_stale_socket_costs_a_look_nothing_and_a_job_no_second_run(open_place: Open) -> None:
    clock = FakeClock()
    place = await open_place(clock, keep_alive_seconds=0.05)
    handle = await place.start(text="x")
    for _ in range(3):
        await asyncio.sleep(0.15)
        await place.look(handle)
        await asyncio.sleep(0.15)
        envelope = await place.prepare(text="y")
        assert (await land(place, clock, envelope)).job_id == envelope.attempt_id
    assert set(Counter(one.job_id for one in place.node.journal).values()) == {1}


async def test_more_jobs_than_one_get_can_name(open_place: Open) -> None:
    place = await open_place()
    handles = await try_all(place, [await place.prepare(i=i) for i in range(360)])
    ends = [seen async for seen in _finish_all(place, handles)]
    assert [seen.output for seen in ends] == [{"i": i} for i in range(360)]


async def test_chains_show_what_came_between(open_place: Open) -> None:
    place = await open_place()
    seen = await place.finish(await place.start({"containers": ["upper", "internal"]}, text="abc"))
    assert seen.status is Status.COMPLETED
    assert seen.output == {"output": {"output": "ABC"}}
    assert seen.detail["intermediate_results"][0]["output"] == {"output": "ABC"}
    failed = await place.finish(await place.start({"containers": ["upper", "fail"]}, text="abc"))
    assert kind_of(failed) is FailureKind.JOB
    assert failed.detail["container"] == "fail"


async def test_outputs_of_all_kinds(open_place: Open) -> None:
    place = await open_place()
    nan = (await place.finish(await place.start({"containers": ["nan"]}))).output["output"]
    assert math.isnan(nan["nan"])
    assert (nan["infinity"], nan["big"]) == (math.inf, 2**200 + 1)
    wrong = await place.finish(await place.start({"containers": ["error-output"]}))
    assert kind_of(wrong) is FailureKind.OUTPUT_ERROR
    proved = await place.start({"containers": ["prover"], "requires_proof": True}, text="x")
    assert (await place.finish(proved)).output["proof"]
    with pytest.raises(Rejected, match="does not generate proof"):
        await place.start({"containers": ["echo"], "requires_proof": True}, text="x")


async def test_a_job_beyond_the_nodes_time(open_place: Open) -> None:
    place = await open_place(container_timeout_seconds=0.05)
    seen = await place.finish(await place.start({"containers": ["sleep"]}, seconds=30))
    assert kind_of(seen) is FailureKind.TIMEOUT


async def test_the_rest_of_the_api(open_place: Open) -> None:
    place = await open_place()
    done = await place.start(text="x")
    await place.finish(done)
    running = await place.start({"containers": ["sleep"]}, seconds=30)
    assert set(await place.adapter.fetch_job_ids()) == {done.job_id, running.job_id}
    assert await place.adapter.fetch_job_ids(pending=True) == [running.job_id]
    assert await place.adapter.fetch_job_ids(pending=False) == [done.job_id]
    assert (await place.adapter.fetch_results([done.job_id]))[done.job_id]["intermediate_results"] == []
    assert "sentiment" in await place.adapter.resources()
    assert (await place.adapter.resources("vader"))["sentiment"]["supported"] is True
    await place.adapter.put_status("put-1", "success", ["echo"])
    put = await place.look(Handle("n", "put-1", {"kind": "job"}))
    assert (put.status, put.output) == (Status.COMPLETED, None)


# Streams


@pytest.mark.parametrize("version", ["1.4.0", "1.0.0"])
async def test_a_stream_word_by_word(open_place: Open, version: str) -> None:
    place = await open_place(version=version)
    text = "Grüße an\nalle 🙂 hier"
    handle = await place.start({"containers": ["words"]}, stream=True, text=text, delay_seconds=0.01)
    data, last = await place.read(handle)
    assert data.decode() == text
    assert (last.status, last.output) == (Status.COMPLETED, {"output": text})


async def test_bytes_that_are_no_text_come_unchanged_and_the_job_has_failed(open_place: Open) -> None:
    place = await open_place()
    raw = bytes(range(256))
    data = base64.b64encode(raw).decode()
    handle = await place.start({"containers": ["words"]}, stream=True, base64=data, delay_seconds=0)
    found, last = await place.read(handle)
    assert found == raw
    assert kind_of(last) is FailureKind.JOB


async def test_a_stream_that_fails_ends_cleanly_and_is_a_failure(open_place: Open) -> None:
    place = await open_place()
    data, last = await place.read(await place.start({"containers": ["fail"]}, stream=True, error="no luck"))
    assert data == b""
    assert kind_of(last) is FailureKind.JOB
    assert "no luck" in str(last.failure)


@pytest.mark.parametrize("fault", [Fault.CUT_STREAM, Fault.STALL_STREAM, None])
async def test_a_stream_that_is_cut_is_not_waited_for(open_place: Open, fault: Fault | None) -> None:
    place = await open_place(stream_limit_seconds=1.5)
    if fault:
        place.node.faults.arm(fault, on=Operation.STREAM)
    text = "one two three " * 100
    handle = await place.start({"containers": ["words"]}, stream=True, text=text, delay_seconds=0.02)
    async with asyncio.timeout(60):
        data, last = await place.read(handle)
    assert data
    assert text.encode().startswith(data)
    assert kind_of(last) is FailureKind.TIMEOUT


async def test_a_lost_stream_is_found_by_its_id(open_place: Open) -> None:
    clock = FakeClock()
    place = await open_place(clock)
    place.node.faults.arm(Fault.ANSWER_LOST, on=Operation.STREAM)
    envelope = await place.prepare({"containers": ["words"]}, stream=True, text="one")
    with pytest.raises(InDoubt):
        await place.adapter.submit(envelope)
    found = await place.adapter.recover(envelope)
    assert isinstance(found, Landed)
    assert len(place.node.journal) == 1


async def test_streams_that_a_node_refuses(open_place: Open) -> None:
    place = await open_place()
    with pytest.raises(Rejected, match="not supported"):
        await place.start({"containers": ["nope"]}, stream=True)
    old = await open_place(version="0.2.0", config={"version": "1.0.0"})
    with pytest.raises(Rejected, match="too old"):
        await old.start({"containers": ["words"]}, stream=True, text="x")
