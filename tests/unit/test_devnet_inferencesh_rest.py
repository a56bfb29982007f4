from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.devnet.inferencesh import InferenceshApi

pytestmark = pytest.mark.anyio

HEADERS = {"Authorization": "Bearer inf_devnet"}
SESSION_APP = "infsh/session-test"


@pytest.fixture
async def api() -> AsyncIterator[InferenceshApi]:
    api = InferenceshApi(step_seconds=0)
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def client(api: InferenceshApi) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=api.url, headers=HEADERS, timeout=60) as client:
        yield client


def read_code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["type"].rsplit("/", 1)[-1])


async def call(
    client: httpx2.AsyncClient, session: str, function: str, input: Any = None, **body: Any
) -> Any:
    body = {"app": SESSION_APP, "function": function, "input": input, "session": session, **body}
    answer = await client.post("/run", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_a_session_remembers_and_a_call_without_one_does_not(client: httpx2.AsyncClient) -> None:
    session = (await call(client, "new", "set_value", {"key": "a", "value": 1}))["session_id"]
    assert (await call(client, session, "increment", {"key": "a", "by": 4}))["output"] == {
        "key": "a",
        "value": 5,
    }
    assert (await call(client, session, "get_value", {"key": "a"}))["output"]["value"] == 5
    assert (await call(client, session, "get_all"))["output"] == {"values": {"a": 5}}
    alone = await client.post("/run", json={"app": SESSION_APP, "function": "get_all"})
    assert alone.json()["data"]["output"] == {"values": {}}
    other = (await call(client, "new", "get_all"))["session_id"]
    assert other != session
    listed = [item["id"] for item in (await client.get("/sessions")).json()["data"]]
    assert listed == [session, other]
    shown = (await client.get(f"/sessions/{session}")).json()["data"]
    assert (shown["status"], shown["call_count"], shown["idle_timeout"]) == ("active", 4, 60)


async def test_idle_time_slides_with_calls_and_keepalives_and_then_runs_out(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    session = (await call(client, "new", "get_all", session_timeout=100))["session_id"]
    for _ in range(3):
        api.clock.skip(90)
        await call(client, session, "get_all")
        api.clock.skip(90)
        assert (await client.post(f"/sessions/{session}/keepalive")).json()["data"]["status"] == "active"
    api.clock.skip(101)
    expired = await client.post("/run", json={"app": SESSION_APP, "session": session})
    assert read_code(expired) == (410, "SESSION_EXPIRED")
    assert read_code(await client.post(f"/sessions/{session}/keepalive")) == (410, "SESSION_EXPIRED")
    assert (await client.get(f"/sessions/{session}")).json()["data"]["status"] == "expired"
    assert (await client.get("/sessions")).json()["data"] == []


async def test_a_session_does_not_expire_under_a_running_call(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    body = {"app": "demo/sleep", "input": {"seconds": 600}, "session": "new", "session_timeout": 1}
    task = (await client.post("/apps/run", json=body)).json()["data"]
    while (await client.get(f"/tasks/{task['id']}/status")).json()["data"]["status"] != 7:
        pass
    api.clock.skip(300)
    assert len((await client.get("/sessions")).json()["data"]) == 1
    api.clock.skip(301)
    await client.get(f"/tasks/{task['id']}/stream")
    api.clock.skip(2)
    assert (await client.get("/sessions")).json()["data"] == []


async def test_session_errors(client: httpx2.AsyncClient) -> None:
    session = (await call(client, "new", "get_all", workers=["w1"]))["session_id"]

    async def run(**body: Any) -> tuple[int, str]:
        return read_code(await client.post("/apps/run", json={"app": SESSION_APP, **body}))

    assert await run(session="sess_none") == (404, "SESSION_NOT_FOUND")
    assert await run(session=session, app="demo/echo") == (409, "APP_MISMATCH")
    assert await run(session=session, app=f"{SESSION_APP}@3c4d") == (409, "VERSION_MISMATCH")
    assert await run(session="new", workers=["w1"]) == (409, "WORKER_LEASED")
    assert await run(session=session, session_timeout=10) == (400, "validation_error")
    for timeout in (0, 3601, 1.5, True):
        assert await run(session="new", session_timeout=timeout) == (400, "validation_error")
    assert (await client.delete(f"/sessions/{session}")).status_code == 204
    assert await run(session=session) == (410, "SESSION_ENDED")
    assert read_code(await client.delete("/sessions/none")) == (404, "SESSION_NOT_FOUND")


async def upload(client: httpx2.AsyncClient, content: bytes, **announced: Any) -> Any:
    announced = {
        "uri": "",
        "filename": "a b.txt",
        "content_type": "text/plain",
        "size": len(content),
        **announced,
    }
    answer = await client.post("/files", json={"files": [announced], "category": "input"})
    [file] = answer.json()["data"]
    async with httpx2.AsyncClient() as storage:
        put = await storage.put(file["upload_url"], content=content, headers={"Content-Type": "text/plain"})
        assert put.status_code == 200, put.text
    return file


async def test_a_file_goes_up_and_into_a_run_and_comes_down(client: httpx2.AsyncClient) -> None:
    content = b"x" * 2_000_000
    file = await upload(client, content)
    answer = await client.post("/run", json={"app": "demo/file-length", "input": {"file": file["uri"]}})
    task = answer.json()["data"]
    assert task["output"] == {"length": len(content)}
    async with httpx2.AsyncClient() as anybody:
        assert (await anybody.get(file["uri"])).content == content
    shown = (await client.get(f"/files/{file['id']}")).json()["data"]
    assert (shown["filename"], shown["size"], "upload_url" in shown) == ("a b.txt", len(content), False)
    [listed] = (await client.get(f"/tasks/{task['id']}/files?role=input")).json()["data"]
    assert (listed["id"], listed["role"], listed["size"]) == (file["id"], "input", len(content))
    assert (await client.get(f"/tasks/{task['id']}/files?role=output")).json()["data"] == []
    deleted = (await client.delete(f"/tasks/{task['id']}/files")).json()["data"]
    assert deleted == {"deleted": [file["id"]], "skipped": []}
    assert read_code(await client.get(f"/files/{file['id']}")) == (404, "not_found")
    again = await client.post("/run", json={"app": "demo/file-length", "input": {"file": file["uri"]}})
    assert "failed to download" in again.json()["data"]["error"]


async def test_deleting_a_task_can_take_its_files_along(client: httpx2.AsyncClient) -> None:
    for query, status in (("", 200), ("?files=true", 404)):
        file = await upload(client, b"abc")
        task = (await client.post("/run", json={"app": "demo/echo", "input": {"file": file["uri"]}})).json()[
            "data"
        ]
        assert (await client.delete(f"/tasks/{task['id']}{query}")).status_code == 204
        assert (await client.get(f"/files/{file['id']}")).status_code == status


async def test_the_signed_url_wants_its_own_terms_and_never_the_key(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    announced = {"filename": "a.txt", "content_type": "text/plain", "size": 3}
    [file] = (await client.post("/files", json={"files": [announced]})).json()["data"]
    url, text = file["upload_url"], {"Content-Type": "text/plain"}

    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"

    async with httpx2.AsyncClient() as storage:
        assert (await storage.put(url, content=b"abc", headers={**text, **HEADERS})).status_code == 400
        assert api.files.leaked_keys_on == [file["id"]]
        assert (await storage.put(url, content=b"abc")).status_code == 403
        assert (
            await storage.put(url.replace("Signature=", "Signature=0"), content=b"", headers=text)
        ).status_code == 403
        assert (await storage.put(url, content=chunks(), headers=text)).status_code == 411
        assert (await storage.get(file["uri"])).status_code == 404
        assert (await storage.put(url, content=b"abc", headers=text)).status_code == 200
        assert (await storage.get(file["uri"])).headers["Content-Type"] == "text/plain"
    assert api.files.leaked_keys_on == [file["id"]]
    for files in (None, [], ["a"], [{"size": -1}]):
        assert read_code(await client.post("/files", json={"files": files})) == (400, "validation_error")
    assert len((await client.post("/files/list", json={})).json()["data"]["items"]) == 1
    assert (await client.delete(f"/files/{file['id']}")).status_code == 204


async def test_estimates_of_all_three_confidences(client: httpx2.AsyncClient) -> None:
    async def estimate(name: str, input: Any) -> Any:
        app = (await client.get(f"/apps/demo/{name}")).json()["data"]
        answer = await client.post(
            f"/store/apps/{app['id']}/estimate", json={"input": input, "function": "run"}
        )
        return answer.json().get("data") or read_code(answer)

    exact = await estimate("sentiment", {"text": "good"})
    assert (exact["confidence"], exact["microcents"]) == ("exact", 200_000)
    ranged = await estimate("words", {"text": "good"})
    assert ranged["confidence"] == "range"
    assert ranged["min"] < ranged["max"]
    unknown = await estimate("quiet", {"seconds": 1})
    assert (unknown["confidence"], unknown["depends_on"]) == ("unknown", ["duration_ms"])
    assert "microcents" not in unknown
    assert await estimate("sentiment", {}) == (400, "validation_error")
    assert read_code(await client.post("/store/apps/none/estimate", json={})) == (404, "not_found")


async def test_apps_are_described(client: httpx2.AsyncClient) -> None:
    by_name = (await client.get(f"/apps/{SESSION_APP}")).json()["data"]
    assert (await client.get(f"/apps/{by_name['id']}")).json()["data"] == by_name
    assert set(by_name["version"]["functions"]) == {"set_value", "get_value", "get_all", "increment"}
    assert by_name["version"]["functions"]["get_value"]["input_schema"]["required"] == ["key"]
    versions = (await client.post(f"/apps/{by_name['id']}/versions/list", json={})).json()["data"]["items"]
    assert {version["short_id"] for version in versions} == {"3c4d", "5e6f"}
    shown = await client.get(f"/apps/{by_name['id']}/versions/{by_name['version_id']}")
    assert shown.json()["data"] == by_name["version"]
    names = {"filters": [{"field": "namespace", "operator": "eq", "value": "demo"}], "fields": ["name"]}
    listed = (await client.post("/apps/list", json=names)).json()["data"]["items"]
    assert {item["name"] for item in listed} == {
        "sentiment", "echo", "sleep", "fail", "rejected", "words", "needs-secret", "quiet", "file-length",
    }  # fmt: skip
    file = (await client.get("/apps/demo/file-length")).json()["data"]["version"]["input_schema"]
    assert file["properties"]["file"] == {"type": "string", "format": "file"}


ENVELOPES: list[tuple[str, dict[str, str], set[str]]] = [
    ("v3", {}, {"data", "messages"}),
    ("v1", {}, {"success", "status", "data"}),
    ("superset", {}, {"success", "status", "data", "messages"}),
    ("v2", {}, {"balance"}),
    ("v3", {"X-API-Version": "2"}, {"balance"}),
    ("v1", {"X-API-Version": "2"}, {"balance"}),
]


@pytest.mark.parametrize(("envelope", "headers", "keys"), ENVELOPES)
async def test_envelopes(envelope: str, headers: dict[str, str], keys: set[str]) -> None:
    api = InferenceshApi(envelope=envelope)
    await api.start()
    async with httpx2.AsyncClient(base_url=api.url, headers={**HEADERS, **headers}) as client:
        balance = (await client.get("/billing/balance")).json()
        missing = await client.get("/tasks/none")
        requirements = (await client.post("/apps/run", json={"app": "demo/needs-secret"})).json()
        made = (await client.post("/apps/run", json={"app": "demo/echo"})).json()
        bare = (
            await client.get(
                f"/tasks/{made.get('data', made)['id']}/stream", headers={"Accept": "application/jsonl"}
            )
        ).text
    await api.stop()
    assert set(balance) == keys
    assert balance.get("data", balance)["balance"] == 10_000_000_000
    assert missing.status_code == 404
    if envelope == "v1" and not headers:
        want = {
            "success": False,
            "status": 404,
            "error": {"code": "not_found", "message": "task none not found"},
        }
        assert missing.json() == want
    else:
        assert missing.headers["Content-Type"].startswith("application/problem+json")
        assert missing.json()["type"] == "https://api.inference.sh/errors/not_found"
    assert set(requirements) == {"satisfied", "errors"}
    assert bare.startswith('{"id"')  # streams never carry the envelope


async def test_unknown_routes_and_methods_are_problems(client: httpx2.AsyncClient) -> None:
    assert read_code(await client.get("/v1/apps/run/now")) == (404, "not_found")
    assert read_code(await client.put("/apps/run")) == (405, "method_not_allowed")
    with pytest.raises(ValueError, match="v9"):
        InferenceshApi(envelope="v9")
