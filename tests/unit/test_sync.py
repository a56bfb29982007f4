"""The synchronous face: the same methods, from any thread, and an interpreter that ends."""

from __future__ import annotations

import inspect
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway import AsyncGateway, Gateway, NoBackend, Status, Task, run
from gateway.testing import FakeAdapter

MODELS = {"m": {"targets": {"a": {"app": "echo"}}}}
QUICK = [(0.0, Status.COMPLETED)]


def test_every_method_has_its_twin() -> None:
    names = {name for name in dir(AsyncGateway) if not name.startswith("_")} - {"aclose"}
    assert names <= {name for name in dir(Gateway) if not name.startswith("_")}
    for name in names - {"models", "from_config"}:
        parameters = inspect.signature(getattr(AsyncGateway, name)).parameters
        assert inspect.signature(getattr(Gateway, name)).parameters == parameters


def test_the_short_call_takes_what_the_method_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    method = dict(inspect.signature(Gateway.run).parameters)
    del method["self"]
    assert dict(inspect.signature(run).parameters) == method
    with Gateway([FakeAdapter("a", steps=QUICK)], MODELS) as gateway:
        monkeypatch.setattr("gateway.sync.get_default", lambda: gateway)
        first = run(Task(model="m", input=1), "a", timeout=30.0, idempotency_key="k", api_key="me")
        again = run(Task(model="m", input=1), "a", idempotency_key="k", api_key="me")
    assert (first.id, first.idempotency_key, first.api_key) == (again.id, "k", "me")


def test_runs_from_many_threads() -> None:
    a = FakeAdapter("a", steps=QUICK)
    with Gateway([a], MODELS) as gateway, ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda n: gateway.run(Task(model="m", input=n)), range(20)))
    assert sorted(run.output for run in runs) == list(range(20))
    assert a.closed == 1


def test_events_are_iterated() -> None:
    with Gateway([FakeAdapter("a", steps=QUICK)], MODELS) as gateway:
        run = gateway.submit(Task(model="m", input=1))
        assert [event.status for event in gateway.events(run.id)][-1] is Status.COMPLETED
        assert gateway.map([Task(model="m", input=n) for n in range(3)])[2].output == 2


def test_errors_come_through() -> None:
    a = FakeAdapter("a")
    a.backend.is_down = True
    with Gateway([a], MODELS) as gateway, pytest.raises(NoBackend):
        gateway.run(Task(model="m", input=1))


def test_a_gateway_that_nobody_closes_lets_the_interpreter_end(tmp_path: Path) -> None:
    code = f"""
from gateway import Gateway, Status, Task
from gateway.testing import FakeAdapter
a = FakeAdapter("a", steps=[(0.0, Status.COMPLETED)])
gateway = Gateway([a], {MODELS!r}, store="sqlite:///{tmp_path / "runs.db"}")
print(gateway.run(Task(model="m", input="out")).output)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "", 0)
