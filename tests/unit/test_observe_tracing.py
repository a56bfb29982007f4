"""Spans of runs: what is whose part, also over a failover, a restart and copies of a run."""

from __future__ import annotations

import json

import pytest
from engine_setup import make_task, open_gateway, run_to_end
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from gateway import AsyncGateway
from gateway.observe.context import INCOMING, get_trace_headers
from gateway.observe.tracing import Traces, encode_traceparent, parse_traceparent
from gateway.store.memory import MemoryStore
from gateway.task import Envelope, Handle
from gateway.testing import FakeAdapter, FakeClock, Fault

pytestmark = pytest.mark.anyio

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def watch(gateway: AsyncGateway, exporter: InMemorySpanExporter, *propagate: str) -> None:
    gateway._engine.observe(Traces(exporter, at_once=True, propagate=propagate))


def find(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return span


def read(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def get_parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


async def test_a_run_with_a_failover_has_its_spans(exporter: InMemorySpanExporter) -> None:
    broken, good = FakeAdapter("broken"), FakeAdapter("good")
    broken.backend.arm(Fault.REJECT)
    async with open_gateway(broken, good, clock=FakeClock()) as gateway:
        watch(gateway, exporter)
        run = await run_to_end(gateway, make_task(), ["broken", "good"])
    assert [attempt.backend for attempt in run.attempts] == ["broken", "good"]
    whole = find(exporter, "run m")
    first, second = find(exporter, "attempt broken"), find(exporter, "attempt good")
    assert whole.parent is None
    assert get_parent(first) == get_parent(second) == whole.context.span_id
    assert get_parent(find(exporter, "submit broken")) == first.context.span_id
    assert get_parent(find(exporter, "submit good")) == second.context.span_id
    assert read(find(exporter, "submit broken"))["error.type"] == "Rejected"
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is whole.status.status_code is StatusCode.UNSET
    spans = exporter.get_finished_spans()
    assert {span.context.trace_id for span in spans} == {whole.context.trace_id}
    assert any(span.name == "poll good" and get_parent(span) == second.context.span_id for span in spans)
    assert read(whole)["gen_ai.request.model"] == "m"
    assert read(second)["gen_ai.provider.name"] == "good"
    handle = run.attempts[1].handle
    assert handle is not None
    assert read(second)["gen_ai.response.id"] == handle.job_id
    assert "hello" not in json.dumps([read(span) for span in spans])


async def test_a_trace_goes_on_after_a_restart(exporter: InMemorySpanExporter) -> None:
    store, clock = MemoryStore(), FakeClock()
    adapter = FakeAdapter("a", clock=clock)
    token = INCOMING.set(CALLER)
    async with open_gateway(adapter, clock=clock, store=store) as gateway:
        watch(gateway, exporter)
        run = await gateway.submit(make_task())
        while not [attempt for attempt in (await gateway.get(run.id)).attempts if attempt.handle]:
            await clock.sleep(0.001)
        await gateway._engine._worker.aclose()
    INCOMING.reset(token)
    submitted = find(exporter, "submit a")
    later = InMemorySpanExporter()
    async with open_gateway(
        FakeAdapter("a", backend=adapter.backend, clock=clock), clock=clock, store=store
    ) as gateway:
        watch(gateway, later)
        await gateway.recover()
        await gateway.wait(run.id)
    whole, attempt = find(later, "run m"), find(later, "attempt a")
    assert whole.parent is not None
    assert encode_traceparent(whole.parent) == CALLER
    assert get_parent(attempt) == whole.context.span_id
    assert get_parent(submitted) == attempt.context.span_id
    assert submitted.context.trace_id == whole.context.trace_id


class Asking(FakeAdapter):
    """Notes what an HTTP adapter would send along."""

    sent: dict[str, str] | None = None

    async def submit(self, envelope: Envelope) -> Handle:
        self.sent = get_trace_headers()
        return await super().submit(envelope)


@pytest.mark.parametrize("told", [("a",), ("*",), ("another",), ()])
async def test_only_backends_that_are_named_hear_of_the_trace(
    exporter: InMemorySpanExporter, told: tuple[str, ...]
) -> None:
    adapter = Asking("a")
    async with open_gateway(adapter, clock=FakeClock()) as gateway:
        watch(gateway, exporter, *told)
        await run_to_end(gateway, make_task())
    span = find(exporter, "submit a")
    if told in {("a",), ("*",)}:
        place = parse_traceparent((adapter.sent or {})["traceparent"])
        assert place is not None
        assert (place.trace_id, place.span_id) == (span.context.trace_id, span.context.span_id)
    else:
        assert adapter.sent is None
    assert get_trace_headers() is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "ff" + CALLER[2:],
        CALLER + "-more",
        CALLER.upper(),
    ],
)
def test_what_is_no_traceparent_leads_nowhere(text: str | None) -> None:
    assert parse_traceparent(text) is None


def test_a_traceparent_is_read_and_written_alike() -> None:
    place = parse_traceparent(CALLER)
    assert place is not None
    assert encode_traceparent(place) == CALLER
