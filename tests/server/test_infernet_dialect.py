"""Programs written for an Infernet node, at the gateway."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.adapter import Feature
from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.config import ServerSettings
from gateway.lifecycle import Status
from gateway.server.app import App
from gateway.server.dialects.infernet import make_face, read_key
from gateway.server.service import Service
from gateway.testing import FakeAdapter
from gateway.testing.adapter import DEFAULT_FEATURES, FakeConfig
from gateway.testing.backend import Fault

pytestmark = pytest.mark.anyio

STREAMS = FakeConfig(features=DEFAULT_FEATURES | {Feature.STREAM})


def say_words(value: Any) -> list[bytes]:
    return [word.encode() for word in ("one ", "two")]


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    steps = ((0.0, Status.RUNNING), (0.02, Status.COMPLETED))
    plain = FakeAdapter("plain", steps=steps)
    speaking = FakeAdapter("speaking", STREAMS, steps=steps, pieces=say_words)
    failing = FakeAdapter("failing", steps=steps)
    failing.backend.arm(Fault.FAIL_JOB, times=100)
    slow = FakeAdapter("slow", steps=[(0.0, Status.RUNNING), (3600.0, Status.COMPLETED)])
    models = {
        "echo": {"targets": {"plain": {"app": "echo"}}, "description": "Says it again"},
        "words": {"targets": {"speaking": {"app": "words"}}},
        "fail": {"targets": {"failing": {"app": "fail"}}},
        "slow": {"targets": {"slow": {"app": "slow"}}},
        "echo,words": {"targets": {"plain": {"app": "chain"}}},
    }
    gateway = AsyncGateway([plain, speaking, failing, slow], models)
    service = Service(gateway, ServerSettings(), SystemClock())
    transport = httpx2.ASGITransport(App(service, [make_face()]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost/infernet") as client:
        yield client
    await service.aclose()


async def get_ended(client: httpx2.AsyncClient, *ids: str) -> list[dict[str, Any]]:
    for _ in range(3000):
        found: list[dict[str, Any]] = (await client.get("/api/jobs", params={"id": list(ids)})).json()
        if all(job["status"] != "running" for job in found):
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"the jobs did not end: {found}")


async def test_a_job_runs_and_is_shown_as_a_node_shows_it(client: httpx2.AsyncClient) -> None:
    accepted = await client.post("/api/jobs", json={"containers": ["echo"], "data": {"text": "hello"}})
    assert accepted.status_code == 200
    assert accepted.json().keys() == {"id"}
    job_id = accepted.json()["id"]
    assert await get_ended(client, job_id) == [
        {"id": job_id, "result": {"container": "echo", "output": {"text": "hello"}}, "status": "success"}
    ]


async def test_what_it_tells_of_itself(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "healthy"}
    info = (await client.get("/info")).json()
    assert info["chain"] == {"address": "", "enabled": False}
    assert info["containers"][0] == {
        "id": "echo",
        "description": "Says it again",
        "external": True,
        "image": "",
    }
    assert info["pending"] == {"offchain": 0, "onchain": 0}
    assert info["version"] == "1.4.0"
    resources = (await client.get("/resources")).json()
    assert resources["echo"]["compute_capability"][0]["cached_models"] == ["echo"]
    support = (await client.get("/resources", params={"model_id": "echo"})).json()
    assert (support["echo"], support["words"]) == ({"supported": True}, {"supported": False})
    assert (await client.get("/api/v1/ips", params={"container": ["echo"]})).json() == ["localhost"]
    assert (await client.get("/api/v1/ips", params={"container": ["echo"], "offset": 1})).json() == []
    assert (await client.get("/api/v1/ips", params={"container": ["nope"]})).json() == []
    containers = (await client.get("/api/v1/containers")).json()
    assert containers[0] == {"id": "echo", "count": 1, "description": "Says it again"}


async def test_a_job_under_its_own_id_is_the_same_run_when_sent_again(client: httpx2.AsyncClient) -> None:
    job = {"id": "mine-1", "containers": ["echo"], "data": {"n": 1}}
    for _ in range(2):
        assert (await client.post("/api/jobs", json=job)).json() == {"id": "mine-1"}
    assert (await client.get("/api/jobs")).json() == ["mine-1"]
    assert [found["id"] for found in await get_ended(client, "mine-1")] == ["mine-1"]
    other = await client.post("/api/jobs", json={**job, "data": {"n": 2}})
    assert other.status_code == 422
    assert "mine-1" in other.json()["error"]


async def test_a_failed_job_says_why(client: httpx2.AsyncClient) -> None:
    job_id = (await client.post("/api/jobs", json={"containers": ["fail"], "data": {}})).json()["id"]
    (job,) = await get_ended(client, job_id)
    assert job["status"] == "failed"
    assert job["result"]["container"] == "fail"
    assert job["result"]["error"]


async def test_a_batch_is_answered_item_by_item(client: httpx2.AsyncClient) -> None:
    jobs = [
        {"containers": ["echo"], "data": {"n": 1}},
        {"containers": ["nope"], "data": {}},
        {"containers": [], "data": {}},
        {"containers": ["echo", "words"], "data": {"n": 2}},
        {"containers": ["words", "echo"], "data": {"n": 2}},
    ]
    first, unknown, empty, chain, no_chain = (await client.post("/api/jobs/batch", json=jobs)).json()
    assert unknown == {"error": "Container not supported", "params": {"container": "nope"}}
    assert empty == {"error": "No containers specified", "params": {}}
    assert no_chain == {"error": "Container not supported", "params": {"container": "words,echo"}}
    found = {job["id"]: job["result"] for job in await get_ended(client, first["id"], chain["id"])}
    assert found[first["id"]] == {"container": "echo", "output": {"n": 1}}
    assert found[chain["id"]]["container"] == "words"
    assert (await client.post("/api/jobs/batch", json=[])).json() == []


async def test_lists_of_ids(client: httpx2.AsyncClient) -> None:
    running = (await client.post("/api/jobs", json={"containers": ["slow"], "data": {}})).json()["id"]
    done = (await client.post("/api/jobs", json={"containers": ["echo"], "data": {}})).json()["id"]
    await get_ended(client, done)
    assert (await client.get("/api/jobs?pending=true")).json() == [running]
    assert (await client.get("/api/jobs?pending=false")).json() == [done]
    assert set((await client.get("/api/jobs?pending=other")).json()) == {running, done}
    assert (await client.get("/info")).json()["pending"]["offchain"] == 1
    asked = await client.get("/api/jobs", params={"id": [running, "unknown", done], "intermediate": "true"})
    assert [(job["id"], job["intermediate_results"]) for job in asked.json()] == [(done, []), (running, [])]
    assert asked.json()[1] == {"id": running, "intermediate_results": [], "result": None, "status": "running"}
    assert (await client.get("/api/jobs?id=")).json() == []


@pytest.mark.parametrize(("container", "said"), [("words", b"one two"), ("echo", b'{"text":"hi"}')])
async def test_a_stream_is_the_id_a_newline_and_the_output(
    client: httpx2.AsyncClient, container: str, said: bytes
) -> None:
    job = {"containers": [container], "data": {"text": "hi"}}
    answer = await client.post("/api/jobs/stream", json=job)
    assert answer.status_code == 200
    job_id, _, output = answer.content.partition(b"\n")
    assert output == said
    (found,) = await get_ended(client, job_id.decode())
    assert found["status"] == "success"


@pytest.mark.parametrize("container", ["words", "echo"])
async def test_a_stream_that_is_asked_for_again_under_its_own_id_is_the_same_run(
    client: httpx2.AsyncClient, container: str
) -> None:
    job = {"containers": [container], "data": {"text": "hi"}, "id": "mine"}
    answers = [await client.post("/api/jobs/stream", json=job) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
    assert answers[0].content == answers[1].content
    assert (await client.get("/api/jobs")).json() == ["mine"]


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/jobs", {"containers": ["nope"], "data": {}}, 405, "Container not supported"),
        ("/api/jobs", {"subscription": {}, "signature": {}, "data": {}}, 405, "Chain not enabled"),
        ("/api/jobs/stream", {"containers": ["nope"], "data": {}}, 405, "Container not supported"),
        ("/api/jobs", {"containers": "echo", "data": {}}, 400, "containers must be a list of strings"),
        ("/api/jobs", {"containers": ["echo"], "data": []}, 400, "data must be an object"),
        ("/api/jobs", {"containers": ["echo"], "data": {}, "id": 3}, 400, "id must be a string"),
        ("/api/jobs", {"containers": ["echo"], "data": {}, "id": "a\0"}, 400, "id must be a string"),
        ("/api/jobs", {"containers": ["echo"], "data": {}, "requires_proof": 1}, 400, "requires_proof"),
        ("/api/jobs", [], 400, "a job is a JSON object"),
        ("/api/jobs/batch", {}, 400, "Expected a list"),
        ("/api/jobs/batch", [{"containers": ["echo"]}], 400, "item 0: data must be an object"),
        ("/api/jobs", {"containers": ["echo"], "data": {"$file": {"path": "/etc/passwd"}}}, 422, "file"),
        ("/api/jobs", {"containers": ["echo"], "data": {}, "requires_proof": True}, 422, "proof"),
    ],
)
async def test_refusals(client: httpx2.AsyncClient, path: str, body: Any, status: int, error: str) -> None:
    refused = await client.post(path, json=body)
    assert refused.status_code == status
    assert error in refused.json()["error"]
    assert isinstance(refused.json()["params"], dict)
    assert (await client.get("/api/jobs")).json() == []


@pytest.mark.parametrize("query", ["n=x", "n=-1", "offset=1e9", "offset=99999999999"])
async def test_the_router_wants_numbers(client: httpx2.AsyncClient, query: str) -> None:
    assert (await client.get(f"/api/v1/ips?{query}")).status_code == 400


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b"Basic " + base64.b64encode(b"any:secret"), "secret"),
        (b"Basic " + base64.b64encode(b"secret:"), "secret"),
        (b"Bearer secret", "secret"),
        (b"Basic not base64", ""),
    ],
)
def test_the_key_may_come_in_the_url(header: bytes, key: str) -> None:
    assert read_key({"headers": [(b"authorization", header)]}) == key
    assert read_key({"headers": []}) is None
