from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from gateway.devnet.inferencesh import InferenceshApi

pytestmark = pytest.mark.anyio

SENTENCE = "VADER is smart, handsome, and funny."
STATUSES_ON_THE_WAY = [
    "received",
    "queued",
    "dispatched",
    "preparing",
    "serving",
    "setting_up",
    "running",
    "uploading",
]


@pytest.fixture
async def api() -> AsyncIterator[InferenceshApi]:
    api = InferenceshApi(step_seconds=0)
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def client(api: InferenceshApi) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": "Bearer inf_devnet"}
    async with httpx2.AsyncClient(base_url=api.url, headers=headers, timeout=60) as client:
        yield client


async def run(client: httpx2.AsyncClient, app: str, input: Any = None, **body: Any) -> Any:
    """Run and wait."""
    answer = await client.post("/run", json={"app": app, "input": input, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def submit(client: httpx2.AsyncClient, app: str, input: Any = None, **body: Any) -> Any:
    answer = await client.post("/apps/run", json={"app": app, "input": input, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def get(client: httpx2.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def read_code(answer: httpx2.Response) -> str:
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    body = answer.json()
    assert body["status"] == answer.status_code
    return str(body["type"].rsplit("/", 1)[-1])


async def test_sentiment_gives_the_published_scores_and_passes_every_status(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    task = await run(client, "demo/sentiment@1a2b", {"text": SENTENCE})
    assert task["output"] == {"label": "positive", "neg": 0.0, "neu": 0.254, "pos": 0.746, "compound": 0.8316}
    assert (task["status"], task["status_text"]) == (10, "completed")
    assert [event["status"] for event in task["events"]] == [1, 2, 3, 4, 5, 6, 7, 9, 10]
    assert task["usage_events"][0]["reference_id"] == task["id"]
    assert [(line.job_id, line.input) for line in api.journal] == [(task["id"], {"text": SENTENCE})]
    timings = await get(client, f"/tasks/{task['id']}/timings")
    assert [event["status"] for event in timings["events"]] == STATUSES_ON_THE_WAY
    assert await get(client, f"/tasks/{task['id']}") == task


async def test_run_answers_at_once_with_the_slim_result(client: httpx2.AsyncClient) -> None:
    result = await submit(client, "demo/sleep", {"seconds": 60})
    assert (result["status"], result["input"], result["output"]) == (1, {"seconds": 60}, None)
    assert "app_id" not in result
    not_waited = await client.post("/run?wait=false", json={"app": "demo/sleep", "input": {"seconds": 60}})
    assert not_waited.json()["data"]["status"] == 1


async def test_options_are_echoed(client: httpx2.AsyncClient) -> None:
    options = {
        "infra": "private",
        "workers": ["w1"],
        "setup": {"model": "small"},
        "metadata": {"action": {"key": "k", "on": "o", "params": {}}},
        "function": "run",
        "webhook": "http://203.0.113.1/never",
    }
    task = await run(client, "app/demo/echo@latest:run", {"a": [1]}, **options)
    assert {name: task[name] for name in options} == options
    assert task["output"] == {"a": [1]}


async def test_apps_are_found_by_id_and_version_id(client: httpx2.AsyncClient) -> None:
    app = await get(client, "/apps/infsh/session-test@3c4d:increment")
    assert app["resolved_function"] == "increment"
    by_version = {"version_id": app["version_id"], "function": "increment"}
    answer = await client.post("/apps/run", json=by_version)
    task = await get(client, f"/tasks/{answer.json()['data']['id']}")
    assert (task["app_version_id"], task["function"]) == (app["version_id"], "increment")
    answer = await client.post("/apps/run", json={"app_id": app["id"]})
    task = await get(client, f"/tasks/{answer.json()['data']['id']}")
    assert task["app_version_id"] != app["version_id"]  # the newest, not the one that was asked for before


async def test_a_failing_app_keeps_its_text_and_its_log(client: httpx2.AsyncClient) -> None:
    task = await run(client, "demo/fail", {"message": "no luck"})
    assert (task["status"], task["error"], task["output"]) == (11, "no luck", None)
    logs = await get(client, f"/tasks/{task['id']}/logs")
    assert base64.b64decode(logs["logs"][-1]["content"]) == b"about to fail"


async def test_a_run_refused_at_admission_is_written_already_ended(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    result = await submit(client, "demo/rejected")
    assert (result["status"], result["status_text"]) == (13, "rejected")
    task = await get(client, f"/tasks/{result['id']}")
    assert [event["status"] for event in task["events"]] == [13]
    assert "payment method" in task["error"]
    assert api.journal == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"app": "demo/none"}, 404, "not_found"),
        ({"app": "demo/echo@9z9z"}, 404, "not_found"),
        ({"app": "nonsense"}, 400, "validation_error"),
        ({"app": ["demo/echo"]}, 400, "validation_error"),
        ({}, 400, "validation_error"),
        ({"app": "demo/echo", "function": "walk"}, 400, "validation_error"),
        ({"app": "demo/echo", "infra": "moon"}, 400, "validation_error"),
        ({"app": "demo/echo", "workers": "w"}, 400, "validation_error"),
        ({"app": "demo/echo", "webhook": "ftp://127.0.0.1/"}, 400, "validation_error"),
        ({"app": "demo/echo", "webhook": "http://["}, 400, "validation_error"),
        ({"app": "demo/echo", "run_at": "soon"}, 400, "validation_error"),
        ({"app": "demo/sentiment", "input": {}}, 400, "validation_error"),
        ({"app": "demo/sentiment", "input": {"text": 7}}, 400, "validation_error"),
        ({"app": "demo/sentiment", "input": SENTENCE}, 400, "validation_error"),
        ({"app": "demo/sleep", "input": {"seconds": True}}, 400, "validation_error"),
        ([], 400, "invalid_request"),
    ],
)
async def test_bad_runs_are_refused_and_nothing_is_made(
    api: InferenceshApi, client: httpx2.AsyncClient, body: Any, status: int, code: str
) -> None:
    answer = await client.post("/apps/run", json=body)
    assert (answer.status_code, read_code(answer)) == (status, code)
    assert api.journal == []
    assert (await client.post("/tasks/list", json={})).json()["data"]["items"] == []


async def test_a_body_that_is_not_json_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/apps/run", content=b"{")
    assert (answer.status_code, read_code(answer)) == (400, "invalid_request")


async def test_missing_requirements_are_a_bare_412_until_the_secret_is_there(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    answer = await client.post("/apps/run", json={"app": "demo/needs-secret", "input": None})
    body = answer.json()
    assert (answer.status_code, body["satisfied"], set(body)) == (412, False, {"satisfied", "errors"})
    assert (body["errors"][0]["type"], body["errors"][0]["key"]) == ("secret", "DEMO_TOKEN")
    assert body["errors"][0]["action"]["type"] == "add_secret"
    api.account.secrets.add("DEMO_TOKEN")
    assert (await run(client, "demo/needs-secret"))["output"] == {"ok": True}


async def test_runs_are_paid_for_until_nothing_is_left(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    api.account.balance_microcents = 300_000
    await run(client, "demo/sentiment", {"text": "good"})
    assert await get(client, "/billing/balance") == {"balance": 100_000}
    answer = await client.post("/apps/run", json={"app": "demo/sentiment", "input": {"text": "good"}})
    assert (answer.status_code, read_code(answer)) == (402, "payment_required")
    assert len(api.journal) == 1


async def test_apps_under_maintenance_retired_and_deprecated(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    api.catalogue["demo/echo"].status = "maintenance"
    answer = await client.post("/apps/run", json={"app": "demo/echo"})
    assert (answer.status_code, read_code(answer), answer.headers["Retry-After"]) == (
        503,
        "app_maintenance",
        "30",
    )
    api.catalogue["demo/echo"].status = "retired"
    answer = await client.post("/apps/run", json={"app": "demo/echo"})
    assert (answer.status_code, read_code(answer)) == (410, "app_retired")
    api.catalogue["demo/echo"].status = "deprecated"
    answer = await client.post("/apps/run", json={"app": "demo/echo"})
    assert [message["level"] for message in answer.json()["messages"]] == ["warning"]


async def test_keys_and_scopes(api: InferenceshApi, client: httpx2.AsyncClient) -> None:
    for header in ({}, {"Authorization": "Bearer inf_wrong"}, {"Authorization": "Basic inf_devnet"}):
        async with httpx2.AsyncClient(base_url=api.url, headers=header) as stranger:
            answer = await stranger.get("/sessions")
            assert (answer.status_code, read_code(answer)) == (401, "unauthorized")
    api.account.add_key("inf_reader", ["apps:read"])
    task = await run(client, "demo/echo")
    reader = {"Authorization": "Bearer inf_reader"}
    assert (await client.get(f"/tasks/{task['id']}/stream", headers=reader)).status_code == 200
    assert (await client.post("/tasks/list", headers=reader, json={})).status_code == 200
    for method, path, scope in [
        ("POST", "/apps/run", "apps:execute"),
        ("POST", f"/tasks/{task['id']}/cancel", "apps:execute"),
        ("DELETE", f"/tasks/{task['id']}", "apps:execute"),
        ("POST", "/sessions/x/keepalive", "apps:execute"),
        ("POST", "/files", "files:write"),
        ("GET", "/files/x", "files:read"),
        ("GET", "/billing/balance", "billing:read"),
    ]:
        answer = await client.request(method, path, headers=reader)
        assert (answer.status_code, read_code(answer)) == (403, "insufficient_scope")
        assert answer.json()["meta"] == {"required_scope": scope}


async def test_cancel_ends_a_running_task_once(client: httpx2.AsyncClient) -> None:
    task = await submit(client, "demo/sleep", {"seconds": 600})
    assert (await client.post(f"/tasks/{task['id']}/cancel")).status_code == 204
    async with client.stream("GET", f"/tasks/{task['id']}/stream") as stream:
        await stream.aread()
    ended = await get(client, f"/tasks/{task['id']}")
    assert [event["status"] for event in ended["events"]][-2:] == [8, 12]
    again = await client.post(f"/tasks/{task['id']}/cancel", json={"force": True})
    assert (again.status_code, read_code(again)) == (409, "invalid_transition")
    assert (await client.post("/tasks/none/cancel")).status_code == 404


async def test_a_stubborn_task_is_cancelling_until_its_time_is_up_or_force_is_used(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    for body, skip_seconds in (({"timeout": 20}, 21), ({"force": True}, 0)):
        task = await submit(client, "demo/sleep", {"seconds": 600, "stubborn": True})
        while (await get(client, f"/tasks/{task['id']}/status"))["status"] != 7:
            pass
        await client.post(f"/tasks/{task['id']}/cancel", json={"timeout": 20})
        assert (await get(client, f"/tasks/{task['id']}/status"))["status"] == 8
        await client.post(f"/tasks/{task['id']}/cancel", json=body)
        api.clock.skip(skip_seconds)
        await client.get(f"/tasks/{task['id']}/stream")
        assert (await get(client, f"/tasks/{task['id']}/status"))["status"] == 12


async def test_a_scheduled_run_waits_for_its_time(api: InferenceshApi, client: httpx2.AsyncClient) -> None:
    run_at = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
    task = await submit(client, "demo/echo", {"n": 1}, run_at=run_at)
    assert (await get(client, f"/tasks/{task['id']}"))["status"] == 1
    assert task["run_at"].endswith("Z")
    api.clock.skip(3 * 3600 + 1)
    await client.get(f"/tasks/{task['id']}/stream")
    assert (await get(client, f"/tasks/{task['id']}"))["output"] == {"n": 1}


async def test_beyond_the_concurrency_limit_tasks_queue(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    api.account.max_concurrency = 1
    first = await submit(client, "demo/sleep", {"seconds": 600})
    while (await get(client, f"/tasks/{first['id']}/status"))["status"] != 7:
        pass
    second = await submit(client, "demo/echo")
    for _ in range(5):
        waiting = await get(client, f"/tasks/{second['id']}/status")
    assert waiting["status"] == 2
    assert (await get(client, "/entitlements/usage"))[0]["current"] == 1
    api.clock.skip(601)
    await client.get(f"/tasks/{second['id']}/stream")
    assert (await get(client, f"/tasks/{second['id']}/status"))["status"] == 10


async def test_delete_wants_an_ended_task(client: httpx2.AsyncClient) -> None:
    running = await submit(client, "demo/sleep", {"seconds": 600})
    answer = await client.delete(f"/tasks/{running['id']}")
    assert (answer.status_code, read_code(answer)) == (409, "invalid_transition")
    done = await run(client, "demo/echo")
    assert (await client.delete(f"/tasks/{done['id']}")).status_code == 204
    assert (await client.get(f"/tasks/{done['id']}")).status_code == 404


async def test_the_list_finds_a_task_by_what_is_known_of_it(client: httpx2.AsyncClient) -> None:
    tasks = [await run(client, "demo/echo", {"n": n}) for n in range(5)]
    failed = await run(client, "demo/fail")
    found = await client.post(
        "/tasks/list", json={"filters": [{"field": "status", "operator": "eq", "value": 11}]}
    )
    assert [task["id"] for task in found.json()["data"]["items"]] == [failed["id"]]
    by_name = {"filters": [{"field": "status", "operator": "in", "value": ["failed", "rejected"]}]}
    assert (await client.post("/tasks/list", json=by_name)).json()["data"]["items"][0]["id"] == failed["id"]
    since = {
        "filters": [{"field": "created_at", "operator": "gt", "value": tasks[2]["created_at"]}],
        "limit": 2,
    }
    page = (await client.post("/tasks/list", json=since)).json()["data"]
    assert [task["id"] for task in page["items"]] == [failed["id"], tasks[4]["id"]]
    page = (await client.post("/tasks/list", json={**since, "cursor": page["next_cursor"]})).json()["data"]
    assert ([task["input"] for task in page["items"]], page["has_next"]) == ([{"n": 3}], False)


@pytest.mark.parametrize("statuses", ["numbers", "names"])
async def test_statuses_can_be_names(api: InferenceshApi, client: httpx2.AsyncClient, statuses: Any) -> None:
    api.quirks.statuses = statuses
    task = await run(client, "demo/echo")
    assert task["status"] == (10 if statuses == "numbers" else "completed")
    found = {"filters": [{"field": "status", "value": "completed"}]}
    assert len((await client.post("/tasks/list", json=found)).json()["data"]["items"]) == 1
