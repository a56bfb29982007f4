"""Several gateway processes over one PostgreSQL: killed, stopped, replaced; counted at the backend."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal, kill, read_until, running_devnet, wait_until

from gateway.lifecycle import Status
from gateway.store import make_store
from gateway.store.protocol import SHARED_LEASE_LASTS, RunFilter
from gateway.task import Run
from gateway.testing.postgres import LocalPostgres

_BUDGET = """
import asyncio, sys
from gateway import AsyncGateway, NoBackend, Run, RunFailed, Task

async def main() -> None:
    async with AsyncGateway.from_config() as gateway:
        print("ready", flush=True)
        sys.stdin.readline()
        tasks = [gateway.run(Task(model="paid", input={"n": n})) for n in range(100)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, (Run, RunFailed, NoBackend)) for one in found), found
        print("done", sum(isinstance(one, Run) for one in found), flush=True)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalPostgres]:
    with LocalPostgres() as server:
        yield server


@pytest.fixture
def place(postgres: LocalPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal beside a devnet of its own, with a fresh store whose address is a secret."""
    monkeypatch.setenv("GATEWAY_STORE", postgres.make_url(f"machines_{os.getpid()}_{tmp_path.name}"))
    with running_devnet(tmp_path, "--no-chain") as terminal:
        config = tmp_path / "gateway.toml"
        text = config.read_text(encoding="utf-8")
        assert 'store = "sqlite:///runs.db"' in text
        config.write_text(text.replace('store = "sqlite:///runs.db"', 'store = "env:GATEWAY_STORE"'))
        try:
            yield terminal
        finally:
            terminal.close()


def start_worker(place: Terminal) -> subprocess.Popen[str]:
    worker = place.start("worker")
    read_until(worker.stdout, "working")
    return worker


def submit(place: Terminal, seconds: float, count: int) -> list[str]:
    """Give tasks away, each to run for so long, and let go of them."""
    given = '{"seconds": %s}' % seconds  # noqa: UP031  braces
    words = ("submit", "sleep", "--backend", "node1", "--input", given, "--quiet")
    return [place.say(*words).strip() for _ in range(count)]


def load_runs() -> dict[str, Run]:
    """Return every run of the store, as it is."""

    async def load() -> dict[str, Run]:
        store = make_store(os.environ["GATEWAY_STORE"])
        await store.open()
        try:
            return {run.id: run for run in await store.list_runs(RunFilter(limit=1000))}
        finally:
            await store.aclose()

    return asyncio.run(load())


def wait_for_all(runs: list[str]) -> None:
    def are_done() -> bool:
        found = load_runs()
        for run in runs:
            assert found[run].failure is None, found[run]
        return all(found[run].status is Status.COMPLETED for run in runs)

    try:
        wait_until(are_done, "all are completed")
    except AssertionError as error:
        raise AssertionError(f"{error}: {load_runs()}") from error


def count_accepted(place: Terminal) -> int:
    return len(place.ask("devnet", "journal"))


def test_a_worker_that_is_killed_is_replaced_by_another(place: Terminal) -> None:
    """Its runs move on elsewhere, though its lease is not over: its death is seen on the same machine."""
    first = start_worker(place)
    runs = submit(place, 3, 3)
    wait_until(lambda: count_accepted(place) == 3, "all are accepted")
    second = start_worker(place)
    kill(first)
    wait_for_all(runs)
    assert count_accepted(place) == 3
    second.terminate()
    out, errors = second.communicate(timeout=60)
    assert (second.returncode, errors) == (0, "")
    assert "giving back" in out


def test_a_paused_worker_that_wakes_up_can_not_act(place: Terminal) -> None:
    """Its lease is over, another has its runs: whatever it writes then is refused."""
    first = start_worker(place)
    runs = submit(place, 2 * SHARED_LEASE_LASTS.total_seconds(), 2)
    wait_until(lambda: count_accepted(place) == 2, "both are accepted")
    first.send_signal(signal.SIGSTOP)
    second = start_worker(place)
    wait_for_all(runs)
    first.send_signal(signal.SIGCONT)
    more = submit(place, 0, 1)
    wait_for_all(more)
    for worker in (first, second):
        worker.terminate()
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    assert count_accepted(place) == 3
    for run in runs:
        passed = [status for status, _ in load_runs()[run].passed]
        assert passed.count(Status.COMPLETED) == 1


def test_a_rolling_restart_loses_nothing(place: Terminal) -> None:
    """Workers are replaced one after the other while runs go on."""
    worker = start_worker(place)
    runs: list[str] = []
    for _ in range(3):
        runs += submit(place, 1.5, 2)
        successor = start_worker(place)
        worker.terminate()
        worker.communicate(timeout=60)
        assert worker.returncode == 0
        worker = successor
    wait_for_all(runs)
    assert count_accepted(place) == len(runs)


@pytest.mark.parametrize("away_seconds", [0, 12])
def test_runs_go_on_when_the_database_comes_back(
    place: Terminal, postgres: LocalPostgres, away_seconds: float
) -> None:
    """After a moment, and after longer than a write is tried again for."""
    worker = start_worker(place)
    runs = submit(place, 1, 3)
    postgres.stop(signal.SIGQUIT)
    time.sleep(away_seconds)
    postgres.start()
    runs += submit(place, 0, 2)
    wait_for_all(runs)
    assert count_accepted(place) == 5
    worker.terminate()
    worker.communicate(timeout=60)
    assert worker.returncode == 0


def test_two_processes_keep_one_budget(place: Terminal) -> None:
    """Two hundred tasks against a budget for fifty: fifty go through, and are all that was accepted."""
    config = place.folder / "gateway.toml"
    config.write_text(
        config.read_text(encoding="utf-8")
        + '\n[models.paid.targets]\nhosted = { app = "demo/echo", cost = "0.01 USD" }\n'
        + '\n[[budgets]]\nlimit = "0.50 USD"\nper = "total"\n'
    )
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _BUDGET], cwd=place.folder, stdin=pipe, stdout=pipe, text=True
        )
        for _ in range(2)
    ]
    place.started.extend(processes)
    for process in processes:
        read_until(process.stdout, "ready")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()
    done = [int(read_until(process.stdout, "done").split()[1]) for process in processes]
    for process in processes:
        assert process.wait(60) == 0
    assert sum(done) == 50
    assert count_accepted(place) == 50


def test_the_password_is_shown_nowhere(
    place: Terminal, postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = place.type("doctor")
    assert "postgresql://gateway@127.0.0.1" in told.stdout
    monkeypatch.setenv("GATEWAY_STORE", os.environ["GATEWAY_STORE"].replace(postgres.password, "not-it"))
    refused = place.type("runs", "--debug")
    assert refused.returncode == 2
    assert "authentication failed" in refused.stderr
    for text in (told.stdout, told.stderr, refused.stdout, refused.stderr):
        assert postgres.password not in text
        assert "not-it" not in text
