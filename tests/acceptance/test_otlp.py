"""Traces and metrics as a collector gets them: over OTLP, from `gateway serve` as a process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from served import give, serving
from terminal import Terminal, wait_until

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OBSERVED = """
[server]
overhead_header = true

[observability]
traces = "otlp"
metrics = "otlp"
"""


@dataclass
class Collector:
    """What has come, decoded: spans by their names, and the newest points of each metric."""

    url: str = ""
    services: set[str] = field(default_factory=set)
    spans: list[Any] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.services.add(read(resource.resource.attributes)["service.name"])
                for scope in resource.scope_spans:
                    self.spans += scope.spans
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    self.metrics |= {metric.name: metric for metric in scope.metrics}

    def find(self, name: str, trace_id: str) -> list[Any]:
        return [span for span in self.spans if span.name == name and span.trace_id.hex() == trace_id]


def read(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def test_a_collector_gets_every_span_and_number(terminal: Terminal, collector: Collector) -> None:
    text = (terminal.folder / "gateway.toml").read_text(encoding="utf-8")
    (terminal.folder / "otlp.toml").write_text(text + OBSERVED, encoding="utf-8")
    env = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "told",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
    }
    with serving(terminal, "--config", "otlp.toml", env=env) as (_, client):
        client.headers["traceparent"] = CALLER
        terminal.say("devnet", "fault", "hosted", "rate_limit", "--on", "submit")
        run = give(client, "sentiment", wait=30, input={"text": "fine"}, backend=["hosted", "node1"])
        assert run["status"] == "COMPLETED"
        wait_until(lambda: "gateway.runs_ended" in collector.metrics, "a metric has come while it runs")
        answer = client.get("/v1/models")
        assert 0 <= float(answer.headers["x-gateway-overhead-ms"]) < 60_000
    check_spans(collector, run)
    check_metrics(collector)


def check_spans(collector: Collector, run: Any) -> None:
    trace_id = CALLER.split("-")[1]
    (whole,) = collector.find("run sentiment", trace_id)
    assert whole.parent_span_id.hex() == CALLER.split("-")[2]
    told = read(whole.attributes)
    assert (told["gateway.run.id"], told["gateway.run.status"]) == (run["id"], "completed")
    assert told["gen_ai.request.model"] == "sentiment"
    assert len(run["attempts"]) > 1
    for attempt in run["attempts"]:
        backend = attempt["backend"]
        (span,) = [
            span
            for span in collector.find(f"attempt {backend}", trace_id)
            if read(span.attributes)["gateway.attempt.id"] == attempt["id"]
        ]
        assert span.parent_span_id == whole.span_id
        assert read(span.attributes)["gateway.attempt.number"] == attempt["number"]
        assert read(span.attributes)["gateway.attempt.status"] == attempt["status"]
        assert whole.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        calls = [one for one in collector.spans if one.parent_span_id == span.span_id]
        assert {f"prepare {backend}", f"submit {backend}"} <= {one.name for one in calls}
        assert all(read(one.attributes)["gateway.backend"] == backend for one in calls)
    assert collector.services == {"told"}
    assert not [span for span in collector.spans if "fine" in str(span)]


def check_metrics(collector: Collector) -> None:
    ended = collector.metrics["gateway.runs_ended"].sum
    assert ended.is_monotonic
    counts = {
        read(point.attributes)["status"]: point.as_double or point.as_int for point in ended.data_points
    }
    assert counts == {"completed": 1}
    (took,) = collector.metrics["gateway.run"].histogram.data_points
    assert (collector.metrics["gateway.run"].unit, took.count) == ("s", 1)
    assert took.explicit_bounds[-1] == 7200.0
    calls = collector.metrics["gateway.backend_calls"].sum.data_points
    assert {"hosted", "node1"} <= {read(point.attributes)["backend"] for point in calls}
    (own,) = collector.metrics["gateway.overhead"].histogram.data_points
    assert own.count == 1
    assert 0 < own.sum < took.sum + 60
