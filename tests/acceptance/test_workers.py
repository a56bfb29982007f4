"""Two workers of one server: each tells what the other knows."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from served import get, give, is_sent, list_children, make_client, serving
from terminal import Terminal, wait_until

from gateway.server.workers import Family

TEXT = " ".join(f"word{number}" for number in range(40))


@contextmanager
def two_workers(
    terminal: Terminal, **settings: str
) -> Iterator[tuple[subprocess.Popen[str], list[int], list[httpx2.Client]]]:
    """Serve with two workers; gives the parent, the workers' ids, and a client that is connected to each."""
    path = terminal.folder / "workers.toml"
    text = (terminal.folder / "gateway.toml").read_text(encoding="utf-8")
    words = "".join(f"{name} = {value}\n" for name, value in settings.items())
    path.write_text(f"{text}\n[server]\n{words}", encoding="utf-8")
    with serving(terminal, "--workers", "2", "--config", str(path)) as (process, client):
        wait_until(lambda: len(list_children(process.pid)) == 2, "both workers are there")
        workers = list_children(process.pid)
        assert client.get("/healthz").status_code == 200
        with ExitStack() as stack:
            clients = [stack.enter_context(make_client(client.base_url)) for _ in workers]
            for other, mine in zip(reversed(workers), clients, strict=True):
                connect_while_stopped(other, mine)
            yield process, workers, clients


def connect_while_stopped(pid: int, client: httpx2.Client) -> None:
    """Connect a client to any worker but this one; the connection is kept."""
    os.kill(pid, signal.SIGSTOP)
    try:
        assert client.get("/healthz").status_code == 200
    finally:
        os.kill(pid, signal.SIGCONT)


def read_pieces(client: httpx2.Client, run_id: str, after: str | None = None) -> list[tuple[str, Any]]:
    """Read a run's events to its end; returns id and data of each."""
    headers = {} if after is None else {"last-event-id": after}
    with client.stream("GET", f"/v1/runs/{run_id}/events", headers=headers) as events:
        return parse_events("\n".join(events.iter_lines()))


def parse_events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            found.append((fields["id"], json.loads(fields["data"])))
    return found


@pytest.mark.parametrize("at", [0, 1])
def test_a_stream_is_read_whole_at_either_worker(terminal: Terminal, at: int) -> None:
    with two_workers(terminal) as (_, _, clients):
        asked = {"text": TEXT, "delay_seconds": 0.05}
        run = give(clients[0], "words", input=asked, stream=True, backend="hosted")
        events = read_pieces(clients[at], run["id"])
        assert events[-1][1]["kind"] == "end"
        assert len([event for _, event in events if event["kind"] == "piece"]) > 20
        middle = events[len(events) // 2][0]
        rest = read_pieces(clients[at], run["id"], middle)
        assert rest == events[len(events) // 2 + 1 :]
        assert read_pieces(clients[1 - at], run["id"]) == events


def test_who_reads_at_the_other_worker_survives_the_death_of_the_one_that_works(terminal: Terminal) -> None:
    with two_workers(terminal) as (_, workers, clients):
        run = give(clients[0], "sleep", input={"seconds": 2, "mark": "beside"}, backend="hosted")
        wait_until(lambda: is_sent(clients[1], run["id"]), "the job was sent")
        with clients[1].stream("GET", f"/v1/runs/{run['id']}/events") as events:
            lines = events.iter_lines()
            assert next(lines).startswith("retry")
            os.kill(workers[0], signal.SIGKILL)
            told = [event for _, event in parse_events("\n".join(lines))]
        assert (told[-1]["kind"], told[-1]["status"]) == ("end", "COMPLETED")
        assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
        assert get(clients[1], run["id"])["status"] == "COMPLETED"
    assert len(terminal.list_accepted("mark", "beside")) == 1


def test_metrics_are_of_all_workers_whoever_is_asked(terminal: Terminal) -> None:
    begun = re.compile(r'gateway_runs_begun_total\{worker="(\d)",model="echo"\} (\d+)')
    with two_workers(terminal, metrics='"open"') as (process, workers, clients):
        for client, count in zip(clients, (2, 3), strict=True):
            for number in range(count):
                give(client, "echo", wait=30, input={"text": str(number)})
        texts = [client.get("/metrics").text for client in clients]
        for text in texts:
            assert sorted(int(count) for _, count in begun.findall(text)) == [2, 3]
            heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
            assert len(heads) == len(set(heads))
            assert re.search(r'gateway_runs_in_flight\{worker="2"\} 0\n', text)
            assert all('{worker="' in line for line in text.splitlines() if not line.startswith("#"))
        (dead,) = [worker for worker, count in begun.findall(texts[0]) if count == "3"]
        os.kill(workers[1], signal.SIGKILL)
        wait_until(lambda: workers[1] not in list_children(process.pid), "it is dead")
        assert [count for _, count in begun.findall(clients[0].get("/metrics").text)] == ["2"]
        is_back = re.compile(rf'gateway_runs_in_flight\{{worker="{dead}"\}}')
        wait_until(lambda: bool(is_back.search(clients[0].get("/metrics").text)), "another is in its place")


def test_nothing_is_left_of_what_the_workers_shared(terminal: Terminal, tmp_path: Path) -> None:
    with serving(terminal, "--workers", "2", env={**os.environ, "TMPDIR": str(tmp_path)}):
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        wait_until(lambda: len(list(folder.iterdir())) == 2, "both workers listen")
    assert not list(tmp_path.iterdir())


def test_a_dead_worker_is_replaced_where_nobody_reads_what_the_server_says(terminal: Terminal) -> None:
    with two_workers(terminal) as (process, workers, _):
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: workers[0] not in list_children(process.pid), "it is gone")
        wait_until(lambda: len(list_children(process.pid)) == 2, "another worker takes its place")


@pytest.mark.anyio
async def test_a_worker_that_can_not_be_started_ends_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refused = asyncio.create_subprocess_exec, asyncio.Event()

    async def refuse_once(*words: str, **options: Any) -> asyncio.subprocess.Process:
        if not refused.is_set():
            refused.set()
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return await start(sys.executable, "-c", "import time; time.sleep(60)")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse_once)
    with socket.socket() as listening:
        family = Family([], listening, tmp_path, seconds=10)
        keeping = asyncio.create_task(family.keep_one(1))
        while not family._workers and not keeping.done():  # noqa: ASYNC110  nobody tells of it
            await asyncio.sleep(0.01)
        family.stop()
        await keeping
