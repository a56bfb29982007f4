"""Programs written for inference.sh, at the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from gateway.adapter import Feature
from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.config import ServerSettings
from gateway.lifecycle import Status
from gateway.server.app import App
from gateway.server.callers import Caller, KeyScope
from gateway.server.dialects.inferencesh import make_face, streams
from gateway.server.service import Service
from gateway.testing import FakeAdapter
from gateway.testing.adapter import DEFAULT_FEATURES, FakeConfig
from gateway.testing.backend import Fault

pytestmark = pytest.mark.anyio

STREAMS = FakeConfig(features=DEFAULT_FEATURES | {Feature.STREAM})
STEPS = ((0.0, Status.RUNNING), (0.02, Status.COMPLETED))
MODELS: Mapping[str, Any] = {
    "acme/echo": {"targets": {"plain": {"app": "echo"}}},
    "sentiment": {"targets": {"plain": {"app": "sentiment"}}},
    "acme/echo:loud": {"targets": {"plain": {"app": "loud"}}},
    "acme/fail": {"targets": {"failing": {"app": "fail"}}},
    "acme/slow": {"targets": {"slow": {"app": "slow"}}},
    "acme/refused": {"targets": {"refusing": {"app": "refused"}}},
    "acme/words": {"targets": {"speaking": {"app": "words"}}},
}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    backends = [
        FakeAdapter("plain", steps=STEPS),
        FakeAdapter("failing", steps=STEPS),
        FakeAdapter("refusing", steps=STEPS),
        FakeAdapter("slow", steps=((0.0, Status.RUNNING), (3600.0, Status.COMPLETED))),
        FakeAdapter("speaking", STREAMS, steps=STEPS, pieces=lambda _: ["one ", b"two"]),
    ]
    backends[1].backend.arm(Fault.FAIL_JOB, times=100)
    backends[2].backend.arm(Fault.REJECT, times=100)
    service = Service(AsyncGateway(backends, MODELS), ServerSettings(), SystemClock())
    yield service
    await service.aclose()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(App(service, [make_face()]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost/inferencesh") as client:
        yield client


async def run(client: httpx2.AsyncClient, app: str, **more: Any) -> Any:
    answer = await client.post("/apps/run", json={"app": app, "input": {"text": "hi"}, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def get_ended(client: httpx2.AsyncClient, task_id: str) -> Any:
    for _ in range(3000):
        task = (await client.get(f"/tasks/{task_id}")).json()["data"]
        if task["status"] >= 10:
            return task
        await asyncio.sleep(0.01)
    raise AssertionError("the task did not end")


@pytest.mark.parametrize(
    "app", ["acme/echo", "app/acme/echo", "acme/echo@1a2b", "other/sentiment@latest", "acme/echo:loud"]
)
async def test_an_app_is_the_model_of_its_name(client: httpx2.AsyncClient, app: str) -> None:
    task = await run(client, app)
    assert task["input"] == {"text": "hi"}
    ended = await get_ended(client, task["id"])
    assert (ended["status"], ended["status_text"], ended["output"]) == (10, "completed", {"text": "hi"})
    assert ended["app_id"] == app.removeprefix("app/").partition("@")[0].replace("other/", "")
    assert [event["status"] for event in ended["events"]][-1] == 10


async def test_the_second_version_of_the_api_is_bare(client: httpx2.AsyncClient) -> None:
    task = await run(client, "acme/echo")
    bare = await client.get(f"/tasks/{task['id']}/status", headers={"x-api-version": "2"})
    assert bare.json().keys() == {"id", "status", "updated_at"}
    wrapped = (await client.get(f"/tasks/{task['id']}/status")).json()
    assert wrapped.keys() == {"success", "status", "data", "messages"}


async def test_run_waits_unless_told_not_to(client: httpx2.AsyncClient) -> None:
    body = {"app": "acme/echo", "input": {"n": 1}}
    assert (await client.post("/run", json=body)).json()["data"]["status"] == 10
    assert (await client.post("/run?wait=false", json=body)).json()["data"]["status"] < 10


async def test_a_failed_task_says_why(client: httpx2.AsyncClient) -> None:
    ended = await get_ended(client, (await run(client, "acme/fail"))["id"])
    assert ended["status"] == 11
    assert ended["error"]


async def test_cancel(client: httpx2.AsyncClient) -> None:
    task = await run(client, "acme/slow")
    assert (await client.post(f"/tasks/{task['id']}/cancel")).status_code == 200
    assert (await get_ended(client, task["id"]))["status"] == 12
    again = await client.post(f"/tasks/{task['id']}/cancel", json={"force": True})
    assert again.status_code == 409
    assert again.json()["type"].endswith("/invalid_transition")


async def test_lines_of_a_stream_are_whole_tasks(client: httpx2.AsyncClient) -> None:
    task = await run(client, "acme/words", stream=True)
    lines = await client.get(f"/tasks/{task['id']}/stream", headers={"accept": "application/x-ndjson"})
    told = [json.loads(line) for line in lines.text.splitlines()]
    assert {line["id"] for line in told} == {task["id"]}
    assert told[-1]["status"] == 10
    assert any(str((line["output"] or {}).get("output", "")).startswith("one ") for line in told)
    events = await client.get(f"/tasks/{task['id']}/stream")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text.startswith("event: done\ndata: {")


async def test_a_character_that_comes_in_two_pieces_is_told_whole(
    client: httpx2.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Infernet node cuts its streams anywhere."""
    whole = "für 世界"
    cut = [whole.encode()[place : place + 1] for place in range(len(whole.encode()))]
    monkeypatch.setattr(service.gateway._engine.adapters["speaking"], "pieces", lambda _: cut)
    monkeypatch.setattr(streams, "WHOLE_EVERY_SECONDS", 0.0)
    task = await run(client, "acme/words", stream=True)
    lines = await client.get(f"/tasks/{task['id']}/stream", headers={"accept": "application/x-ndjson"})
    parts = [json.loads(line)["output"] for line in lines.text.splitlines()[:-1]]
    texts = [part["output"] for part in parts if part and "output" in part]
    assert texts[-1] == whole
    assert all(whole.startswith(text) for text in texts)


async def test_a_slow_reader_of_a_stream_hears_of_the_end_last(
    client: httpx2.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Official clients stop at the first ended task, so it must not have a part of the output only."""
    task, looks, get_run = await run(client, "acme/words", stream=True), 0, service.get_run

    async def look_late(caller: Any, run_id: str) -> Any:
        nonlocal looks
        looks += 1
        if looks > 1:  # the first is for the state at the beginning
            await service.gateway.wait(run_id)
        return await get_run(caller, run_id)

    monkeypatch.setattr(service, "get_run", look_late)
    lines = await client.get(f"/tasks/{task['id']}/stream", headers={"accept": "application/x-ndjson"})
    told = [json.loads(line) for line in lines.text.splitlines()]
    assert [line["status"] for line in told if line["status"] >= 10] == [10]
    assert told[-1]["status"] == 10


async def test_a_list_in_pages(client: httpx2.AsyncClient) -> None:
    tasks = [(await run(client, "acme/echo"))["id"] for _ in range(3)]
    slow = (await run(client, "acme/slow"))["id"]
    for task in tasks:
        await get_ended(client, task)
    first = (await client.post("/tasks/list", json={"limit": 3})).json()["data"]
    assert [item["id"] for item in first["items"]] == [slow, tasks[2], tasks[1]]
    assert first["has_next"]
    rest = (await client.post("/tasks/list", json={"limit": 3, "cursor": first["next_cursor"]})).json()[
        "data"
    ]
    assert [item["id"] for item in rest["items"]] == [tasks[0]]
    assert (rest["has_next"], rest["has_previous"]) == (False, True)
    wanted: dict[str, Any] = {"filters": [{"field": "status", "operator": "in", "value": ["completed", 11]}]}
    done = (await client.post("/tasks/list", json=wanted)).json()["data"]
    assert {item["id"] for item in done["items"]} == set(tasks)
    wanted["filters"][0]["value"] = [10, "completed"] * 1000
    assert (await client.post("/tasks/list", json=wanted)).json()["data"]["items"] == done["items"]


async def test_what_no_backend_takes_is_refused_at_once(client: httpx2.AsyncClient) -> None:
    refused = await client.post("/apps/run", json={"app": "acme/echo", "input": {}, "session": "new"})
    assert refused.status_code == 400
    assert "session" in refused.json()["detail"]
    unknown = await client.post("/apps/run", json={"app": "acme/echo", "input": {}, "session": "sess_1"})
    assert unknown.json()["type"].endswith("/SESSION_NOT_FOUND")
    assert (await client.get("/sessions")).json()["data"] == []
    assert (await client.delete("/sessions/sess_1")).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/apps/run", {"app": "acme/nope", "input": {}}, 404, "not_found"),
        ("/apps/run", {"app": "acme/echo:quiet", "input": {}}, 400, "validation_error"),
        ("/apps/run", {"input": {}}, 400, "validation_error"),
        ("/apps/run", [], 400, "validation_error"),
        (
            "/apps/run",
            {"app": "acme/echo", "input": {"$file": {"path": "/etc/passwd"}}},
            400,
            "validation_error",
        ),
        ("/apps/run", {"app": "acme/echo", "webhook": "file:///etc/passwd"}, 400, "validation_error"),
        ("/tasks/list", {"limit": 1000}, 400, "validation_error"),
        ("/tasks/list", {"cursor": "x"}, 400, "validation_error"),
        ("/tasks/list", {"cursor": "2026-01-01T00:00:00Z~\0"}, 400, "validation_error"),
        ("/tasks/list", {"filters": [{"field": "app", "value": "x"}]}, 400, "validation_error"),
        ("/tasks/list", {"filters": [{"field": "status", "value": 99}]}, 400, "validation_error"),
        ("/files", {"files": []}, 400, "validation_error"),
        ("/files", {"files": ["x"]}, 400, "validation_error"),
        ("/tasks/run_none/cancel", {}, 404, "not_found"),
    ],
)
async def test_refusals(client: httpx2.AsyncClient, path: str, body: Any, status: int, code: str) -> None:
    refused = await client.post(path, json=body)
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    problem = refused.json()
    assert problem["type"].rpartition("/")[2] == code
    assert problem["error"]["code"] == code
    assert problem["success"] is False


async def test_a_file_is_uploaded_with_a_token_and_used_by_its_uri(client: httpx2.AsyncClient) -> None:
    asked = {"files": [{"filename": "a.txt", "content_type": "text/plain", "size": 5}]}
    (file,) = (await client.post("/files", json=asked)).json()["data"]
    early = await client.post("/apps/run", json={"app": "acme/echo", "input": file["uri"]})
    assert (early.status_code, "not uploaded" in early.json()["detail"]) == (400, True)
    stolen = await client.put(f"/files/{file['id']}/content?token=guess", content=b"x")
    assert stolen.status_code == 404
    assert (await client.put(file["upload_url"], content=b"hello")).status_code == 200
    assert (await client.get(f"/files/{file['id']}")).json()["data"]["size"] == 5
    body = {
        "app": "acme/echo",
        "input": {"picture": [file["uri"]], "text": "http://elsewhere/files/1/content"},
    }
    task = (await client.post("/run", json=body)).json()["data"]
    assert task["output"]["picture"] == [
        {"$file": {"data": "aGVsbG8=", "filename": "a.txt", "content_type": "text/plain"}}
    ]
    assert task["input"] == {"picture": ["a.txt"], "text": "http://elsewhere/files/1/content"}
    assert (await client.delete(f"/files/{file['id']}")).status_code == 204
    assert (await client.get(f"/files/{file['id']}")).status_code == 404


@pytest.mark.parametrize(("said", "scheme"), [("https", "https"), ("http", "http"), ("x://", "http")])
async def test_a_file_is_uploaded_through_a_proxy_that_ends_tls(
    client: httpx2.AsyncClient, said: str, scheme: str
) -> None:
    client.headers["x-forwarded-proto"] = said
    (file,) = (await client.post("/files", json={"files": [{"filename": "a"}]})).json()["data"]
    assert file["upload_url"].startswith(f"{scheme}://localhost/inferencesh/files/")
    await client.put(file["upload_url"].replace("https:", "http:"), content=b"hello")
    task = (await client.post("/run", json={"app": "acme/echo", "input": file["uri"]})).json()["data"]
    assert task["output"]["$file"]["data"] == "aGVsbG8="


async def test_files_that_are_named_often_do_not_outgrow_a_body(service: Service) -> None:
    service.settings = ServerSettings(max_body=10_000)
    transport = httpx2.ASGITransport(App(service, [make_face()]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost/inferencesh") as client:
        (file,) = (await client.post("/files", json={"files": [{"filename": "a"}]})).json()["data"]
        await client.put(file["upload_url"], content=b"x" * 4000)
        fits = await client.post("/run", json={"app": "acme/echo", "input": [file["uri"]] * 2})
        refused = await client.post("/run", json={"app": "acme/echo", "input": [file["uri"]] * 3})
    assert fits.json()["data"]["status"] == 10
    assert refused.status_code == 413
    assert len(await service.gateway.list_runs()) == 1


async def test_a_webhook_that_can_never_be_sent_is_refused_at_once(
    client: httpx2.AsyncClient, service: Service
) -> None:
    body = {"app": "acme/echo", "input": {}, "webhook": "https://example.com/hook"}
    for secret, url, told in (
        (None, "https://example.com/", "sends no webhooks"),
        ("x", "http://10.0.0.1/", "public"),
    ):
        service.settings = ServerSettings(webhook_secret=None if secret is None else SecretStr(secret))
        refused = await client.post("/apps/run", json={**body, "webhook": url})
        assert refused.status_code == 400
        assert told in refused.json()["detail"]
    assert await service.gateway.list_runs() == []


async def test_files_and_tasks_of_another_key_are_not_there(
    client: httpx2.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = frozenset({KeyScope.READ, KeyScope.RUN})
    caller = Caller("one", both)
    monkeypatch.setattr(service.keys, "find_caller", lambda _: caller)
    (file,) = (await client.post("/files", json={"files": [{"filename": "a"}]})).json()["data"]
    await client.put(file["upload_url"], content=b"x")
    task = await run(client, "acme/echo")
    caller = Caller("two", both)
    assert (await client.get(f"/files/{file['id']}")).status_code == 404
    assert (await client.get(f"/tasks/{task['id']}")).status_code == 404
    assert (
        await client.post("/apps/run", json={"app": "acme/echo", "input": file["uri"]})
    ).status_code == 404
    assert (await client.post("/tasks/list", json={})).json()["data"]["items"] == []
