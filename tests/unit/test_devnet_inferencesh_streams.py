from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from aiohttp import web

from gateway.devnet.faults import Fault, Operation
from gateway.devnet.inferencesh import InferenceshApi

pytestmark = pytest.mark.anyio

NDJSON = {"Accept": "application/x-ndjson"}
TEXT = "three little words"


@pytest.fixture
async def api() -> AsyncIterator[InferenceshApi]:
    api = InferenceshApi(step_seconds=0, heartbeat_seconds=0.01)
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def client(api: InferenceshApi) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": "Bearer inf_devnet"}
    async with httpx2.AsyncClient(base_url=api.url, headers=headers, timeout=60) as client:
        yield client


async def submit_words(client: httpx2.AsyncClient) -> str:
    """Make a task that speaks only when the clock is moved on, so that a stream hears every word."""
    words = {"text": TEXT, "delay_seconds": 600}
    answer = await client.post("/apps/run", json={"app": "demo/words", "input": words})
    return str(answer.json()["data"]["id"])


async def read_stream(
    api: InferenceshApi, client: httpx2.AsyncClient, task_id: str, **headers: str
) -> list[str]:
    """Read a stream to its end; at every heartbeat, time moves on."""
    lines = []
    async with client.stream("GET", f"/tasks/{task_id}/stream", headers={**NDJSON, **headers}) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            if "heartbeat" in line:
                api.clock.skip(601)
            else:
                lines.append(line)
    return lines


async def wait_for_end(client: httpx2.AsyncClient, task_id: str) -> Any:
    await client.get(f"/tasks/{task_id}/stream")
    return (await client.get(f"/tasks/{task_id}")).json()["data"]


async def test_ndjson_has_a_snapshot_partials_deltas_and_the_whole_task_at_the_end(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    task_id = await submit_words(client)
    snapshot, *news, last = [json.loads(line) for line in await read_stream(api, client, task_id)]
    assert (snapshot["id"], snapshot["output"]) == (task_id, None)
    deltas = [item["data"] for item in news if item.get("event") == "delta"]
    assert "".join(delta["delta"]["response"] for delta in deltas) == TEXT
    assert [delta["seq"] for delta in deltas] == [0, 1, 2]
    partials = [item for item in news if "fields" in item]
    assert all(sorted(partial["fields"]) == sorted(partial["data"]) for partial in partials)
    assert not any("id" in partial["data"] for partial in partials)
    outputs = [partial["data"]["output"]["response"] for partial in partials if "output" in partial["data"]]
    assert outputs[:3] == ["three", "three little", TEXT]
    assert (last["id"], last["status"], last["output"]) == (task_id, 10, {"response": TEXT})


async def test_partials_alone_lead_to_the_end_when_the_last_event_is_partial(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    api.quirks.final_event = "partial"
    task_id = await submit_words(client)
    task: dict[str, Any] = {}
    lines = [json.loads(line) for line in await read_stream(api, client, task_id)]
    for line in lines:
        if line.get("event") != "delta":
            task |= line["data"] if "fields" in line else line
    assert "output" not in lines[-1]["data"]
    want = await wait_for_end(client, task_id)
    assert {name: task[name] for name in ("id", "status", "output", "usage_events", "updated_at")} == {
        name: want[name] for name in ("id", "status", "output", "usage_events", "updated_at")
    }


async def test_a_late_subscriber_gets_the_snapshot_and_the_end(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    api.quirks.snapshot_on_connect = False
    task_id = await submit_words(client)
    assert "fields" in json.loads((await read_stream(api, client, task_id))[0])
    for accept in ("application/x-ndjson", "application/jsonl", "text/html, application/jsonl;q=0.9"):
        lines = await read_stream(api, client, task_id, Accept=accept)
        assert [json.loads(line)["status"] for line in lines] == [10]


async def test_without_asking_for_ndjson_the_stream_is_server_sent_events(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    task_id = await submit_words(client)
    lines = await read_stream(api, client, task_id, Accept="*/*")
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert (kinds[0], kinds.count("delta"), kinds[-1]) == ("update", 3, "done")
    last = json.loads([line for line in lines if line.startswith("data: ")][-1].removeprefix("data: "))
    assert last["output"] == {"response": TEXT}
    failed = await client.post("/run", json={"app": "demo/fail"})
    stream = await client.get(f"/tasks/{failed.json()['data']['id']}/stream")
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert stream.text.startswith("event: error\n")


async def test_a_quiet_task_gives_nothing_but_heartbeats_while_it_runs(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    quiet = {"app": "demo/quiet", "input": {"seconds": 3000}}
    task_id = (await client.post("/apps/run", json=quiet)).json()["data"]["id"]
    heartbeats = 0
    async with client.stream("GET", f"/tasks/{task_id}/stream", headers=NDJSON) as stream:
        async for line in stream.aiter_lines():
            if json.loads(line) == {"type": "heartbeat"}:
                heartbeats += 1
                api.clock.skip(601)
    assert heartbeats >= 5
    assert (await wait_for_end(client, task_id))["status"] == 10


async def test_two_streams_hear_the_same(api: InferenceshApi, client: httpx2.AsyncClient) -> None:
    task_id = await submit_words(client)
    both = await asyncio.gather(*(read_stream(api, client, task_id) for _ in range(2)))
    words = [[line for line in lines if "delta" in line] for lines in both]
    assert words[0] == words[1]


async def hear(api: InferenceshApi, client: httpx2.AsyncClient, task_id: str, heard: list[bytes]) -> None:
    """Take down what a stream says until it ends or breaks; time moves on with each word."""
    async with client.stream("GET", f"/tasks/{task_id}/stream", headers=NDJSON) as stream:
        async for chunk in stream.aiter_raw():
            heard.append(chunk)
            api.clock.skip(601)


@pytest.mark.parametrize("ended", [False, True])
async def test_a_cut_stream_breaks_in_the_middle_of_a_line(
    api: InferenceshApi, client: httpx2.AsyncClient, *, ended: bool
) -> None:
    task_id = await submit_words(client)
    if ended:
        await read_stream(api, client, task_id)
    api.faults.arm(Fault.CUT_STREAM, on=Operation.STREAM)
    heard: list[bytes] = []
    with pytest.raises(httpx2.RemoteProtocolError):
        await hear(api, client, task_id, heard)
    *lines, rest = b"".join(heard).split(b"\n")
    assert len([line for line in lines if b"heartbeat" not in line]) == (0 if ended else 1)
    assert rest
    assert (await read_stream(api, client, task_id))[-1].startswith('{"id"')


@pytest.mark.parametrize("ended", [False, True])
async def test_a_stalled_stream_stays_open_and_silent(
    api: InferenceshApi, client: httpx2.AsyncClient, *, ended: bool
) -> None:
    task_id = await submit_words(client)
    if ended:
        await read_stream(api, client, task_id)
    api.faults.arm(Fault.STALL_STREAM, on=Operation.STREAM)
    async with client.stream("GET", f"/tasks/{task_id}/stream", headers=NDJSON) as stream:
        lines = stream.aiter_lines()
        if not ended:
            assert json.loads(await anext(lines))["id"] == task_id
        api.clock.skip(601)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(lines)


async def test_a_stream_of_no_task_is_a_problem(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/tasks/none/stream", headers=NDJSON)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_the_webhook_gets_the_whole_task_once_it_ended(client: httpx2.AsyncClient) -> None:
    calls: asyncio.Queue[Any] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        calls.put_nowait(await request.json())
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/hook", take)
    receiver = web.AppRunner(app)
    await receiver.setup()
    await web.TCPSite(receiver, "127.0.0.1", 0).start()
    hook = f"http://127.0.0.1:{receiver.addresses[0][1]}/hook"
    for name, status in (("demo/echo", 10), ("demo/fail", 11), ("demo/rejected", 13)):
        await client.post("/apps/run", json={"app": name, "input": None, "webhook": hook})
        async with asyncio.timeout(60):
            assert (await calls.get())["status"] == status
    await receiver.cleanup()


async def test_a_webhook_beyond_loopback_is_not_called(
    api: InferenceshApi, client: httpx2.AsyncClient
) -> None:
    body = {"app": "demo/echo", "webhook": "https://example.com/hook"}
    task = (await client.post("/run", json=body)).json()["data"]
    await client.get("/sessions")
    assert "only calls loopback" in api.tasks.get(task["id"]).logs[-1].text
