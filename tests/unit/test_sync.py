"""The synchronous face: the same methods, from any thread, and an interpreter that ends."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway import AsyncGateway, Gateway, NoBackend, Status, Task, run
from gateway.errors import Unusable
from gateway.testing import FakeAdapter

MODELS = {"m": {"targets": {"a": {"app": "echo"}}}}
QUICK = [(0.0, Status.COMPLETED)]


def test_every_method_has_its_twin() -> None:
    names = {name for name in dir(AsyncGateway) if not name.startswith("_")}
    names -= {"aclose", "from_settings"}  # its own word is close; and who serves a configuration is async
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
from gateway.errors import Unusable
from gateway.testing import FakeAdapter
a = FakeAdapter("a", steps=[(0.0, Status.COMPLETED)])
gateway = Gateway([a], {MODELS!r}, store="sqlite:///{tmp_path / "runs.db"}")
print(gateway.run(Task(model="m", input="out")).output)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "", 0)


def test_what_is_closed_says_so_and_is_closed_again_without_harm() -> None:
    gateway = Gateway([FakeAdapter("a", steps=QUICK)], MODELS)
    run = gateway.submit(Task(model="m", input=1))
    events = gateway.events(run.id)
    next(events)
    gateway.close()
    gateway.close()
    for call in (
        lambda: gateway.run(Task(model="m", input=1)),
        lambda: gateway.get(run.id),
        lambda: next(events),
        gateway.backends,
        gateway.health,
    ):
        with pytest.raises(Unusable, match="closed"):
            call()
    assert list(gateway.models) == ["m"]


def test_a_close_ends_what_other_threads_wait_for() -> None:
    gateway = Gateway([FakeAdapter("a", steps=[(3600.0, Status.COMPLETED)])], MODELS)
    run = gateway.submit(Task(model="m", input=1))
    next(gateway.events(run.id))

    def listen() -> None:
        for _ in gateway.events(run.id):
            heard.set()

    heard = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        waits = [pool.submit(gateway.wait, run.id), pool.submit(listen)]
        assert heard.wait(30)
        gateway.close()
        for wait in waits:
            with pytest.raises(Unusable, match="closed"):
                wait.result(30)


def test_asyncio_says_what_is_closed_and_what_is_another_loops() -> None:
    gateway = AsyncGateway([FakeAdapter("a", steps=QUICK)], MODELS)

    async def run() -> None:
        await gateway.run(Task(model="m", input=1))

    async def close() -> None:
        await gateway.aclose()
        await gateway.aclose()
        with pytest.raises(Unusable, match="closed"):
            await gateway.submit(Task(model="m", input=1))

    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(run())
        with pytest.raises(Unusable, match="another event loop"):
            other.run(run())
        one.run(close())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_process_makes_its_own(tmp_path: Path) -> None:
    code = f"""
    import os, sys
    import gateway.sync
    from gateway import AsyncGateway, Gateway, Status, Task, run
    from gateway.errors import Unusable
    from gateway.testing import FakeAdapter

    def make(*_):
        steps = [(0.0, Status.COMPLETED)]
        adapter = FakeAdapter("a", steps=steps)
        return AsyncGateway([adapter], {MODELS!r}, store="sqlite:///{tmp_path / "runs.db"}")

    AsyncGateway.from_config = make
    ours = Gateway.from_config()
    for gate in (ours, gateway.sync):
        assert gate.run(Task(model="m", input="parent")).output == "parent"
    if os.fork() == 0:
        assert run(Task(model="m", input="child")).output == "child"
        try:
            ours.run(Task(model="m", input="child"))
        except Unusable as error:
            print(error)
        sys.exit(3)
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("this gateway belongs to another process: make one in each\n", "")
    assert done.returncode == 3
