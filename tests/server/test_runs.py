from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import httpx2
import pytest

from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.config import ServerSettings, parse_duration
from gateway.errors import StoreError
from gateway.lifecycle import Status
from gateway.server import runs
from gateway.server.app import App
from gateway.server.service import Service
from gateway.testing import FakeAdapter, FakeClock

pytestmark = pytest.mark.anyio
ECHO = {"model": "echo", "input": {"text": "hello"}}


async def test_a_task_is_taken_in_and_its_run_found_where_the_answer_says(client: httpx2.AsyncClient) -> None:
    taken = await client.post("/v1/runs", json=ECHO)
    assert taken.status_code == 202
    assert taken.json()["status"] == "RECEIVED"
    found = await client.get(taken.headers["location"], params={"wait": 30})
    assert found.status_code == 200
    run = found.json()
    assert (run["status"], run["phase"], run["output"]) == ("COMPLETED", "success", {"text": "hello"})
    assert run["attempts"][0]["status"] == "succeeded"
    assert "envelope" not in run["attempts"][0]
    assert [step["status"] for step in run["passed"]][-1] == "COMPLETED"


async def test_who_waits_gets_the_run_when_it_has_ended(client: httpx2.AsyncClient) -> None:
    done = await client.post("/v1/runs", params={"wait": 30}, json=ECHO)
    assert (done.status_code, done.json()["output"]) == (200, {"text": "hello"})


async def test_a_file_of_the_server_is_refused(client: httpx2.AsyncClient) -> None:
    task: dict[str, object] = {"model": "echo", "input": [{"picture": {"$file": {"path": "/etc/passwd"}}}]}
    for path in ("/v1/runs", "/v1/plans", "/v1/quotes"):
        refused = await client.post(path, json=task)
        assert refused.status_code == 422
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"] == "/problems/local-file"
    task["input"] = {"$file": {"data": "aGVsbG8="}}
    assert (await client.post("/v1/runs", json=task)).status_code == 202


async def test_one_idempotency_key_is_one_run(client: httpx2.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    first = await client.post("/v1/runs", json=ECHO, headers=headers)
    again = await client.post("/v1/runs", json=ECHO, headers={"idempotency-key": '"k"'})
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = await client.post("/v1/runs", json={**ECHO, "input": 1}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-conflict")
    found = (await client.get("/v1/runs", params={"idempotency_key": "k"})).json()["runs"]
    assert [run["id"] for run in found] == [first.json()["id"]]


async def test_a_key_in_flight_is_a_conflict(
    client: httpx2.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, submit = asyncio.Event(), service.gateway.submit

    async def slow(*args: object, **more: object) -> object:
        await going.wait()
        return await submit(*args, **more)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(service.gateway, "submit", slow)
    headers = {"idempotency-key": "k"}
    first = asyncio.create_task(client.post("/v1/runs", json=ECHO, headers=headers))
    while not service.in_flight:  # noqa: ASYNC110  nobody tells of it
        await asyncio.sleep(0)
    busy = await client.post("/v1/runs", json=ECHO, headers=headers)
    assert (busy.status_code, busy.json()["type"]) == (409, "/problems/in-flight")
    assert (await client.post("/v1/runs", json=ECHO, headers={"idempotency-key": ""})).status_code == 400
    going.set()
    assert (await first).status_code == 202
    assert (await client.post("/v1/runs", json=ECHO, headers=headers)).status_code == 202


async def test_runs_are_listed_a_page_at_a_time(client: httpx2.AsyncClient) -> None:
    ids = [(await client.post("/v1/runs", json=ECHO)).json()["id"] for _ in range(5)]
    found, after = [], None
    for _ in range(3):
        query = {"limit": 2, **({"after": after} if after else {})}
        page = (await client.get("/v1/runs", params=query)).json()
        found += [run["id"] for run in page["runs"]]
        after = page["next"]
    assert found == ids[::-1]
    assert after is None


async def test_one_idempotency_key_is_one_run_at_several_servers_at_once(tmp_path: Path) -> None:
    """Neither knows of the other's request; the store lets one of them be the first."""
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(3):
            gateway = AsyncGateway(
                [FakeAdapter(f"fake{number}", steps=((0.0, Status.RUNNING),))],
                {"echo": {"targets": {f"fake{number}": {"app": "echo"}}}},
                store=f"sqlite:///{tmp_path / 'runs.db'}",
            )
            service = Service(gateway, ServerSettings(), SystemClock())
            await service.start()
            stack.push_async_callback(service.aclose)
            transport = httpx2.ASGITransport(App(service))
            clients.append(httpx2.AsyncClient(transport=transport, base_url="http://localhost"))
            await stack.enter_async_context(clients[-1])
        for turn in range(5):
            headers = {"idempotency-key": f"k{turn}"}
            answers = await asyncio.gather(
                *(client.post("/v1/runs", json=ECHO, headers=headers) for client in clients)
            )
            assert {answer.status_code for answer in answers} == {202}
            assert len({answer.json()["id"] for answer in answers}) == 1
            assert ["idempotent-replayed" in answer.headers for answer in answers].count(False) == 1
        found = (await clients[0].get("/v1/runs")).json()["runs"]
        assert len(found) == 5


async def test_a_list_has_summaries_unless_all_is_asked_for(client: httpx2.AsyncClient) -> None:
    task = {**ECHO, "labels": {"for": "me"}}
    run = (await client.post("/v1/runs", params={"wait": 30}, json=task)).json()
    (summary,) = (await client.get("/v1/runs")).json()["runs"]
    assert not {"output", "evidence"} & summary.keys()
    assert not {"input", "target"} & summary["task"].keys()
    assert not {"snapshot", "target"} & summary["attempts"][0].keys()
    assert (summary["id"], summary["passed"]) == (run["id"], run["passed"])
    assert (summary["task"]["labels"], summary["attempts"][0]["backend"]) == ({"for": "me"}, "fake")
    (whole,) = (await client.get("/v1/runs", params={"view": "full"})).json()["runs"]
    assert whole == run
    assert (await client.get("/v1/runs", params={"view": "half"})).status_code == 400


async def test_a_page_ends_before_it_grows_too_large(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_PAGE_BYTES", 25_000)
    monkeypatch.setattr(runs, "RUNS_AT_ONCE", 2)
    task = {"model": "echo", "input": "x" * 10_000}
    ids = [(await client.post("/v1/runs", json=task)).json()["id"] for _ in range(7)]
    found: list[list[str]] = []
    query: dict[str, str] = {"view": "full"}
    while len(found) == 0 or "after" in query:
        page = (await client.get("/v1/runs", params=query)).json()
        found.append([run["id"] for run in page["runs"]])
        query = {"view": "full", **({"after": page["next"]} if page["next"] else {})}
    assert [one for page in found for one in page] == ids[::-1]
    assert len(found) > 2
    assert len((await client.get("/v1/runs")).json()["runs"]) == 7


async def test_runs_are_found_by_what_is_asked(client: httpx2.AsyncClient) -> None:
    await client.post("/v1/runs", params={"wait": 30}, json=ECHO)
    for query, count in (
        ({"status": "completed"}, 1),
        ({"phase": "success", "model": "echo", "backend": "fake"}, 1),
        ({"status": "FAILED"}, 0),
        ({"model": "other"}, 0),
    ):
        assert len((await client.get("/v1/runs", params=query)).json()["runs"]) == count
    for wrong in ({"status": "x"}, {"limit": 0}, {"after": "x"}, {"mode": "echo"}):
        assert (await client.get("/v1/runs", params=wrong)).status_code == 400


async def test_cancel_and_accept_are_wishes(client: httpx2.AsyncClient) -> None:
    run = (await client.post("/v1/runs", json=ECHO)).json()
    wished = await client.post(f"/v1/runs/{run['id']}/accept", json={"answer_id": "a"})
    assert (wished.status_code, wished.json()["accept_answer"]) == (202, "a")
    cancelled = await client.post(f"/v1/runs/{run['id']}/cancel")
    assert cancelled.status_code in (200, 202)
    ended = (await client.get(f"/v1/runs/{run['id']}", params={"wait": 30})).json()
    assert ended["status"] in ("CANCELLED", "COMPLETED")
    assert ended["cancel_requested_at"] is not None


async def test_plans_quotes_and_what_there_is(client: httpx2.AsyncClient) -> None:
    plan = (await client.post("/v1/plans", json={**ECHO, "limits": {"deadline": "30s"}})).json()
    assert [candidate["backend"] for candidate in plan["candidates"]] == ["fake"]
    quotes = (await client.post("/v1/quotes", json=ECHO)).json()["quotes"]
    assert quotes["fake"]["confidence"] == "free"
    assert (await client.get("/v1/backends")).json()["backends"]["fake"]["healthy"] is True
    assert (await client.get("/v1/models")).json()["models"][0]["name"] == "echo"
    run = (await client.post("/v1/runs", params={"wait": 30}, json=ECHO)).json()
    stored = (await client.get(f"/v1/runs/{run['id']}/plan")).json()["plan"]
    assert stored["candidates"][0]["backend"] == "fake"
    costs = (await client.get("/v1/costs", params={"since": "1h", "by": ["model"]})).json()
    assert costs["lines"][0]["model"] == "echo"
    for since in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "999999d"):
        assert (await client.get("/v1/costs", params={"since": since})).status_code == 200
    for wrong in ({"since": "2026-01-01T00:00:00"}, {"since": "x"}, {"by": "colour"}):
        assert (await client.get("/v1/costs", params=wrong)).status_code == 400


async def test_errors_are_problems(client: httpx2.AsyncClient) -> None:
    unknown = await client.post("/v1/runs", json={"model": "other"})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/unknown-model")
    assert unknown.json()["cost_outcome"] == "not_charged"
    assert (await client.get(unknown.json()["type"])).json()["title"] == unknown.json()["title"]
    never = await client.post("/v1/runs", json={**ECHO, "stream": True})
    assert (never.status_code, never.json()["type"]) == (422, "/problems/no-backend-can")
    fields = await client.post("/v1/runs", json={"modle": "echo", "stream": "yes"})
    assert {field["field"] for field in fields.json()["fields"]} == {"modle", "stream"}
    assert fields.status_code == 400


@pytest.mark.parametrize(
    "number", ["1e999", "-1E+400", "9" * 400 + ".5", "1" * 305 + "e9", "NaN", "-Infinity"]
)
@pytest.mark.parametrize(
    "place", ['"input": %s', '"input": {"a": [1, %s]}', '"input": 1, "target": {"app": %s}']
)
async def test_a_number_that_no_double_holds_is_refused(
    client: httpx2.AsyncClient, number: str, place: str
) -> None:
    body = f'{{"model": "echo", {place % number}}}'.encode()
    for path in ("/v1/runs", "/v1/quotes"):
        refused = await client.post(path, content=body, headers={"content-type": "application/json"})
        assert (refused.status_code, refused.json()["type"]) == (400, "/problems/bad-json")
    assert (await client.get("/v1/runs")).json()["runs"] == []


async def test_large_numbers_that_are_finite_are_taken(client: httpx2.AsyncClient) -> None:
    body = b'{"model": "echo", "input": [1e308, %b, 1e-999, "1e999 NaN Infinity"]}' % (b"9" * 400)
    taken = await client.post("/v1/runs?wait=30", content=body, headers={"content-type": "application/json"})
    assert taken.json()["output"] == [1e308, int("9" * 400), 0.0, "1e999 NaN Infinity"]


async def test_who_shuts_down_takes_nothing_and_keeps_nobody_waiting(
    client: httpx2.AsyncClient, service: Service
) -> None:
    waiting = asyncio.create_task(client.post("/v1/runs", params={"wait": 30}, json=ECHO))
    while not (await client.get("/v1/runs")).json()["runs"]:  # noqa: ASYNC110  nobody tells of it
        await asyncio.sleep(0)
    service.stopping.set()
    assert (await waiting).status_code in (200, 202)
    assert (await client.post("/v1/runs", json=ECHO)).status_code == 503
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("deadline", ["0.25s", "90s", "30d", "1234567.5s", "36500d"])
async def test_a_time_is_shown_as_it_is_read(client: httpx2.AsyncClient, deadline: str) -> None:
    taken = await client.post("/v1/runs", json={**ECHO, "limits": {"deadline": deadline}})
    shown = taken.json()["task"]["limits"]["deadline"]
    assert parse_duration(shown) == parse_duration(deadline)


@pytest.mark.parametrize("limit", ["deadline", "doubt_wait"])
async def test_a_time_beyond_the_calendar_is_refused(client: httpx2.AsyncClient, limit: str) -> None:
    refused = await client.post("/v1/runs", json={**ECHO, "limits": {limit: "4000000d"}})
    assert (refused.status_code, limit in refused.json()["detail"]) == (422, True)


async def test_who_can_not_write_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_owner: str, *, until: datetime) -> None:
        raise StoreError(f"database or disk is full; nobody is believed until {until}")

    clock = FakeClock()
    service = Service(AsyncGateway([FakeAdapter("fake")], {}, clock=clock), ServerSettings(), clock)
    await service.start()
    transport = httpx2.ASGITransport(App(service))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/readyz")).status_code == 200
        with monkeypatch.context() as full:
            full.setattr(service.store, "beat", refuse)
            await clock.sleep(20)
            assert (await client.get("/readyz")).status_code == 503
        await clock.sleep(10)
        assert (await client.get("/readyz")).status_code == 200
    await service.aclose()
