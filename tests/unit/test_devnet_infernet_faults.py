"""The Infernet stand-in under faults, over restarts, and its streams."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from gateway.devnet.faults import Fault, Operation, StandIn
from gateway.devnet.infernet import Container, InfernetNode, make_containers

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
ECHO = {"containers": ["echo"], "data": {"n": 1}}
FOREVER = {"containers": ["sleep"], "data": {"seconds": 3600}}


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(**more: Any) -> tuple[InfernetNode, httpx2.AsyncClient]:
            node = InfernetNode(**{"rate_limit": None, **more})
            await node.start()
            stack.push_async_callback(node.stop)
            return node, await stack.enter_async_context(httpx2.AsyncClient(base_url=node.url, timeout=60))

        yield start


async def look(http: httpx2.AsyncClient, job_id: str) -> list[str]:
    return [job["status"] for job in (await http.get("/api/jobs", params={"id": job_id})).json()]


async def wait_for(http: httpx2.AsyncClient, job_id: str, status: str) -> Any:
    for _ in range(500):
        jobs = (await http.get("/api/jobs", params={"id": job_id})).json()
        if jobs and jobs[-1]["status"] == status:
            return jobs[-1]
        await asyncio.sleep(0.002)
    raise AssertionError(f"{job_id} is never {status}: {jobs}")


async def send_raw(
    node: InfernetNode, path: str, body: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Post over a bare socket, to see bytes and chunks as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(node.url.rsplit(":", 1)[1]))
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return reader, writer


async def test_the_url_stays_and_a_stopped_node_refuses(start: Start) -> None:
    node, http = await start()
    url = node.url
    await node.stop()
    with pytest.raises(httpx2.ConnectError):
        await http.get("/health")
    await node.stop()
    await node.start()
    assert node.url == url
    assert (await http.get("/health")).status_code == 200


async def test_the_node_is_a_stand_in() -> None:
    node: StandIn = InfernetNode("node7")
    assert (node.name, node.journal, node.faults.describe()) == ("node7", [], [])


async def test_a_node_that_never_started_has_no_url() -> None:
    with pytest.raises(RuntimeError, match="node7"):
        _ = InfernetNode("node7").url


async def test_a_restart_forgets_running_jobs_and_keeps_finished_ones(start: Start) -> None:
    node, http = await start()
    await http.post("/api/jobs", json={**ECHO, "id": "done"})
    await http.post("/api/jobs", json={**FOREVER, "id": "lost"})
    await wait_for(http, "done", "success")
    assert await look(http, "lost") == ["running"]
    await node.restart()
    assert await look(http, "lost") == []
    assert await look(http, "done") == ["success"]
    assert [entry.job_id for entry in node.journal] == ["done", "lost"]


async def test_stopping_drops_requests_that_hang(start: Start) -> None:
    node, http = await start()
    node.faults.arm(Fault.HANG, on=Operation.POLL)
    request = asyncio.create_task(http.get("/api/jobs?id=x"))
    while node.faults.describe():  # noqa: ASYNC110 - Faults has no event, and needs none but here
        await asyncio.sleep(0.001)
    await node.stop()
    with pytest.raises(httpx2.TransportError):
        await request


async def test_answer_lost_runs_the_job(start: Start) -> None:
    node, http = await start()
    node.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT)
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        await http.post("/api/jobs", json={**ECHO, "id": "own"})
    assert (await wait_for(http, "own", "success"))["result"]["output"] == {"n": 1}
    assert [entry.job_id for entry in node.journal] == ["own"]


async def test_a_lost_batch_runs_whole(start: Start) -> None:
    node, http = await start()
    node.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT)
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        await http.post("/api/jobs/batch", json=[{**ECHO, "id": "a"}, {**ECHO, "id": "b"}])
    await wait_for(http, "a", "success")
    await wait_for(http, "b", "success")


async def test_hang_never_answers_and_accepts_nothing(start: Start) -> None:
    node, http = await start()
    node.faults.arm(Fault.HANG, on=Operation.SUBMIT)
    with pytest.raises(httpx2.ReadTimeout):
        await http.post("/api/jobs", json=ECHO, timeout=0.05)
    assert node.journal == []


@pytest.mark.parametrize(("fault", "status"), [(Fault.RATE_LIMIT, 429), (Fault.SERVER_ERROR, 500)])
async def test_refusing_faults_carry_nothing_out(start: Start, fault: Fault, status: int) -> None:
    node, http = await start()
    node.faults.arm(fault, times=2)
    for path in ("/api/jobs", "/api/jobs/stream"):
        answer = await http.post(path, json=ECHO)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert answer.headers.get("retry-after") == ("0" if status == 429 else None)
    assert node.journal == []
    assert (await http.post("/api/jobs", json=ECHO)).status_code == 200


@pytest.mark.parametrize(("fault", "status"), [(Fault.ERROR_AFTER, 500), (Fault.GARBAGE, 200)])
@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/stream"])
async def test_spoiling_faults_carry_it_out(start: Start, fault: Fault, status: int, path: str) -> None:
    node, http = await start()
    node.faults.arm(fault)
    answer = await http.post(path, json={**ECHO, "id": "own"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert answer.text.startswith("<!doctype html>")
    await wait_for(http, "own", "success")


async def test_faults_strike_the_operation_they_are_armed_for(start: Start) -> None:
    node, http = await start()
    node.faults.arm(Fault.SERVER_ERROR, on=Operation.POLL, skip=1)
    assert (await http.get("/health")).status_code == 200
    assert (await http.post("/api/jobs", json=ECHO)).status_code == 200
    assert (await http.get("/api/jobs")).status_code == 200
    assert (await http.get("/api/jobs")).status_code == 500
    assert (await http.get("/api/jobs")).status_code == 200


async def test_forget_at_a_poll_and_at_a_submission(start: Start) -> None:
    node, http = await start()
    await http.post("/api/jobs", json={**FOREVER, "id": "old"})
    node.faults.arm(Fault.FORGET, on=Operation.POLL)
    assert await look(http, "old") == []
    node.faults.arm(Fault.FORGET, on=Operation.SUBMIT)
    answer = await http.post("/api/jobs", json={**ECHO, "id": "new"})
    assert answer.json() == {"id": "new"}
    assert await look(http, "new") == []
    assert [entry.job_id for entry in node.journal] == ["old", "new"]


async def test_a_stream_on_the_wire(start: Start) -> None:
    node, http = await start(containers=make_containers(word_delay_seconds=0.0))
    body = {"containers": ["words", "echo"], "data": {"text": "two words"}, "id": "own"}
    reader, writer = await send_raw(node, "/api/jobs/stream", body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert head.startswith("http/1.1 200 \r\n")
    assert "content-type: text/html; charset=utf-8\r\n" in head
    assert "transfer-encoding: chunked\r\n" in head
    assert await reader.readuntil(b"0\r\n\r\n") == b"4\r\nown\n\r\n4\r\ntwo \r\n5\r\nwords\r\n0\r\n\r\n"
    writer.close()
    job = (await http.get("/api/jobs?id=own")).json()[0]
    assert job["result"] == {"container": "words", "output": {"output": "two words"}}


async def test_a_stream_of_bytes_is_whole_and_its_job_failed(start: Start) -> None:
    _, http = await start(containers=make_containers(word_delay_seconds=0.0))
    raw = bytes(range(256))
    body = {"containers": ["words"], "data": {"base64": base64.b64encode(raw).decode()}, "id": "own"}
    answer = await http.post("/api/jobs/stream", json=body)
    assert answer.content == b"own\n" + raw
    job = (await http.get("/api/jobs?id=own")).json()[0]
    assert job["status"] == "failed"
    assert "codec can't decode byte 0x80" in job["result"]["error"]


async def test_failures_are_invisible_in_the_stream(start: Start) -> None:
    _, http = await start()
    for container, said in (("fail", b""), ("echo", b'{"text":"x"}\n')):
        body = {"containers": [container], "data": {"text": "x"}, "id": container}
        answer = await http.post("/api/jobs/stream", json=body)
        assert (answer.status_code, answer.content) == (200, container.encode() + b"\n" + said)
    assert await look(http, "fail") == ["failed"]
    assert await look(http, "echo") == ["success"]


async def test_a_stream_that_breaks_half_way_ends_cleanly(start: Start) -> None:
    async def stream(data: Any) -> AsyncGenerator[bytes, None]:
        yield b"half"
        raise ConnectionResetError("the container went away")

    async def run(data: Any) -> Any:
        return data

    _, http = await start(containers=[Container("half", "", run=run, stream=stream)])
    answer = await http.post("/api/jobs/stream", json={"containers": ["half"], "data": {}, "id": "h"})
    assert answer.content == b"h\nhalf"
    job = (await http.get("/api/jobs?id=h")).json()[0]
    assert job["result"] == {"container": "half", "error": "the container went away"}


async def test_stream_refusals_are_json(start: Start) -> None:
    _, http = await start()
    answer = await http.post("/api/jobs/stream", json={"containers": ["nope"], "data": {}})
    assert answer.status_code == 405
    assert answer.json() == {"error": "Container not supported", "params": {"container": "nope"}}


async def read_broken_stream(http: httpx2.AsyncClient, body: Any) -> bytes:
    said = b""
    async with http.stream("POST", "/api/jobs/stream", json=body) as answer:
        try:
            async for piece in answer.aiter_raw():
                said += piece
        except httpx2.RemoteProtocolError:
            return said
    raise AssertionError(f"the stream ended as it should: {said!r}")


WORDS = {"containers": ["words"], "data": {"text": "four score and seven", "delay_seconds": 0}, "id": "own"}


async def test_cut_stream_leaves_the_job_running(start: Start) -> None:
    node, http = await start()
    node.faults.arm(Fault.CUT_STREAM)
    assert await look(http, "own") == []  # a poll is no place for it
    assert await read_broken_stream(http, WORDS) == b"own\nfo"
    assert await look(http, "own") == ["running"]


async def test_the_limit_cuts_streams_and_leaves_the_job_running(start: Start) -> None:
    node, http = await start(stream_limit_seconds=0.2)
    slow = {**WORDS, "data": {"text": "four score", "delay_seconds": 3600}}
    assert await read_broken_stream(http, slow) == b"own\n"
    assert await look(http, "own") == ["running"]
    node.faults.arm(Fault.STALL_STREAM, on=Operation.STREAM)
    assert await read_broken_stream(http, {**WORDS, "id": "stalled"}) == b"stalled\nfo"
    assert await look(http, "stalled") == ["running"]


async def test_a_stream_that_forgets(start: Start) -> None:
    node, http = await start()
    node.faults.arm(Fault.FORGET, on=Operation.STREAM)
    await read_broken_stream(http, WORDS)
    assert await look(http, "own") == []


async def test_a_lost_answer_of_a_stream(start: Start) -> None:
    node, http = await start()
    node.faults.arm(Fault.ANSWER_LOST, on=Operation.STREAM)
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        await http.post("/api/jobs/stream", json=WORDS)
    assert await look(http, "own") == ["running"]
    assert len(node.journal) == 1


async def test_a_client_that_leaves_cancels_the_container_and_the_job_stays_running(start: Start) -> None:
    ended = asyncio.Event()

    async def stream(data: Any) -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def run(data: Any) -> Any:
        return data

    node, http = await start(containers=[Container("long", "", run=run, stream=stream)])
    reader, writer = await send_raw(
        node, "/api/jobs/stream", {"containers": ["long"], "data": {}, "id": "own"}
    )
    await reader.readuntil(b"first")
    assert not ended.is_set()
    writer.close()
    await asyncio.wait_for(ended.wait(), 60)
    assert await look(http, "own") == ["running"]
    assert (await http.get("/info")).json()["pending"]["offchain"] == 1


async def test_idle_connections_are_closed_without_a_warning(start: Start) -> None:
    node, _ = await start(keep_alive_seconds=0.05)
    reader, writer = await send_raw(node, "/api/jobs", ECHO)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert "connection:" not in head
    await reader.readline()
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


async def test_a_connection_ends_after_a_thousand_requests(start: Start) -> None:
    node, _ = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(node.url.rsplit(":", 1)[1]))
    for _ in range(1000):
        writer.write(b"GET /nope HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"onnection" not in head
        await reader.readuntil(b"</p>\n")
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()
