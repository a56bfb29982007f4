"""The Infernet stand-in on the wire: status, resources, odd requests, limits, versions."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from infernet_node_setup import Client, Clock, Start, client, start

from gateway.devnet.infernet import InfernetNode

__all__ = ["client", "start"]  # fixtures

pytestmark = pytest.mark.anyio


async def test_status_can_be_recorded_without_a_result(client: Client) -> None:
    async def put(status: Any, **more: Any) -> httpx2.Response:
        body = {"id": "x", "status": status, "containers": ["unknown"], **more}
        return await client.http.put("/api/status", json=body)

    answer = await put("success")
    assert (answer.status_code, answer.content) == (200, b"null\n")
    assert await client.look("x") == [{"id": "x", "result": None, "status": "success"}]
    await put("running")
    assert [job["status"] for job in await client.look("x")] == ["success", "running"]
    await put("failed")
    assert await client.look("x") == [{"id": "x", "result": None, "status": "failed"}]
    answer = await put("done")
    assert (answer.status_code, answer.json()) == (400, {"error": "Status is invalid"})
    for bad in (b"", b"[]", b'{"id":"x"}', b'{"id":1,"status":"running","containers":[]}'):
        answer = await client.http.put("/api/status", content=bad)
        assert (answer.status_code, answer.json()) == (500, {"error": "Could not store job status"})


@pytest.mark.parametrize(("version", "status"), [("1.4.0", 403), ("1.0.0", 403), ("0.2.0", 200)])
async def test_status_is_for_the_same_machine_only(start: Start, version: str, status: int) -> None:
    client = await start(version=version, address="127.0.0.2")
    answer = await client.http.put("/api/status", json={"id": "x", "status": "success", "containers": []})
    assert answer.status_code == status


async def test_resources_and_models(client: Client) -> None:
    assert list((await client.http.get("/resources")).json()) == ["sentiment"]
    assert (await client.http.get("/resources?model_id=")).json().keys() == {"sentiment"}

    async def supports(model_id: str) -> Any:
        return (await client.http.get("/resources", params={"model_id": model_id})).json()["sentiment"]

    assert await supports("vader") == {"supported": True}
    assert await supports("bert") == {"supported": False}
    assert await supports("vader&b=1") == {"supported": True}  # pasted unencoded by the node


@pytest.mark.parametrize("path", ["/", "/nope", "/health/", "/api/jobs/", "/api/chain/enabled"])
async def test_unknown_paths_are_html(client: Client, path: str) -> None:
    answer = await client.http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.reason_phrase == ""


async def test_methods(client: Client) -> None:
    answer = await client.http.put("/api/jobs", json={})
    assert (answer.status_code, answer.headers["content-type"]) == (405, "text/html; charset=utf-8")
    assert answer.headers["allow"] == "POST, GET, HEAD, OPTIONS"
    answer = await client.http.head("/health")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "21")
    answer = await client.http.options("/info")
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await client.http.get(f"{client.node.url}//info")).status_code == 200


async def test_a_long_head_is_refused_with_431(client: Client) -> None:
    ids = "&".join(["id=" + "a" * 36] * 350)
    assert (await client.http.get(f"/api/jobs?{ids}")).status_code == 200
    ids = "&".join(["id=" + "a" * 36] * 450)
    answer = await client.http.get(f"/api/jobs?{ids}")
    assert (answer.status_code, answer.content) == (431, b"")
    answer = await client.http.get("/health", headers={"x-long": "a" * 17_000})
    assert answer.status_code == 431


async def test_bodies_up_to_sixteen_mebibytes(client: Client) -> None:
    empty = len(b'{"containers":["echo"],"data":{"a":""}}')

    async def post(size: int) -> httpx2.Response:
        body = b'{"containers":["echo"],"data":{"a":"%b"}}' % (b"x" * (size - empty))
        return await client.http.post("/api/jobs", content=body, headers={"content-type": "application/json"})

    assert (await post(16 * 2**20)).status_code == 200
    try:
        answer = await post(16 * 2**20 + 1)
    except (httpx2.WriteError, httpx2.ReadError):
        return  # the node closes while the client is still sending
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("Internal server error: 413 Request Entity Too Large")


async def test_the_rate_limit_is_per_endpoint_and_address(start: Start) -> None:
    clock = Clock()
    client = await start(rate_limit=(3, 60.0), now=clock)
    remaining = [(await client.http.get("/health")).headers["ratelimit-remaining"] for _ in range(3)]
    assert remaining == ["2", "1", "0"]
    answer = await client.http.get("/health")
    assert (answer.status_code, answer.headers["content-type"]) == (429, "text/html; charset=utf-8")
    assert answer.headers.get_list("retry-after") == ["20", "20"]
    assert answer.headers["ratelimit-limit"] == "3"
    assert answer.headers["ratelimit-reset"] == "60"
    assert (await client.http.get("/info")).status_code == 200
    assert (await client.http.get("/health", headers={"X-Forwarded-For": "10.0.0.1, x"})).status_code == 200
    clock.seconds += 20
    assert (await client.http.get("/health")).status_code == 200
    assert (await client.http.get("/health")).status_code == 429


async def test_the_default_limit_says_retry_after_zero_once(start: Start) -> None:
    clock = Clock()
    client = await start(rate_limit=(60, 60.0), now=clock)
    for _ in range(60):
        assert (await client.post("ill-typed", {})).status_code == 500  # costs as well
    clock.seconds += 0.001  # no two requests come at the very same time
    answer = await client.post(["echo"], {})
    assert answer.status_code == 429
    assert answer.headers.get_list("retry-after") == ["0"]
    assert (await client.http.get("/api/jobs")).status_code == 200  # a bucket of its own
    assert "ratelimit-limit" not in (await client.http.put("/api/status", json={})).headers
    await client.node.restart()
    assert (await client.post(["echo"], {})).status_code == 200


async def test_0_2_0(start: Start) -> None:
    client = await start(version="0.2.0", rate_limit=(1, 60.0))
    assert list((await client.http.get("/info")).json()) == ["containers", "pending"]
    assert (await client.http.get("/api/chain/enabled")).json() == {"enabled": False}
    assert (await client.http.get("/api/chain/address")).json() == {"address": ""}
    assert (await client.http.get("/resources")).status_code == 404
    assert (await client.http.post("/api/jobs/stream", json={})).status_code == 404
    assert "ratelimit-limit" not in (await client.http.get("/info")).headers
    assert (await client.run(["echo"], {}, requires_proof=True, id="own"))["id"] == "own"
    answer = await client.post("echo", {})
    assert (answer.status_code, answer.json()) == (400, {"error": "Could not parse message"})
    answer = await client.http.post("/api/jobs", content=b"{")
    assert (answer.status_code, answer.json()) == (500, {"error": "Could not enqueue job"})
    batch = [{"containers": ["echo"]}, {"containers": ["echo"], "data": {}, "id": "second"}]
    assert (await client.http.post("/api/jobs/batch", json=batch)).json() == [{"id": "second"}]


@pytest.mark.parametrize(("version", "status"), [("1.4.0", 200), ("1.3.1", 404), ("1.0.0", 404)])
async def test_versions_from_1_0(start: Start, version: str, status: int) -> None:
    client = await start(version=version)
    info = (await client.http.get("/info")).json()
    assert (info["version"], info["chain"]["enabled"]) == (version, False)
    assert (await client.http.get("/resources")).status_code == status


def test_unknown_versions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.4\.0, 1\.3\.1"):
        InfernetNode(version="2.0.0")
