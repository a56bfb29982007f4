"""The Infernet stand-in on the wire: endpoints, jobs, refusals, batches, limits, versions."""

from __future__ import annotations

import math
from typing import Any

import httpx2
import pytest
from infernet_node_setup import PRAISE, Client, Clock, Gate, Start, client, start

from gateway.devnet.infernet import Container, make_containers

__all__ = ["client", "start"]  # fixtures

pytestmark = pytest.mark.anyio


async def test_health_and_the_form_of_answers(client: Client) -> None:
    answer = await client.http.get("/health")
    assert answer.status_code == 200
    assert answer.content == b'{"status":"healthy"}\n'
    assert answer.headers["content-type"] == "application/json"
    assert answer.reason_phrase == ""
    assert answer.extensions["reason_phrase"] == b""


async def test_info_tells_containers_version_and_chain(client: Client) -> None:
    info = (await client.http.get("/info")).json()
    assert list(info) == ["chain", "containers", "pending", "version"]
    assert info["chain"] == {"address": "", "enabled": False}
    assert info["pending"] == {"offchain": 0, "onchain": 0}
    assert info["version"] == "1.4.0"
    assert {"description", "external", "id", "image"} == set(info["containers"][0])
    assert [c["id"] for c in info["containers"] if not c["external"]] == ["internal"]


async def test_sentiment_gives_the_published_scores(client: Client) -> None:
    job = await client.run(["sentiment"], {"text": PRAISE})
    assert job["status"] == "success"
    assert job["result"]["container"] == "sentiment"
    scores = {"compound": 0.8316, "label": "positive", "neg": 0.0, "neu": 0.254, "pos": 0.746}
    assert job["result"]["output"] == {"output": scores}


async def test_sentiment_without_a_text_is_a_success_with_an_error_object(client: Client) -> None:
    job = await client.run(["sentiment"], {})
    assert job["status"] == "success"
    assert job["result"]["output"]["code"] == "400"
    assert job["result"]["output"]["name"] == "Bad Request"
    assert (await client.run(["error-output"]))["result"]["output"]["code"] == "500"


async def test_keys_are_sorted_at_every_depth_and_text_is_escaped(client: Client) -> None:
    await client.post(["echo"], {"z": {"é": 1, "a": [{"y": 1, "b": 2}]}, "c": 1}, id="sorted")
    await client.finish("sorted")
    answer = await client.http.get("/api/jobs?id=sorted")
    assert b'"output":{"c":1,"z":{"a":[{"b":2,"y":1}],"\\u00e9":1}}' in answer.content


async def test_numbers_beyond_strict_json_pass(client: Client) -> None:
    output = (await client.run(["nan"]))["result"]["output"]["output"]
    assert math.isnan(output["nan"])
    assert output["infinity"] == math.inf
    assert output["big"] == 2**200 + 1


async def test_chains_pass_the_output_on_and_keep_the_steps(client: Client) -> None:
    job = await client.run(["echo", "upper", "internal"], {"text": "well"})
    assert [step["container"] for step in job["intermediate_results"]] == ["echo", "upper"]
    assert job["intermediate_results"][1]["output"] == {"output": "WELL"}
    assert job["result"] == {"container": "internal", "output": {"output": {"output": "WELL"}}}


async def test_a_failure_names_the_container_and_later_ones_do_not_run(client: Client) -> None:
    job = await client.run(["echo", "fail", "upper"], {"error": "out of memory"})
    assert job["status"] == "failed"
    assert job["result"] == {"container": "fail", "error": "out of memory"}
    assert [step["container"] for step in job["intermediate_results"]] == ["echo"]
    assert (await client.run(["fail"], {"error": ""}))["result"] == {"container": "fail", "error": ""}


async def test_the_timeout_of_a_container_is_a_failure_with_an_empty_text(start: Start) -> None:
    client = await start(container_timeout_seconds=0.01)
    job = await client.run(["sleep"], {"seconds": 60})
    assert job["result"] == {"container": "sleep", "error": ""}


async def test_intermediate_must_be_exactly_true(client: Client) -> None:
    await client.run(["echo"], {}, id="one")
    assert list((await client.look("one", intermediate="true"))[0]) == [
        "id",
        "intermediate_results",
        "result",
        "status",
    ]
    for value in ("True", "1", "false"):
        assert "intermediate_results" not in (await client.look("one", intermediate=value))[0]


async def test_running_jobs_come_last_and_unknown_ids_are_left_out(start: Start) -> None:
    gate = Gate()
    client = await start(containers=make_containers(sleep=gate.sleep))
    await client.post(["sleep"], {}, id="slow")
    await client.run(["echo"], {}, id="done")
    await client.run(["echo"], {}, id="also")
    jobs = await client.look("slow", "nobody", "also", "done", "done")
    assert [job["id"] for job in jobs] == ["also", "done", "done", "slow"]
    assert jobs[-1] == {"id": "slow", "result": None, "status": "running"}
    assert await client.look("nobody") == []
    assert await client.look("") == []
    assert await client.look("done,also") == []
    gate.open()
    assert (await client.finish("slow"))["status"] == "success"


async def test_lists_of_ids(start: Start) -> None:
    gate = Gate()
    client = await start(containers=make_containers(sleep=gate.sleep))
    await client.run(["echo"], {}, id="done:1")
    await client.post(["sleep"], {}, id="slow")
    assert await client.look() == ["slow", "done"]  # running first, and cut at the colon
    assert await client.look(pending="true") == ["slow"]
    assert await client.look(pending="false") == ["done"]
    assert await client.look(pending="True") == ["slow", "done"]
    assert (await client.http.get("/api/jobs?ids=done")).json() == ["slow", "done"]
    assert (await client.http.get("/info")).json()["pending"]["offchain"] == 1
    gate.open()


async def test_the_same_id_again_runs_again_and_shows_twice_meanwhile(start: Start) -> None:
    gate = Gate()
    client = await start(containers=make_containers(sleep=gate.sleep))
    first = await client.run(["echo"], {"n": 1}, id="mine")
    await client.post(["sleep"], {"seconds": 2}, id="mine")
    jobs = await client.look("mine")
    assert [job["status"] for job in jobs] == ["success", "running"]
    assert jobs[0]["result"] == first["result"]
    gate.open()
    assert (await client.finish("mine"))["result"]["container"] == "sleep"
    assert len(await client.look("mine")) == 1
    assert [entry.job_id for entry in client.node.journal] == ["mine", "mine"]
    assert client.node.journal[0].input == {"n": 1}


async def test_jobs_are_seen_from_their_address_only(start: Start) -> None:
    near = await start()
    await near.run(["echo"], {}, id="near")
    transport = httpx2.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx2.AsyncClient(base_url=near.node.url, transport=transport) as http:
        far = Client(near.node, http)
        assert await far.look("near") == []
        assert await far.look() == []
        await far.post(["echo"], {}, id="given", ip="127.0.0.1")
        assert await far.look("given") == []
        answer = await http.get("/api/jobs?id=near", headers={"X-Forwarded-For": "127.0.0.1"})
        assert answer.json() == []
    assert (await near.finish("given"))["status"] == "success"


async def test_running_jobs_expire_after_fifteen_minutes(start: Start) -> None:
    clock = Clock()
    client = await start(now=clock)
    await client.http.put("/api/status", json={"id": "z", "status": "running", "containers": []})
    clock.seconds += 899
    assert [job["status"] for job in await client.look("z")] == ["running"]
    clock.seconds += 1
    assert await client.look("z") == []
    assert await client.look() == []


@pytest.mark.parametrize(
    ("containers", "more", "error", "params"),
    [
        ([], {}, "No containers specified", {}),
        (["echo", "nope"], {}, "Container not supported", {"container": "nope"}),
        (["internal", "nope"], {}, "Container not supported", {"container": "nope"}),
        (
            ["internal"],
            {"requires_proof": True},
            "First container must be external",
            {"first_container": "internal"},
        ),
        (
            ["prover", "echo"],
            {"requires_proof": True},
            "Container does not generate proof",
            {"container": "echo"},
        ),
        (
            ["echo", "private"],
            {},
            "Container not allowed for address",
            {"address": "127.0.0.1", "container": "private"},
        ),
    ],
)
async def test_the_guardian_refuses_in_its_order(
    start: Start, containers: list[str], more: dict[str, Any], error: str, params: dict[str, str]
) -> None:
    known = make_containers()
    known.append(Container("private", "", run=known[1].run, allowed_ips=["10.0.0.0/8"]))
    client = await start(containers=known)
    answer = await client.post(containers, {}, **more)
    assert answer.status_code == 405
    assert answer.json() == {"error": error, "params": params}
    assert client.node.journal == []


async def test_what_the_guardian_lets_pass(start: Start) -> None:
    known = make_containers()
    known.append(Container("private", "", run=known[1].run, allowed_ips=["10.0.0.0/8"]))
    client = await start(containers=known)
    assert (await client.post(["echo", "prover"], {}, requires_proof=True)).status_code == 200
    assert (await client.post(["echo"], {}, requires_proof=None, unheard_of=1)).status_code == 200
    assert (await client.post(["private"], {}, ip="10.1.2.3")).status_code == 200  # the node's hole


NO_MATCH = 'Internal server error: can not match type "dict" to any type of "None" union: typing.Union['


@pytest.mark.parametrize(
    "body",
    [
        {"containers": ["echo"]},
        {"containers": ["echo"], "data": []},
        {"containers": "echo", "data": {}},
        {"containers": [1], "data": {}},
        {"containers": ["echo"], "data": {}, "requires_proof": 1},
        {"containers": ["echo"], "data": {}, "requires_proof": "yes"},
        {"containers": ["echo"], "data": {}, "type": 0},
        {"containers": ["echo"], "data": {}, "id": 7},
    ],
)
async def test_ill_typed_jobs_get_one_text_that_names_nothing(client: Client, body: Any) -> None:
    for path in ("/api/jobs", "/api/jobs/stream"):
        answer = await client.http.post(path, json=body)
        assert answer.status_code == 500
        assert answer.json()["error"].startswith(NO_MATCH)
    answer = await client.http.post("/api/jobs/batch", json=[{"containers": ["echo"], "data": {}}, body])
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("Could not enqueue job:  can not match")
    assert client.node.journal == []


@pytest.mark.parametrize(
    ("content", "kind", "error"),
    [
        (b"[]", "application/json", "'list' object is not a mapping"),
        (b"null", "application/json", "'NoneType' object is not a mapping"),
        (b'"x"', "application/json", "'str' object is not a mapping"),
        (b"{", "application/json", "400 Bad Request: The browser (or proxy) sent a request "),
        (b"", "application/json", "400 Bad Request: The browser (or proxy) sent a request "),
        (b'{"containers":["echo"],"data":{}}', "text/plain", "'NoneType' object is not a mapping"),
    ],
)
async def test_unreadable_bodies(client: Client, content: bytes, kind: str, error: str) -> None:
    answer = await client.http.post("/api/jobs", content=content, headers={"content-type": kind})
    assert answer.status_code == 500
    assert answer.json()["error"].startswith(f"Internal server error: {error}")


async def test_json_under_other_names(client: Client) -> None:
    body = b'{"containers":["echo"],"data":{}}'
    headers = {"content-type": "application/vnd.x+json"}
    assert (await client.http.post("/api/jobs", content=body, headers=headers)).status_code == 200
    headers = {"content-type": "text/plain"}
    answer = await client.http.post("/api/jobs/batch", content=b"[%b]" % body, headers=headers)
    assert answer.status_code == 200


async def test_batches_keep_the_order_and_mix_refusals_in(client: Client) -> None:
    items = [
        {"containers": ["echo"], "data": {"n": 1}, "id": "a"},
        {"containers": ["nope"], "data": {}},
        {"containers": ["fail"], "data": {}, "id": "b"},
    ]
    answer = await client.http.post("/api/jobs/batch", json=items)
    assert answer.json() == [
        {"id": "a"},
        {"error": "Container not supported", "params": {"container": "nope"}},
        {"id": "b"},
    ]
    assert (await client.finish("a"))["status"] == "success"
    assert (await client.finish("b"))["status"] == "failed"
    assert [entry.job_id for entry in client.node.journal] == ["a", "b"]


async def test_odd_batches(client: Client) -> None:
    assert (await client.http.post("/api/jobs/batch", json=[])).json() == []
    answer = await client.http.post("/api/jobs/batch", json={})
    assert (answer.status_code, answer.json()) == (400, {"error": "Expected a list"})
    answer = await client.http.post("/api/jobs/batch", content=b"[")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("Could not enqueue job:  400 Bad Request")
