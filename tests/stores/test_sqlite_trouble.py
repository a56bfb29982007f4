"""A store that can't be written says so, and has written nothing by halves."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError, RunNotFound, StoreError, StoreTooNew
from gateway.store import make_store
from gateway.store.archive import Pruning
from gateway.store.memory import MemoryStore
from gateway.store.protocol import SCHEMA_VERSION, RunFilter
from gateway.store.sqlite import SqliteStore
from gateway.task import Task
from gateway.testing.store_promises.samples import START_AT, after, make_end, make_event, make_run

pytestmark = pytest.mark.anyio


def make_folder(path: Path) -> None:
    path.mkdir()


def make_garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, " * 500)


def cut_off(path: Path) -> None:
    """Leave the first page and a half of a real database."""
    with sqlite3.connect(path) as db:
        db.executescript("CREATE TABLE runs (id TEXT); CREATE TABLE b (x); CREATE INDEX c ON b (x);")
    db.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + os.urandom(len(whole) - 100))


@pytest.mark.parametrize("spoil", [make_folder, make_garbage, cut_off])
async def test_what_is_no_store_is_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "runs.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    store = SqliteStore(path)
    with pytest.raises(StoreError, match=r"runs\.db"):
        await store.open()
    with pytest.raises(StoreError, match="not open"):
        await store.create(make_run(), owner="me")
    assert (path.read_bytes() if path.is_file() else None) == before
    await store.aclose()


async def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="file"):
        await SqliteStore(tmp_path / "file" / "runs.db").open()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
async def test_a_folder_without_leave_to_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    await asyncio.to_thread(folder.mkdir, 0o500)
    with pytest.raises(StoreError):
        await SqliteStore(folder / "runs.db").open()


async def test_what_was_refused_can_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.mkdir()
    store = SqliteStore(path)
    with pytest.raises(StoreError):
        await store.open()
    path.rmdir()
    await store.open()
    assert await store.create(make_run(), owner="me") == 1
    await store.aclose()


async def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store = SqliteStore(path)
    await store.open()
    await store.aclose()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    before = path.read_bytes()
    store = SqliteStore(path)
    with pytest.raises(StoreTooNew, match=rf"schema {SCHEMA_VERSION + 1}.*upgrade"):
        await store.open()
    with pytest.raises(StoreError, match="not open"):
        await store.list_runs(RunFilter())
    assert path.read_bytes() == before


async def test_an_older_store_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store, old = SqliteStore(path), make_run()
    await store.open()
    await store.create(old, owner="me")
    await store.aclose()
    with sqlite3.connect(path) as db:  # as schema 1 was
        db.execute("DROP INDEX runs_ended_by_api_key")
        db.execute("ALTER TABLE runs DROP COLUMN api_key")
        db.execute("PRAGMA user_version = 1")
    db.close()
    await store.open()
    new = make_run(api_key="team")
    await store.create(new, owner="me")
    assert await store.list_runs(RunFilter(api_key="team")) == [new]
    assert await store.list_runs(RunFilter()) == [new, old]
    await store.aclose()


async def test_what_an_older_program_pruned_stays_on_the_bill(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store = SqliteStore(path)
    await store.open()
    fence = await store.create(old := make_run(), owner="me")
    await store.save(make_end(old), fence=fence)
    forgotten = Pruning(ended_before=after(99), unresolved=True)
    assert await store.archive.prune(forgotten, limit=9) == 1
    lines = await store.ledger.list_pruned(START_AT)
    await store.aclose()
    with sqlite3.connect(path) as db:  # as schema 3 was
        db.executescript("""
            ALTER TABLE pruned_costs RENAME TO newer;
            CREATE TABLE pruned_costs (day TEXT NOT NULL, backend TEXT NOT NULL, model TEXT NOT NULL,
                line BLOB NOT NULL, PRIMARY KEY (day, backend, model)) WITHOUT ROWID;
            INSERT INTO pruned_costs SELECT day, backend, model, line FROM newer;
            DROP TABLE newer;
            PRAGMA user_version = 3;
        """)
    db.close()
    await store.open()
    assert await store.ledger.list_pruned(START_AT) == lines
    fence = await store.create(new := make_run(api_key="team"), owner="me")
    await store.save(make_end(new), fence=fence)
    await store.archive.prune(forgotten, limit=9)
    assert [line.key for line in await store.ledger.list_pruned(START_AT)] == [None, "team"]
    await store.aclose()


async def test_events_of_an_older_store_go_on(tmp_path: Path) -> None:
    """Up to schema 4 each had a row of its own."""
    path, run = tmp_path / "runs.db", make_run()
    store = SqliteStore(path)
    await store.open()
    fence = await store.create(run, owner="me")
    await store.aclose()
    events = [make_event(run, seq) for seq in range(1, 6)]
    with sqlite3.connect(path) as db:
        rows = [(run.id, event.seq, event.model_dump_json()) for event in events[:3]]
        db.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
        db.execute("PRAGMA user_version = 4")
    db.close()
    await store.open()
    await store.save(run, fence=fence, events=events[3:])
    for after_seq in range(6):
        assert await store.list_events(run.id, after=after_seq) == events[after_seq:]
    await store.aclose()


async def open_and_limit(path: Path, more_pages: int) -> SqliteStore:
    """Open a store whose file may grow by so many pages."""

    def limit(db: sqlite3.Connection) -> None:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + more_pages}")

    store = SqliteStore(path)
    await store.open()
    await store._writer.call(limit)
    return store


async def test_a_full_disk_writes_nothing_by_halves(tmp_path: Path) -> None:
    store = await open_and_limit(tmp_path / "runs.db", 2)
    small, big = make_run(), make_run(Task(model="m", input="x" * 1_000_000))
    fence = await store.create(small, owner="me")
    with pytest.raises(StoreError, match="full"):
        await store.create(big, owner="me")
    with pytest.raises(RunNotFound):
        await store.get(big.id)
    ended = make_end(small)
    events = [make_event(small, seq) for seq in range(1, 2000)]
    with pytest.raises(StoreError, match="full"):
        await store.save(ended, fence=fence, events=events)
    assert await store.get(small.id) == small
    assert await store.list_events(small.id) == []
    await store._writer.call(lambda db: db.execute("PRAGMA max_page_count = 100000").fetchall())
    await store.save(ended, fence=fence, events=events)
    assert await store.get(small.id) == ended
    assert len(await store.list_events(small.id)) == 1999
    await store.aclose()


async def test_on_a_full_disk_each_either_is_there_or_hears_that_it_is_not(tmp_path: Path) -> None:
    store = await open_and_limit(tmp_path / "runs.db", 4)
    runs = [make_run(Task(model="m", input="x" * 1000)) for _ in range(100)]
    done = await asyncio.gather(*(store.create(run, owner="me") for run in runs), return_exceptions=True)
    there = {run.id for run in await store.list_runs(RunFilter(limit=200))}
    assert there == {run.id for run, result in zip(runs, done, strict=True) if result == 1}
    assert len(there) < 100
    assert all(isinstance(result, StoreError) for result in done if result != 1)
    await store.aclose()


async def test_a_disk_that_fails_at_the_commit_has_written_nothing(tmp_path: Path) -> None:
    """The last moment at which a write can fail."""

    class Failing(sqlite3.Connection):
        broken = False

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "COMMIT" and self.broken:
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)

    connections: list[Failing] = []
    real = sqlite3.connect

    def connect(*args: object, **words: object) -> sqlite3.Connection:
        connections.append(real(*args, **words, factory=Failing))  # type: ignore[call-overload]  # as given
        return connections[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        store = SqliteStore(tmp_path / "runs.db")
        await store.open()
    run = make_run()
    connections[0].broken = True
    with pytest.raises(StoreError, match="disk I/O error"):
        await store.create(run, owner="me")
    connections[0].broken = False
    assert await store.list_runs(RunFilter()) == []
    assert await store.create(run, owner="me") == 1
    await store.aclose()


async def test_one_unreadable_run_hides_no_other(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "runs.db")
    await store.open()
    good, bad = make_run(), make_run()
    for run in (good, bad):
        await store.create(run, owner="me")
    await store._writer.call(
        lambda db: db.execute("UPDATE runs SET state = x'00' WHERE id = ?", (bad.id,)).rowcount
    )
    results = await asyncio.gather(store.get(bad.id), store.get(good.id), return_exceptions=True)
    assert isinstance(results[0], StoreError)
    assert results[1] == good
    await store.aclose()


async def test_a_lock_that_stays_is_an_error_and_not_a_wait_for_ever(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "runs.db", timeout_seconds=0.05)
    await store.open()
    run = make_run()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        await store.create(run, owner="me")
    other.execute("ROLLBACK")
    other.close()
    assert await store.create(run, owner="me") == 1
    await store.aclose()


async def test_a_new_file_that_another_process_sets_up_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself does not wait when the file is not yet in WAL mode."""
    path, tried = tmp_path / "runs.db", threading.Event()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (x)")
    other.execute("BEGIN IMMEDIATE")
    sleep = time.sleep

    def note(seconds: float) -> None:
        tried.set()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", note)
    store = SqliteStore(path)
    opening = asyncio.create_task(store.open())
    waited = asyncio.create_task(asyncio.to_thread(tried.wait, 10))
    await asyncio.wait({opening, waited}, return_when=asyncio.FIRST_COMPLETED)
    other.execute("COMMIT")
    other.close()
    await opening
    await waited
    assert await store.create(make_run(), owner="me") == 1
    await store.aclose()


@pytest.mark.parametrize(
    "url", ["", "sqlite:", "sqlite:///", "sqlite://runs.db", "runs.db", "postgres://h/db", "memory"]
)
async def test_an_address_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="write"):
        make_store(url)


async def test_addresses_of_stores(tmp_path: Path) -> None:
    assert isinstance(make_store("memory:"), MemoryStore)
    store = make_store(f"sqlite:///{tmp_path}/runs.db")
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "runs.db"
    assert not store.path.exists()
