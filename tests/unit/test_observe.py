"""Counting, timing and logging, apart from servers and traces."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_setup import make_task, open_gateway, run_to_end

from gateway.config import load
from gateway.observe.context import WORKING_ON
from gateway.observe.logs import JsonLines, TextLines
from gateway.observe.metrics import Metrics
from gateway.observe.registry import MOST_CHILDREN, Registry, merge, write_gauge
from gateway.observe.stopwatch import OF_REQUEST, Stopwatch, wait_for_run
from gateway.task import Envelope, Handle, Run
from gateway.testing import FakeAdapter, FakeClock, Fault

pytestmark = pytest.mark.anyio


def test_a_histogram_counts_up_to_each_bound() -> None:
    registry = Registry()
    child = registry.make_histogram("h_seconds", "told", (0.1, 1.0), "where").get('a"b\\c\n')
    for value in (0.1, 0.5, 3.0):
        child.observe(value)
    assert registry.write().splitlines() == [
        "# HELP h_seconds told",
        "# TYPE h_seconds histogram",
        r'h_seconds_bucket{where="a\"b\\c\n",le="0.1"} 1',
        r'h_seconds_bucket{where="a\"b\\c\n",le="1"} 2',
        r'h_seconds_bucket{where="a\"b\\c\n",le="+Inf"} 3',
        r'h_seconds_sum{where="a\"b\\c\n"} 3.6',
        r'h_seconds_count{where="a\"b\\c\n"} 3',
    ]


def test_a_family_keeps_no_more_children_than_it_may() -> None:
    registry = Registry()
    family = registry.make_counter("c_total", "told", "word")
    for number in range(MOST_CHILDREN + 50):
        family.get(str(number)).add()
    lines = registry.write().splitlines()
    assert len(lines) == 2 + MOST_CHILDREN + 1
    assert lines[-1] == 'c_total{word="other"} 50'


def test_a_gauge_is_written_as_it_is_now() -> None:
    assert write_gauge("g", "told", (), [((), 2)]) == "# HELP g told\n# TYPE g gauge\ng 2\n"


def test_texts_of_several_are_one_with_whose_each_line_is() -> None:
    texts = {}
    for name in ("1", "2"):
        registry = Registry()
        registry.make_counter("a_total", "Told.", "model").get('{odd} "name" 7').add(int(name))
        if name == "2":
            registry.make_counter("b_total", "Told too.").get().add()
        texts[name] = registry.write()
    assert merge(texts, "worker").splitlines() == [
        "# HELP a_total Told.",
        "# TYPE a_total counter",
        'a_total{worker="1",model="{odd} \\"name\\" 7"} 1',
        'a_total{worker="2",model="{odd} \\"name\\" 7"} 2',
        "# HELP b_total Told too.",
        "# TYPE b_total counter",
        'b_total{worker="2"} 1',
    ]
    assert merge({}, "worker") == ""


def test_a_name_with_odd_spaces_stays_in_its_line() -> None:
    registry = Registry()
    registry.make_counter("c_total", "told", "model").get("a\rb\x0cc\x85d\u2028e").add()
    merged = merge({"1": registry.write()}, "worker")
    assert merged.split("\n")[2:] == ['c_total{worker="1",model="a\rb\x0cc\x85d\u2028e"} 1', ""]


async def test_doubt_failover_and_money_are_counted() -> None:
    registry = Registry()
    doubtful, good = FakeAdapter("doubtful"), FakeAdapter("good")
    doubtful.backend.arm(Fault.LOSE_REQUEST)
    doubtful.backend.arm(Fault.FAIL_JOB)
    async with open_gateway(doubtful, good, clock=FakeClock(), on_failed="next") as gateway:
        gateway._engine.observe(Metrics(registry))
        run = await run_to_end(gateway, make_task(on_failed="next"), ["doubtful", "good"])
    assert [attempt.backend for attempt in run.attempts] == ["doubtful", "good"]
    told = registry.write().splitlines()
    assert 'gateway_attempts_in_doubt_total{backend="doubtful"} 1' in told
    assert 'gateway_attempts_ended_total{backend="doubtful",outcome="failed"} 1' in told
    assert 'gateway_attempts_ended_total{backend="good",outcome="succeeded"} 1' in told
    assert 'gateway_runs_ended_total{status="completed",model="m",backend="good"} 1' in told
    assert 'gateway_backend_calls_total{backend="doubtful",operation="submit",outcome="InDoubt"} 1' in told
    assert 'gateway_backend_calls_total{backend="doubtful",operation="recover",outcome="ok"} 1' in told


def test_a_request_counts_only_what_its_run_waited_for() -> None:
    of_run = Stopwatch()
    of_run.add_away(100.0)  # before the request came
    token = OF_REQUEST.set(Stopwatch())
    try:
        with wait_for_run(lambda: of_run):
            of_run.add_away(5.0)
        watch = OF_REQUEST.get()
        assert watch is not None
        waited = watch.get_away_seconds()
        assert 0 < waited < 5.0  # never more than the time that passed
        with wait_for_run(lambda: None):
            pass
        assert watch.get_away_seconds() > waited
    finally:
        OF_REQUEST.reset(token)


@dataclass
class Working:
    run: Run


async def test_lines_of_the_log_have_the_ids_of_what_they_are_about() -> None:
    async with open_gateway(FakeAdapter("a"), clock=FakeClock()) as gateway:
        run = await run_to_end(gateway, make_task())

    error = ValueError("bad\n\x1b[2Jnews")
    record = logging.LogRecord(
        "gateway", logging.WARNING, "x.py", 1, "run %s", ("ran",), (ValueError, error, None)
    )
    bare = json.loads(JsonLines().format(record))
    token = WORKING_ON.set(Working(run))
    try:
        line = json.loads(JsonLines().format(record))
        text = TextLines().format(record)
    finally:
        WORKING_ON.reset(token)
    assert "run_id" not in bare
    assert (line["run_id"], line["attempt_id"], line["backend"]) == (run.id, run.attempts[0].id, "a")
    assert (line["level"], line["message"], line["error"]) == ("warning", "run ran", "ValueError")
    assert "bad\n\x1b[2Jnews" in line["traceback"]
    assert text.endswith(
        f"run ran: ValueError: bad  [2Jnews run_id={run.id} attempt_id={run.attempts[0].id} backend=a"
    )


class Complaining(FakeAdapter):
    """Logs while it submits, as an adapter may."""

    async def submit(self, envelope: Envelope) -> Handle:
        logging.getLogger("gateway").warning("this takes long")
        return await super().submit(envelope)


async def test_what_is_logged_while_a_run_is_worked_on_has_its_ids() -> None:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonLines())
    logging.getLogger("gateway").addHandler(handler)
    try:
        async with open_gateway(Complaining("a"), clock=FakeClock()) as gateway:
            run = await run_to_end(gateway, make_task())
    finally:
        logging.getLogger("gateway").removeHandler(handler)
    (line,) = [json.loads(line) for line in lines.getvalue().splitlines() if "this takes long" in line]
    assert (line["run_id"], line["attempt_id"]) == (run.id, run.attempts[0].id)


OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("traces", "env", "expected"),
    [
        (None, {}, "off"),
        (None, {OTLP: "http://localhost:4318"}, "otlp"),
        (None, {OTLP: "http://localhost:4318", "OTEL_SDK_DISABLED": "true"}, "off"),
        (None, {OTLP: "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"}, "off"),
        ("off", {OTLP: "http://localhost:4318"}, "off"),
        ("console", {}, "console"),
    ],
)
def test_traces_are_written_where_the_configuration_or_the_environment_says(
    tmp_path: Path, traces: str | None, env: dict[str, str], expected: str
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("" if traces is None else f'[observability]\ntraces = "{traces}"\n')
    assert load(path, env).observability.traces == expected


def test_nobody_who_wants_no_traces_loads_what_writes_them() -> None:
    code = (
        "import sys; from gateway.config import ObservabilitySettings;"
        " from gateway.observe.making import make_observer; import gateway.server.app, gateway.engine.engine;"
        " assert make_observer(ObservabilitySettings()) is None;"
        " sys.exit('it is loaded' if any(name.startswith('opentelemetry') for name in sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
