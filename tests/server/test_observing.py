"""What the server tells of itself: /metrics, its own time, its callers' traces; and what it never tells."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.config import ServerSettings
from gateway.lifecycle import Status
from gateway.observe.tracing import Traces
from gateway.server.app import App
from gateway.server.callers import KeyScope
from gateway.server.keys import create_key, list_keys
from gateway.server.observing import Counting, Observing
from gateway.server.service import Service
from gateway.testing import FakeAdapter

pytestmark = pytest.mark.anyio

SLOW_SECONDS = 0.5
STEPS = ((0.0, Status.RUNNING), (SLOW_SECONDS, Status.COMPLETED))
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BODY = {"model": "echo", "input": {"text": "a secret word"}}


@asynccontextmanager
async def open_client(
    metrics: Any = "open", **options: Any
) -> AsyncIterator[tuple[httpx2.AsyncClient, Service]]:
    gateway = AsyncGateway([FakeAdapter("fake", steps=STEPS)], {"echo": {"targets": {"fake": {}}}})
    service = Service(gateway, ServerSettings(metrics=metrics), SystemClock())
    service.observing = Observing(counting=Counting() if metrics != "off" else None, **options)
    gateway._engine.observe(service.observing.observer)
    await service.start()
    try:
        transport = httpx2.ASGITransport(App(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client, service
    finally:
        await service.aclose()


def read_samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_metrics_count_runs_attempts_calls_and_requests() -> None:
    async with open_client() as (client, _):
        before = read_samples((await client.get("/metrics")).text)
        assert before["gateway_runs_in_flight"] == 0
        run = (await client.post("/v1/runs?wait=30", json=BODY)).json()
        assert run["status"] == "COMPLETED"
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    seen = read_samples(answer.text)
    assert seen['gateway_runs_begun_total{model="echo"}'] == 1
    assert seen['gateway_runs_ended_total{status="completed",model="echo",backend="fake"}'] == 1
    assert seen['gateway_attempts_ended_total{backend="fake",outcome="succeeded"}'] == 1
    assert seen['gateway_backend_calls_total{backend="fake",operation="submit",outcome="ok"}'] == 1
    assert seen['gateway_backend_calls_total{backend="fake",operation="poll",outcome="ok"}'] >= 1
    assert seen['gateway_breaker_state{backend="fake",operation="submit",state="closed"}'] == 1
    assert seen['gateway_breaker_state{backend="fake",operation="submit",state="open"}'] == 0
    assert seen['gateway_attempts_in_flight{backend="fake"}'] == 0
    assert seen['gateway_attempts_waiting{backend="fake"}'] == 0
    assert seen["gateway_store_commit_seconds_count"] >= 2
    assert seen["gateway_overhead_seconds_count"] == 1
    assert seen['gateway_http_requests_total{face="native",status="200"}'] >= 2


async def test_no_id_no_key_and_no_input_is_in_the_metrics() -> None:
    async with open_client(metrics="admin") as (client, service):
        shelf = service.store.shelf
        secrets = [
            await create_key(shelf, f"team{n}", now=datetime.now(UTC), scopes=tuple(KeyScope)) for n in (1, 2)
        ]
        service.keys.learn(await list_keys(shelf))
        client.headers["authorization"] = f"Bearer {secrets[0]}"
        answer = await client.post("/v1/runs?wait=30", json=BODY, headers={"idempotency-key": "order-17"})
        run = answer.json()
        await client.get(f"/v1/runs/{run['id']}")
        await client.get("/nowhere/at/all")
        told = (await client.get("/metrics")).text
    attempt = run["attempts"][0]
    assert run["status"] == "COMPLETED"
    assert 'model="echo"' in told
    hidden = [run["id"], attempt["id"], attempt["handle"]["job_id"], "order-17", "a secret word", "nowhere"]
    for word in (*hidden, "team1", *secrets, *(secret.split("_", 2)[2] for secret in secrets)):
        assert word not in told


@pytest.mark.parametrize(("metrics", "statuses"), [("off", (404, 404)), ("admin", (401, 200))])
async def test_metrics_are_for_whom_the_configuration_says(metrics: str, statuses: tuple[int, int]) -> None:
    async with open_client(metrics=metrics) as (client, service):
        key = await create_key(service.store.shelf, "boss", now=datetime.now(UTC), scopes=(KeyScope.ADMIN,))
        reader = await create_key(service.store.shelf, "me", now=datetime.now(UTC), scopes=(KeyScope.READ,))
        service.keys.learn(await list_keys(service.store.shelf))
        without = await client.get("/metrics")
        as_admin = await client.get("/metrics", headers={"authorization": f"Bearer {key}"})
        as_reader = await client.get("/metrics", headers={"authorization": f"Bearer {reader}"})
    assert (without.status_code, as_admin.status_code) == statuses
    assert as_reader.status_code == (404 if metrics == "off" else 403)


async def test_the_gateways_own_time_is_without_the_backends() -> None:
    async with open_client(overhead_header=True) as (client, _):
        began = perf_counter()
        answer = await client.post("/v1/runs?wait=30", json=BODY)
        whole_ms = (perf_counter() - began) * 1000
        looked_up = await client.get(f"/v1/runs/{answer.json()['id']}")
    assert answer.json()["status"] == "COMPLETED"
    own_ms = float(answer.headers["x-gateway-overhead-ms"])
    # What is written down once the job is accepted is the gateway's time and the backend's at once.
    assert 0 < own_ms <= whole_ms - SLOW_SECONDS / 2 * 1000
    assert float(looked_up.headers["x-gateway-overhead-ms"]) > 0


async def test_a_slow_body_is_the_callers_time() -> None:
    async def send_slowly() -> AsyncIterator[bytes]:
        yield b'{"model": '
        await asyncio.sleep(SLOW_SECONDS)
        yield b'"echo"}'

    pieces = send_slowly()
    sent: list[Any] = []

    async def receive() -> Any:
        body = await anext(pieces, b"")
        return {"type": "http.request", "body": body, "more_body": body != b""}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/runs", "query_string": b"", "headers": headers}
    async with open_client(overhead_header=True) as (_, service):
        began = perf_counter()
        await App(service)(scope, receive, send)
        whole_ms = (perf_counter() - began) * 1000
    assert sent[0]["status"] == 202
    own_ms = float(dict(sent[0]["headers"])[b"x-gateway-overhead-ms"])
    assert 0 < own_ms <= whole_ms - SLOW_SECONDS * 1000


async def test_without_a_configuration_nothing_is_told(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/runs?wait=30", json=BODY)
    assert "x-gateway-overhead-ms" not in answer.headers
    assert (await client.get("/metrics")).status_code == 404


async def test_a_callers_trace_goes_on_in_the_run_and_is_stored_with_it() -> None:
    exporter = InMemorySpanExporter()
    async with open_client(otel=Traces(exporter, at_once=True)) as (client, service):
        run = (await client.post("/v1/runs?wait=30", json=BODY, headers={"traceparent": CALLER})).json()
        other = (await client.post("/v1/runs?wait=30", json=BODY)).json()
        stored = await service.gateway.get(run["id"])
        assert stored.traceparent == CALLER
        assert (await service.gateway.get(other["id"])).traceparent is None
        long = (await client.post("/v1/runs", json=BODY, headers={"traceparent": "0" * 60_000})).json()
        assert (await service.gateway.get(long["id"])).traceparent is None
    whole = [span for span in exporter.get_finished_spans() if span.name == "run echo"]
    spans = {(span.attributes or {})["gateway.run.id"]: span for span in whole}
    caller = re.fullmatch(r"00-(\w{32})-(\w{16})-01", CALLER)
    assert caller is not None
    first, second = spans[run["id"]], spans[other["id"]]
    assert first.parent is not None
    assert (f"{first.context.trace_id:032x}", f"{first.parent.span_id:016x}") == caller.groups()
    assert second.parent is None
    assert second.context.trace_id != first.context.trace_id
