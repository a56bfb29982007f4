"""Several processes over one file, and a process that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.store.protocol import RunFilter
from gateway.store.sqlite import SqliteStore
from gateway.testing.store_promises.samples import make_run

pytestmark = pytest.mark.anyio

_BEGIN = """
import asyncio, sys
from gateway.store.protocol import RunFilter
from gateway.store.sqlite import SqliteStore
from gateway.task import Task
from gateway.testing.store_promises.samples import HERE, START_AT, after, make_event, make_run

async def main(path, name):
    store = SqliteStore(path)
"""
_CREATE_AND_STAY = """
    await store.open()
    fence = await store.create(make_run(Task(model="m", input="kept"), id="run_kept"), owner="killed")
    print("created", flush=True)
    if name == "events":
        run = await store.get("run_kept")
        for seq in range(1, 1_000_000):
            await store.save(run, fence=fence, events=[make_event(run, seq)])
            print(seq, flush=True)
    await asyncio.sleep(600)
"""
_CLAIM = """
    sys.stdin.readline()
    await store.open()
    await store.beat(name, until=after(600))
    for number in range(10):
        await store.create(make_run(id=f"run_{name}_{number}"), owner=name)
    while claimed := await store.claim(name, HERE, now=START_AT, limit=3):
        for one in claimed:
            await store.save(one.run, fence=one.fence, events=[make_event(one.run, 1)])
            print(one.run.id)
    await store.aclose()
"""
_END = "\nasyncio.run(main(*sys.argv[1:]))\n"


def start(code: str, path: Path, name: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", _BEGIN + code + _END, str(path), name], stdin=pipe, stdout=pipe, text=True
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


async def test_kill_9_right_after_create_leaves_the_run(path: Path) -> None:
    with start(_CREATE_AND_STAY, path, "once") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "created\n"
        process.kill()
    store = SqliteStore(path)
    await store.open()
    run = await store.get("run_kept")
    assert run.task.input == "kept"
    assert await store.list_owners() == ["killed"]
    await store.aclose()


async def test_kill_9_among_writes_keeps_all_that_were_done(path: Path) -> None:
    with start(_CREATE_AND_STAY, path, "events") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "created\n"
        told = [process.stdout.readline() for _ in range(30)]
        process.kill()
        told += process.stdout.readlines()
    done = max(int(line) for line in told if line.endswith("\n"))
    store = SqliteStore(path)
    await store.open()
    seqs = [event.seq for event in await store.list_events("run_kept")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert done <= len(seqs) <= done + 1
    await store.aclose()


async def test_processes_of_one_file_never_share_a_run(path: Path) -> None:
    names = ["a", "b", "c"]
    processes = [start(_CLAIM, path, name) for name in names]
    first = SqliteStore(path.with_name("first.db"))
    await first.open()
    for _ in range(50):
        await first.create(make_run(), owner="gone")
    await first.aclose()
    first.path.rename(path)
    told = []
    for process in processes:  # all wait for this line
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        told += out.split()
    assert len(told) == len(set(told)) == 50
    store = SqliteStore(path)
    await store.open()
    assert len(await store.list_runs(RunFilter(limit=200))) == 80
    for run_id in told:
        assert len(await store.list_events(run_id)) == 1
    await store.aclose()
