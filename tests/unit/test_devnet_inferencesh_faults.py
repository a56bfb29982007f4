from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest

from gateway.devnet.faults import Fault, Operation, StandIn
from gateway.devnet.inferencesh import InferenceshApi, RateLimit

pytestmark = pytest.mark.anyio

HEADERS = {"Authorization": "Bearer inf_devnet"}
ECHO = {"app": "demo/echo", "input": {"n": 1}}
LONG = {"app": "demo/sleep", "input": {"seconds": 600}}


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


async def submit(client: httpx2.AsyncClient, body: Any) -> str:
    answer = await client.post("/apps/run", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["id"])


async def wait_for_end(client: httpx2.AsyncClient, task_id: str) -> Any:
    await client.get(f"/tasks/{task_id}/stream")
    return (await client.get(f"/tasks/{task_id}")).json()["data"]


async def test_it_follows_the_protocol_of_stand_ins(api: InferenceshApi) -> None:
    stand_in: StandIn = api
    assert (stand_in.name, stand_in.journal) == ("hosted", [])
    with pytest.raises(RuntimeError, match="no address"):
        InferenceshApi().url  # noqa: B018 - the property raises


async def test_a_lost_answer_leaves_a_task_that_runs(api: InferenceshApi, client: httpx2.AsyncClient) -> None:
    api.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT)
    with pytest.raises(httpx2.ReadError):
        await client.post("/apps/run", json=ECHO)
    assert len(api.journal) == 1
    assert (await wait_for_end(client, api.journal[0].job_id))["output"] == {"n": 1}


async def test_a_hanging_request_is_read_and_carries_nothing_out(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    api.faults.arm(Fault.HANG, on=Operation.SUBMIT)
    with pytest.raises(httpx2.ReadTimeout):
        await client.post("/apps/run", json=ECHO, timeout=0.1)
    assert api.journal == []


@pytest.mark.parametrize(
    ("fault", "status", "made"),
    [
        (Fault.RATE_LIMIT, 429, 0),
        (Fault.SERVER_ERROR, 500, 0),
        (Fault.ERROR_AFTER, 500, 1),
        (Fault.GARBAGE, 200, 1),
    ],
)
async def test_what_a_fault_answers_and_what_it_leaves_behind(
    api: InferenceshApi, client: httpx2.AsyncClient, fault: Fault, status: int, made: int
) -> None:
    api.faults.arm(fault, on=Operation.SUBMIT)
    answer = await client.post("/apps/run", json=ECHO)
    assert (answer.status_code, len(api.journal)) == (status, made)
    if fault is Fault.GARBAGE:
        assert "html" in answer.headers["Content-Type"]
        with pytest.raises(ValueError, match="Expecting value"):
            answer.json()
    else:
        assert answer.headers["Content-Type"].startswith("application/problem+json")
    for line in api.journal:
        assert (await wait_for_end(client, line.job_id))["status"] == 10
    assert (await client.post("/apps/run", json=ECHO)).status_code == 200


async def test_faults_strike_the_operation_they_are_aimed_at(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    task_id = await submit(client, LONG)
    aims = {
        Operation.SUBMIT: ("POST", "/run"),
        Operation.POLL: ("GET", f"/tasks/{task_id}/status"),
        Operation.STREAM: ("GET", f"/tasks/{task_id}/stream"),
        Operation.CANCEL: ("POST", f"/tasks/{task_id}/cancel"),
        Operation.UPLOAD: ("POST", "/files"),
        Operation.ANY: ("GET", "/sessions"),
    }
    for operation, (method, path) in aims.items():
        api.faults.arm(Fault.SERVER_ERROR, on=operation)
        if operation is not Operation.ANY:
            assert (await client.get("/sessions")).status_code == 200
        assert (await client.request(method, path)).status_code == 500
        assert api.faults.describe() == []
    assert (await client.get(f"/tasks/{task_id}/status")).json()["data"]["status"] < 8  # the cancel never was


async def test_a_cancel_whose_answer_is_lost_has_happened(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    task_id = await submit(client, LONG)
    api.faults.arm(Fault.ERROR_AFTER, on=Operation.CANCEL)
    assert (await client.post(f"/tasks/{task_id}/cancel")).status_code == 500
    assert (await wait_for_end(client, task_id))["status"] == 12


@pytest.mark.parametrize("form", ["seconds", "date", "none"])
async def test_retry_after_comes_in_the_chosen_form(form: Any) -> None:
    api = InferenceshApi(rate_limit=RateLimit(retry_after_seconds=7, retry_after_as=form))
    await api.start()
    api.faults.arm(Fault.RATE_LIMIT)
    async with httpx2.AsyncClient(base_url=api.url, headers=HEADERS) as client:
        headers = (await client.get("/sessions")).headers
    await api.stop()
    if form == "date":
        assert abs(parsedate_to_datetime(headers["Retry-After"]).timestamp() - (time.time() + 7)) < 5
    else:
        assert headers.get("Retry-After") == ("7" if form == "seconds" else None)


async def test_the_rate_limit_counts_runs_of_a_minute() -> None:
    api = InferenceshApi(rate_limit=2)
    api.clock.skip(60 - api.clock.now() % 60)  # the window has just begun
    await api.start()
    async with httpx2.AsyncClient(base_url=api.url, headers=HEADERS) as client:
        answers = [await client.post("/apps/run", json=ECHO) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
        assert 0 < int(answers[0].headers["X-RateLimit-Reset"]) - api.clock.now() <= 60
        assert answers[2].headers["Retry-After"] == "1"
        assert (await client.get("/sessions")).status_code == 200
        api.clock.skip(60)
        assert (await client.post("/apps/run", json=ECHO)).status_code == 200
    await api.stop()


async def test_forgetting_loses_running_tasks_and_keeps_finished_ones(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    done, running = await submit(client, ECHO), await submit(client, LONG)
    await wait_for_end(client, done)
    api.faults.arm(Fault.FORGET, on=Operation.POLL)
    assert (await client.get(f"/tasks/{running}")).status_code == 404
    assert (await client.get(f"/tasks/{done}")).status_code == 200
    running = await submit(client, LONG)
    address = api.url
    await api.restart()
    assert api.url == address
    assert (await client.get(f"/tasks/{running}")).status_code == 404
    assert (await client.get(f"/tasks/{done}")).status_code == 200


async def test_a_stopped_api_refuses_and_breaks_what_is_open_but_its_tasks_go_on(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    running = await submit(client, LONG)
    waiting = asyncio.create_task(client.get(f"/tasks/{running}/stream"))
    while (await client.get(f"/tasks/{running}/status")).json()["data"]["status"] != 7:
        pass
    while not api.tasks.get(running).listeners:
        await client.get("/sessions")
    await api.stop()
    with pytest.raises(httpx2.RemoteProtocolError):
        await waiting
    with pytest.raises(httpx2.ConnectError):
        await client.get(f"/tasks/{running}")
    await api.stop()
    api.clock.skip(601)
    await api.start()
    assert (await wait_for_end(client, running))["status"] == 10
