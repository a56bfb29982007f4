"""Submitting to an Infernet node, and the doubts after it, against answers given word for word."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx  # respx's name for what is httpx2 here: see conftest.py
import pytest
import respx

from gateway.adapter import Landed, NotLanded, Unknown
from gateway.errors import (
    BackendError,
    InDoubt,
    Misbehaved,
    Rejected,
    Throttled,
    Unavailable,
)
from gateway.task import Envelope, Handle, Task
from gateway.testing.clock import FakeClock
from gateway.types import AttemptId
from gateway_infernet import InfernetAdapter, InfernetConfig

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:4000"
ECHO = {"containers": ["echo"]}
PAGE: dict[str, Any] = {
    "text": "<!doctype html>\n<title>x</title>",
    "headers": {"content-type": "text/html; charset=utf-8"},
}
MALFORMED = 'Could not enqueue job:  can not match type "dict" to any type of "None" union'


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def node() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=URL, assert_all_called=False) as router:
        yield router


@pytest.fixture
async def make(clock: FakeClock) -> AsyncIterator[Callable[..., InfernetAdapter]]:
    made: list[InfernetAdapter] = []

    def make(**config: Any) -> InfernetAdapter:
        settings = InfernetConfig.model_validate({"url": URL, "version": "1.4.0", **config})
        made.append(InfernetAdapter("n", settings, clock=clock))
        return made[-1]

    yield make
    for adapter in made:
        await adapter.aclose()


@pytest.fixture
def adapter(make: Callable[..., InfernetAdapter], node: respx.MockRouter) -> InfernetAdapter:
    return make()


async def prepare(
    adapter: InfernetAdapter, attempt_id: str, *, target: Any = ECHO, stream: bool = False
) -> Envelope:
    task = Task(input={"a": attempt_id}, stream=stream)
    return await adapter.prepare(task, target, attempt_id=AttemptId(attempt_id))


async def submit_all(adapter: InfernetAdapter, *ids: str) -> list[Handle | BaseException]:
    envelopes = [await prepare(adapter, job_id) for job_id in ids]
    return await asyncio.gather(*map(adapter.submit, envelopes), return_exceptions=True)


def job_of(call: Any) -> Any:
    return json.loads(call.request.content)


def handle(job_id: str, **detail: Any) -> Handle:
    return Handle("n", job_id, {"kind": "job", "strict": True, "chained": False, **detail})


def accept_batch(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=[{"id": job["id"]} for job in json.loads(request.content)])


def answer_looks(request: httpx.Request) -> httpx.Response:
    """Answer as a node does: finished jobs first, running ones after them."""
    ids = request.url.params.get_list("id")
    done = [{"id": i, "result": {"container": "c", "output": i}, "status": "success"} for i in ids[::2]]
    return httpx.Response(
        200, json=done + [{"id": i, "result": None, "status": "running"} for i in ids[1::2]]
    )


# Submitting


async def test_a_lone_job_goes_alone_under_its_own_id(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    route = node.post("/api/jobs").respond(json={"id": "a"})
    found = await adapter.submit(await prepare(adapter, "a"))
    assert (found.backend, found.job_id) == ("n", "a")
    assert job_of(route.calls.last) == {"id": "a", "containers": ["echo"], "data": {"a": "a"}}
    assert route.calls.last.request.headers["content-type"] == "application/json"


async def test_what_comes_together_goes_together(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    route = node.post("/api/jobs/batch").mock(side_effect=accept_batch)
    found = await submit_all(adapter, "a", "b", "c")
    assert [one.job_id for one in found if isinstance(one, Handle)] == ["a", "b", "c"]
    assert [job["id"] for job in job_of(route.calls.last)] == ["a", "b", "c"]
    assert route.call_count == 1


async def test_what_comes_during_a_request_goes_in_the_next(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    arrived, answered = asyncio.Event(), asyncio.Event()

    async def wait(request: httpx.Request) -> httpx.Response:
        arrived.set()
        await answered.wait()
        return httpx.Response(200, json={"id": "first"})

    single = node.post("/api/jobs").mock(side_effect=wait)
    batch = node.post("/api/jobs/batch").mock(side_effect=accept_batch)
    first = asyncio.create_task(submit_all(adapter, "first"))
    await arrived.wait()
    rest = [asyncio.create_task(submit_all(adapter, job_id)) for job_id in ("b", "c", "d")]
    for _ in range(20):
        await asyncio.sleep(0)
    assert batch.call_count == 0
    answered.set()
    await asyncio.gather(first, *rest)
    assert [job["id"] for job in job_of(batch.calls.last)] == ["b", "c", "d"]
    assert (single.call_count, batch.call_count) == (1, 1)


async def test_a_batch_is_bounded_in_number_and_size(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    route = node.post("/api/jobs/batch").mock(side_effect=accept_batch)
    found = await submit_all(adapter, *(f"j{i}" for i in range(600)))
    assert all(isinstance(one, Handle) for one in found)
    assert [len(job_of(call)) for call in route.calls] == [250, 250, 100]
    node.post("/api/jobs").mock(side_effect=lambda request: httpx.Response(200, json={"id": "big"}))
    task = Task(input={"text": "x" * 5_000_000})
    envelopes = [await adapter.prepare(task, ECHO, attempt_id=AttemptId(f"b{i}")) for i in range(2)]
    await asyncio.gather(*map(adapter.submit, envelopes))
    assert route.call_count == 3


async def test_one_id_is_never_twice_in_a_batch(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    route = node.post("/api/jobs/batch").mock(side_effect=accept_batch)
    await submit_all(adapter, "a", "b", "a", "c")
    assert [[job["id"] for job in job_of(call)] for call in route.calls] == [["a", "b"], ["a", "c"]]


async def test_a_refusal_in_a_batch_is_one_jobs(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    refusal = {"error": "Container not supported", "params": {"container": "echo"}}
    node.post("/api/jobs/batch").respond(json=[{"id": "a"}, refusal, {"id": "c"}])
    first, second, third = await submit_all(adapter, "a", "b", "c")
    assert isinstance(first, Handle)
    assert isinstance(third, Handle)
    assert isinstance(second, Rejected)
    assert second.detail == refusal


async def test_a_batch_that_was_not_read_is_halved_until_the_culprit_is_alone(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        jobs = json.loads(request.content)
        if "bad" in [job["id"] for job in jobs]:
            return httpx.Response(500, json={"error": MALFORMED})
        return accept_batch(request)

    def answer_one(request: httpx.Request) -> httpx.Response:
        job_id = json.loads(request.content)["id"]
        if job_id == "bad":
            return httpx.Response(500, json={"error": MALFORMED})
        return httpx.Response(200, json={"id": job_id})

    node.post("/api/jobs/batch").mock(side_effect=answer)
    node.post("/api/jobs").mock(side_effect=answer_one)
    found = await submit_all(adapter, "a", "b", "bad", "c", "d")
    assert [getattr(one, "job_id", None) for one in found] == ["a", "b", "bad", "c", "d"]
    assert [isinstance(one, Handle) for one in found] == [True, True, False, True, True]
    assert isinstance(found[2], Rejected)


async def test_any_other_500_of_a_batch_leaves_all_in_doubt(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    node.post("/api/jobs/batch").respond(500, json={"error": "Could not enqueue job:  Connection lost"})
    node.get("/api/jobs").respond(json=[{"id": "b", "result": None, "status": "running"}])
    found = await submit_all(adapter, "a", "b")
    assert [type(one) for one in found] == [InDoubt, InDoubt]
    assert found[0] is not found[1]
    # It did answer, so nothing is on its way any more: what the node doesn't know did not land.
    assert await adapter.recover(await prepare(adapter, "a")) == NotLanded(final=False)
    assert isinstance(await adapter.recover(await prepare(adapter, "b")), Landed)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status_code": 405, "json": {"error": "No containers specified", "params": {}}}, Rejected),
        ({"status_code": 405, **PAGE}, Rejected),
        ({"status_code": 404, **PAGE}, Rejected),
        ({"status_code": 400, "json": {"error": "Could not parse message"}}, Rejected),
        ({"status_code": 500, "json": {"error": "Internal server error: can not match type"}}, Rejected),
        ({"status_code": 500, "json": {"error": "Internal server error: whatever"}}, InDoubt),
        ({"status_code": 500, **PAGE}, InDoubt),
        ({"status_code": 503, **PAGE}, Unavailable),
        ({"status_code": 429, **PAGE}, Throttled),
        ({"status_code": 200, **PAGE}, Misbehaved),
        ({"status_code": 200, "json": {}}, Misbehaved),
    ],
)
async def test_answers_to_a_submission(
    adapter: InfernetAdapter, node: respx.MockRouter, answer: Any, error: type[BackendError]
) -> None:
    node.post("/api/jobs").respond(**answer)
    with pytest.raises(error) as caught:
        await adapter.submit(await prepare(adapter, "a"))
    assert type(caught.value) is error
    assert caught.value.backend == "n"
    assert "doctype" not in caught.value.message or error is Misbehaved


async def test_a_429_has_a_wait_of_our_own_and_stops_the_next_request(
    adapter: InfernetAdapter, node: respx.MockRouter, clock: FakeClock
) -> None:
    headers = [("content-type", "text/html"), ("retry-after", "3"), ("retry-after", "3")]
    node.post("/api/jobs").mock(return_value=httpx.Response(429, html="<p>", headers=headers))
    with pytest.raises(Throttled) as caught:
        await adapter.submit(await prepare(adapter, "a"))
    assert caught.value.retry_after == timedelta(seconds=4)
    clock.advance(1)
    with pytest.raises(Throttled) as caught:
        await adapter.submit(await prepare(adapter, "a"))
    assert caught.value.retry_after == timedelta(seconds=3)
    assert len(node.calls) == 1


async def test_nothing_listens(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    node.route().mock(side_effect=httpx.ConnectError("refused"))
    envelope = await prepare(adapter, "a")
    with pytest.raises(Unavailable):
        await adapter.submit(envelope)
    assert isinstance(await adapter.recover(envelope), Unknown)
    assert (await adapter.capabilities()).healthy is False


# Doubt


@pytest.mark.parametrize("lost", [httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.ReadError])
async def test_a_lost_answer_settles_before_it_is_called_not_landed(
    adapter: InfernetAdapter, node: respx.MockRouter, clock: FakeClock, lost: type[Exception]
) -> None:
    post = node.post("/api/jobs").mock(side_effect=lost("gone"))
    get = node.get("/api/jobs").respond(json=[])
    envelope = await prepare(adapter, "a")
    with pytest.raises(InDoubt):
        await adapter.submit(envelope)
    assert post.call_count == 1
    clock.advance(1.9)
    assert isinstance(await adapter.recover(envelope), Unknown)
    clock.advance(0.2)
    assert await adapter.recover(envelope) == NotLanded(final=False)
    get.respond(json=[{"id": "a", "result": None, "status": "running"}])
    assert await adapter.recover(envelope) == Landed(handle("a"))


async def test_while_the_request_is_out_an_unknown_id_proves_nothing(
    adapter: InfernetAdapter, node: respx.MockRouter, clock: FakeClock
) -> None:
    arrived = asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    node.post("/api/jobs").mock(side_effect=hang)
    node.get("/api/jobs").respond(json=[])
    envelope = await prepare(adapter, "a")
    task = asyncio.create_task(adapter.submit(envelope))
    await arrived.wait()
    task.cancel()
    await asyncio.wait([task])
    clock.advance(20)
    assert isinstance(await adapter.recover(envelope), Unknown)


async def test_after_a_restart_a_fresh_envelope_is_given_time(
    make: Callable[..., InfernetAdapter], node: respx.MockRouter, clock: FakeClock
) -> None:
    node.get("/api/jobs").respond(json=[])
    envelope = await prepare(make(), "a")
    clock.advance(0.5)
    fresh = make()
    assert isinstance(await fresh.recover(envelope), Unknown)
    clock.advance(1.6)
    assert await fresh.recover(envelope) == NotLanded(final=False)


async def test_many_in_doubt_are_looked_up_with_one_get(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    route = node.get("/api/jobs").mock(side_effect=answer_looks)
    envelopes = [await prepare(adapter, f"j{i}") for i in range(200)]
    found = await asyncio.gather(*map(adapter.recover, envelopes))
    assert all(isinstance(one, Landed) for one in found)
    assert route.call_count == 1


async def test_garbage_proves_nothing(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    route = node.get("/api/jobs")
    bodies: list[Any] = [[{"x": 1}], [1, {"id": "b", "status": "running", "result": None}], {}]
    for body in bodies:
        route.respond(json=body)
        assert isinstance(await adapter.recover(await prepare(adapter, "a")), Unknown)


# Closing


async def test_closing_leaves_a_doubt_about_what_is_out_and_none_about_what_waits(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    arrived = asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    node.post("/api/jobs").mock(side_effect=hang)
    out = asyncio.create_task(submit_all(adapter, "a"))
    await arrived.wait()
    waiting = asyncio.create_task(submit_all(adapter, "b"))
    for _ in range(10):
        await asyncio.sleep(0)
    await adapter.aclose()
    assert [type(one) for one in await out] == [InDoubt]
    assert [type(one) for one in await waiting] == [Unavailable]


async def test_who_gives_up_while_waiting_is_never_sent(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    arrived, answered = asyncio.Event(), asyncio.Event()

    async def wait(request: httpx.Request) -> httpx.Response:
        arrived.set()
        await answered.wait()
        return httpx.Response(200, json={"id": json.loads(request.content)["id"]})

    route = node.post("/api/jobs").mock(side_effect=wait)
    first = asyncio.create_task(submit_all(adapter, "a"))
    await arrived.wait()
    second = asyncio.create_task(adapter.submit(await prepare(adapter, "b")))
    third = asyncio.create_task(submit_all(adapter, "c"))
    for _ in range(10):
        await asyncio.sleep(0)
    second.cancel()
    answered.set()
    await asyncio.gather(first, third)
    assert [job_of(call)["id"] for call in route.calls] == ["a", "c"]


async def test_an_address_and_its_errors_hold_no_password(make: Callable[..., InfernetAdapter]) -> None:
    adapter = make(url="http://me:hidden@127.0.0.1:9")
    assert adapter.address == "http://127.0.0.1:9"
    assert "hidden" not in str((await adapter.capabilities()).reason)
