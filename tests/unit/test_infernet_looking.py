"""Looking at, preparing and asking around an Infernet node, against answers given word for word."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx  # respx's name for what is httpx2 here: see conftest.py
import pytest
import respx
from pydantic import ValidationError

from gateway.adapter import Feature, Unknown
from gateway.errors import (
    BackendError,
    InvalidInput,
    Misbehaved,
    NotSupported,
    Rejected,
    Throttled,
    Unavailable,
)
from gateway.lifecycle import Status
from gateway.task import Envelope, FailureKind, Handle, Snapshot, Task
from gateway.testing.clock import FakeClock
from gateway.types import AttemptId, Money
from gateway_infernet import InfernetAdapter, InfernetConfig

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:4000"
ECHO = {"containers": ["echo"]}
PAGE: dict[str, Any] = {
    "text": "<!doctype html>\n<title>x</title>",
    "headers": {"content-type": "text/html; charset=utf-8"},
}


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


def job_of(call: Any) -> Any:
    return json.loads(call.request.content)


def handle(job_id: str, **detail: Any) -> Handle:
    return Handle("n", job_id, {"kind": "job", "strict": True, "chained": False, **detail})


def answer_looks(request: httpx.Request) -> httpx.Response:
    """Answer as a node does: finished jobs first, running ones after them."""
    ids = request.url.params.get_list("id")
    done = [{"id": i, "result": {"container": "c", "output": i}, "status": "success"} for i in ids[::2]]
    return httpx.Response(
        200, json=done + [{"id": i, "result": None, "status": "running"} for i in ids[1::2]]
    )


# Looking


async def test_many_jobs_are_looked_at_with_few_gets(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    route = node.get("/api/jobs").mock(side_effect=answer_looks)
    handles = [handle(f"3e1d4e0c-1111-2222-3333-{i:012}") for i in range(800)]
    news = await adapter.poll(handles)
    assert set(news) == set(handles)
    assert all(seen.output in (one.job_id, None) for one, seen in news.items())
    assert [len(call.request.url.params.get_list("id")) for call in route.calls] == [350, 350, 100]
    assert all(len(str(call.request.url)) < 16_000 for call in route.calls)
    assert all("intermediate" not in call.request.url.params for call in route.calls)


async def test_a_get_that_fails_does_not_hide_the_news_of_another(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    handles = [handle(f"3e1d4e0c-1111-2222-3333-{i:012}") for i in range(360)]

    def answer(request: httpx.Request) -> httpx.Response:
        ids = request.url.params.get_list("id")
        return answer_looks(request) if len(ids) == 350 else httpx.Response(500, html="<p>")

    node.get("/api/jobs").mock(side_effect=answer)
    assert set(await adapter.poll(handles)) == set(handles[:350])


async def test_chains_ask_for_what_came_before(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    entry = {
        "id": "a",
        "status": "success",
        "result": {"container": "b", "output": 2},
        "intermediate_results": [{"container": "a", "output": 1}],
    }
    route = node.get("/api/jobs").respond(json=[entry])
    node.post("/api/jobs").respond(json={"id": "a"})
    chained = await adapter.submit(await prepare(adapter, "a", target={"containers": ["a", "b"]}))
    seen = (await adapter.poll([chained]))[chained]
    assert route.calls.last.request.url.params["intermediate"] == "true"
    assert seen.detail["intermediate_results"] == [{"container": "a", "output": 1}]


async def test_no_news_of_one_job_does_not_hide_the_others(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    odd = {"id": "odd", "result": None, "status": "pausing"}
    route = node.get("/api/jobs").respond(json=[odd, {"id": "good", "result": None, "status": "running"}])
    news = await adapter.poll([handle("odd"), handle("good"), handle("gone")])
    assert news[handle("good")] == Snapshot(status=Status.RUNNING)
    lost = news[handle("gone")].failure
    assert lost is not None
    assert lost.kind is FailureKind.LOST
    assert handle("odd") not in news
    route.respond(json=[odd])
    with pytest.raises(Misbehaved):
        await adapter.poll([handle("odd")])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status_code": 500, **PAGE}, Unavailable),
        ({"status_code": 431}, Rejected),
        ({"status_code": 200, **PAGE}, Misbehaved),
        ({"status_code": 200, "json": {"error": "x"}}, Misbehaved),
        ({"status_code": 429, **PAGE}, Throttled),
    ],
)
async def test_an_answer_without_news_is_an_error_and_no_loss(
    adapter: InfernetAdapter, node: respx.MockRouter, answer: Any, error: type[BackendError]
) -> None:
    node.get("/api/jobs").respond(**answer)
    with pytest.raises(error):
        await adapter.poll([handle("a"), handle("b")])


async def test_one_stale_socket_is_forgiven_to_a_get(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    good = httpx.Response(200, json=[{"id": "a", "result": None, "status": "running"}])
    route = node.get("/api/jobs").mock(side_effect=[httpx.RemoteProtocolError("closed"), good])
    assert (await adapter.poll([handle("a")]))[handle("a")].status is Status.RUNNING
    assert route.call_count == 2


async def test_a_budget_that_is_nearly_used_up_is_not_burnt(
    adapter: InfernetAdapter, node: respx.MockRouter, clock: FakeClock
) -> None:
    headers = {"RateLimit-Limit": "60", "RateLimit-Remaining": "2", "RateLimit-Reset": "57"}
    route = node.get("/api/jobs").respond(json=[], headers=headers)
    await adapter.poll([handle("a")])
    with pytest.raises(Throttled) as caught:
        await adapter.poll([handle("a")])
    assert caught.value.retry_after == timedelta(seconds=1)
    assert isinstance(await adapter.recover(await prepare(adapter, "b")), Unknown)
    assert route.call_count == 1
    node.post("/api/jobs").respond(json={"id": "b"})
    await adapter.submit(await prepare(adapter, "b"))  # another endpoint, another budget
    clock.advance(1)
    await adapter.poll([handle("a")])
    assert route.call_count == 2


# Preparing


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({}, "containers: Field required"),
        ({"containers": ["a,b"]}, "commas"),
        ({"container": "a"}, "container"),
    ],
)
async def test_a_wrong_target_is_named(adapter: InfernetAdapter, target: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        await prepare(adapter, "a", target=target)
    with pytest.raises(InvalidInput, match=words):
        await adapter.quote(Task(input={}), target)


async def test_what_would_quietly_not_happen_is_refused(
    make: Callable[..., InfernetAdapter], adapter: InfernetAdapter
) -> None:
    with pytest.raises(Rejected, match="first container only"):
        await prepare(adapter, "a", target={"containers": ["a", "b"]}, stream=True)
    proving = {"containers": ["a"], "requires_proof": True}
    with pytest.raises(Rejected, match="proof"):
        await prepare(adapter, "a", target=proving, stream=True)
    old = make(version="0.2.0")
    with pytest.raises(Rejected, match=r"before node version 1\.0"):
        await prepare(old, "a", target=proving)
    with pytest.raises(Rejected, match=r"before node version 1\.0"):
        await prepare(old, "a", stream=True)


async def test_a_job_that_is_too_large_is_refused_before_it_is_sent(adapter: InfernetAdapter) -> None:
    with pytest.raises(Rejected, match=r"16\.0 MB"):
        await adapter.prepare(Task(input={"text": "x" * 16_000_000}), ECHO, attempt_id=AttemptId("a"))


async def test_quotes(make: Callable[..., InfernetAdapter]) -> None:
    free = await make().quote(Task(input={}), ECHO)
    assert (free.expected, free.upper, free.confidence) == (None, None, "free")
    price = Money.parse("0.001 USD")
    priced = await make(price="0.001 USD").quote(Task(input={}), ECHO)
    assert (priced.expected, priced.upper, priced.confidence) == (price, price, "configured")
    with pytest.raises(ValidationError, match="-1 USD is less than nothing"):
        make(price="-1 USD")


@pytest.mark.parametrize("url", ["127.0.0.1:4000", "http://", "http://a:99999", "http://[::1", "http://a:x"])
def test_what_is_no_url_is_refused_when_it_is_read(url: str) -> None:
    with pytest.raises(ValidationError, match="is not a URL"):
        InfernetConfig(url=url)


async def test_a_target_may_have_a_code_of_its_own(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    node.post("/api/jobs").respond(json={"id": "a"})
    output = {"code": "print(1)"}
    node.get("/api/jobs").respond(
        json=[{"id": "a", "status": "success", "result": {"container": "c", "output": output}}]
    )
    for strict, status in ((None, Status.FAILED), (False, Status.COMPLETED)):
        target = {"containers": ["c"], "strict_output": strict}
        found = await adapter.submit(await prepare(adapter, "a", target=target))
        assert (await adapter.poll([found]))[found].status is status


# Facts


def say_info(node: respx.MockRouter, **more: Any) -> None:
    node.get("/health").respond(json={"status": "healthy"})
    node.get("/info").respond(json={"containers": [{"id": "a"}, {"id": "b"}], "pending": {}, **more})


async def test_facts_by_version(make: Callable[..., InfernetAdapter], node: respx.MockRouter) -> None:
    resources = node.get("/resources").respond(json={"a": {"x": 1}})
    for version, streams, asked in (("1.4.0", True, 1), ("1.3.1", True, 1), (None, False, 1)):
        say_info(node, **({"version": version} if version else {}))
        facts = await make(version=None).capabilities()
        assert (facts.healthy, facts.version, facts.offers) == (True, version, frozenset("ab"))
        assert (Feature.STREAM in facts.features) is (Feature.PROOF in facts.features) is streams
        assert {Feature.QUOTE, Feature.RECALL} <= facts.features
        assert facts.poll_many == 350
        assert facts.free
        assert resources.call_count == asked


@pytest.mark.parametrize(
    "broken",
    [
        {"status_code": 500, **PAGE},  # Redis is dead: /health stays healthy, jobs are accepted and never run
        {"status_code": 200, **PAGE},
        {"json": {"containers": 3}},
        {"json": []},
    ],
)
async def test_a_node_that_cannot_say_what_it_is_is_not_healthy(
    adapter: InfernetAdapter, node: respx.MockRouter, broken: Any
) -> None:
    node.get("/health").respond(json={"status": "healthy"})
    node.get("/info").respond(**broken)
    facts = await adapter.capabilities()
    assert not facts.healthy
    assert facts.reason


async def test_hanging_resources_are_odd_and_no_illness(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    say_info(node)
    node.get("/resources").mock(side_effect=httpx.ReadTimeout("hangs"))
    facts = await adapter.capabilities()
    assert facts.healthy
    assert "error" in facts.detail["resources"]


async def test_a_throttled_node_is_there(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    node.get("/health").respond(429, **PAGE)
    facts = await adapter.capabilities()
    assert facts.healthy
    assert "too many requests" in str(facts.reason)


# The rest of the API


async def test_ids_results_and_resources(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    route = node.get("/api/jobs").respond(json=["a", "b", "a"])
    assert await adapter.fetch_job_ids() == ["a", "b"]
    await adapter.fetch_job_ids(pending=True)
    assert route.calls.last.request.url.query == b"pending=true"
    await adapter.fetch_job_ids(pending=False)
    assert route.calls.last.request.url.query == b"pending=false"
    entry: dict[str, Any] = {"id": "a", "status": "success", "result": None, "intermediate_results": []}
    route.respond(json=[entry])
    assert await adapter.fetch_results(["a", "b", "a"]) == {"a": entry}
    assert route.calls.last.request.url.query == b"id=a&id=b&intermediate=true"
    resources = node.get("/resources").respond(json={"a": {"supported": True}})
    assert await adapter.resources("m&x=1") == {"a": {"supported": True}}
    assert resources.calls.last.request.url.params["model_id"] == "m&x=1"
    resources.respond(404, **PAGE)
    with pytest.raises(Rejected, match="too old"):
        await adapter.resources()


async def test_putting_a_status(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    route = node.put("/api/status").respond(json=None)
    await adapter.put_status("a", "running", ["c"])
    assert job_of(route.calls.last) == {"id": "a", "status": "running", "containers": ["c"]}
    with pytest.raises(InvalidInput, match="running, success, failed"):
        await adapter.put_status("a", "done", ["c"])
    route.respond(403, json={"error": "Unauthorized"})
    with pytest.raises(Rejected, match="Unauthorized"):
        await adapter.put_status("a", "failed", [])


async def test_jobs_cannot_be_cancelled(adapter: InfernetAdapter) -> None:
    with pytest.raises(NotSupported):
        await adapter.cancel(handle("a"))
