"""No listing reads more than an index leads it to, and an older file gets what these need."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random

import pytest

from gateway.errors import RunExists
from gateway.lifecycle import Phase, Status
from gateway.store.archive import Pruning
from gateway.store.memory import MemoryStore
from gateway.store.protocol import RunFilter, Store
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite_listing import make_listing
from gateway.task import Run, Task
from gateway.testing.store_promises.samples import START_AT, after, make_attempt, make_end, make_run

pytestmark = pytest.mark.anyio

FILTERS = [
    RunFilter(),
    RunFilter(before=START_AT),
    RunFilter(before=START_AT, before_id="x"),
    RunFilter(phase=Phase.RUNNING),
    RunFilter(phase=Phase.FAILED),
    RunFilter(status=Status.CANCELLED),
    RunFilter(status=Status.SERVING),
    RunFilter(model="m"),
    RunFilter(backend="b"),
    RunFilter(api_key="k"),
    RunFilter(idempotency_key="k"),
    RunFilter(idempotency_key="i", model="m", status=Status.FAILED, before=START_AT),
    RunFilter(model="m", backend="b"),
    RunFilter(phase=Phase.SUCCESS, model="m"),
    RunFilter(phase=Phase.SUCCESS, backend="b"),
    RunFilter(phase=Phase.RUNNING, model="m", backend="b", api_key="k"),
    RunFilter(phase=Phase.FAILED, model="m", before=START_AT, before_id="x"),
    RunFilter(status=Status.COMPLETED, model="m"),
    RunFilter(status=Status.REJECTED, backend="b", api_key="k"),
]


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    store = SqliteStore(tmp_path / "runs.db")
    await store.open()
    await store.aclose()
    return store.path


@pytest.mark.parametrize("which", FILTERS, ids=repr)
async def test_a_listing_follows_an_index_in_order(path: Path, which: RunFilter) -> None:
    query, values = make_listing(which)
    with sqlite3.connect(path) as db:
        plan = [line for *_, line in db.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    db.close()
    sorting = [line for line in plan if "TEMP B-TREE FOR ORDER BY" in line]
    assert sorting == [], plan  # but for runs of one time
    through = {line.partition(" INDEX ")[2] for line in plan if "SCAN" in line or "SEARCH" in line}
    through -= {"sqlite_autoindex_runs_1 (id=?)"}  # where a page begins
    if which.phase is Phase.RUNNING or which.status is Status.SERVING:
        assert len(through) == 1, plan
    through = {index for index in through if not index.startswith("runs_open")}
    if which.idempotency_key:
        assert through == {"runs_by_key (idempotency_key=?)"}, plan
    elif which.model or which.backend or which.api_key:
        assert all("=? AND" in index for index in through), plan  # not through all that ended alike
    else:
        assert all("(status=?" in index for index in through), plan


async def test_a_listing_is_what_the_filter_means_in_pages_too(tmp_path: Path) -> None:
    runs: list[Run] = []
    names = product((*Status,), ("m", "n", None), ("b", "c", None), (None, "k"))
    for at, (status, model, backend, key) in enumerate(names):
        run = make_run(Task(model=model, input=at), created_at=after(at // 4), api_key=key)
        attempts = () if backend is None else (make_attempt(backend=backend),)
        ended_at = after(at) if status.is_final else None
        runs.append(replace(run, status=status, attempts=attempts, ended_at=ended_at))
    Random(1).shuffle(runs)
    filters = [
        RunFilter(phase=phase, status=status, model=model, backend=backend, api_key=key, limit=limit)
        for phase, status, model, backend, key, limit in product(
            (None, *Phase), (None, *Status), (None, "m"), (None, "b"), (None, "k"), (5, 500)
        )
    ]
    stores: list[Store] = [MemoryStore(), SqliteStore(tmp_path / "runs.db")]
    for store in stores:
        await store.open()
        for run in runs:
            store.create(replace(run, status=Status.RECEIVED, attempts=(), ended_at=None), owner="me")
            await store.save(run, fence=1)
    for which in filters:
        found = [await _list_pages(store, which) for store in stores]
        assert found[0] == found[1], which
    for store in stores:
        await store.aclose()


async def _list_pages(store: Store, which: RunFilter) -> list[str]:
    """Return the ids of the first three pages."""
    found: list[str] = []
    for _ in range(3):
        page = await store.list_runs(which)
        found += [run.id for run in page]
        if len(page) < which.limit:
            break
        which = which.make_next(page[-1])
    return found


async def test_recent_attempts_are_found_whatever_the_clock_did(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "runs.db")
    await store.open()
    run = make_end(make_run(), 60)
    await store.create(run, owner="me")
    set_back = replace(run, ended_at=after(5), updated_at=after(5))
    await store.save(set_back, fence=1)
    assert len(await store.list_outcomes(after(60))) == 1
    late = replace(run.attempts[0], number=2, created_at=after(90), ended_at=None)
    await store.save(replace(set_back, attempts=(*run.attempts, late)), fence=1)
    assert [entry.at for entry in await store.ledger.list_entries(after(90))] == [after(90)]
    await store.aclose()


async def test_a_file_of_schema_5_gets_the_indexes_of_a_new_one(tmp_path: Path, path: Path) -> None:
    new = _read_indexes(path)
    old = SqliteStore(tmp_path / "old.db")
    await old.open()
    await old.aclose()
    with sqlite3.connect(old.path) as db:
        (table,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'runs'").fetchone()
        db.execute("DROP TABLE runs")
        db.execute(table.replace("idempotency_key TEXT", "idempotency_key TEXT UNIQUE"))
        for index in (
            "runs_by_time ON runs (created_at)",
            "runs_open ON runs (owner) WHERE phase = 'running'",
        ):
            db.execute(f"CREATE INDEX {index}")
        db.execute("CREATE INDEX attempts_by_time ON attempts (created_at)")
        db.execute("PRAGMA user_version = 5")
    db.close()
    await old.open()
    assert _read_indexes(old.path) == new
    run = make_run(idempotency_key="once")
    await old.create(run, owner="me")
    with pytest.raises(RunExists):
        await old.create(make_run(idempotency_key="once"), owner="me")
    assert await old.list_runs(RunFilter(idempotency_key="once")) == [run]
    await old.aclose()


def _read_indexes(path: Path) -> set[str]:
    with sqlite3.connect(path) as db:
        found = {
            sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql <> ''")
        }
    db.close()
    return found


async def test_ends_are_filled_in_for_runs_of_an_older_program(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    ended, child, going_on = make_run(), make_run(parent="run_x"), make_run()
    for run in (ended, child, going_on):
        await store.create(run, owner="me")
    await store.save(make_end(ended, 5), fence=1)
    await store.save(make_end(child, 6), fence=1)
    await store.aclose()
    with sqlite3.connect(path) as db:  # as schema 1 was
        for (index,) in db.execute(
            "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%runs_%'"
        ).fetchall():
            db.execute(f"DROP INDEX {index}")
        for column in ("api_key", "parent", "ended_at", "unresolved"):
            db.execute(f"ALTER TABLE runs DROP COLUMN {column}")
        db.execute("DROP TABLE pruned_costs")
        db.execute("PRAGMA user_version = 1")
    db.close()
    await store.open()
    which = Pruning(ended_before=after(99), unresolved=True)
    assert await store.archive.count_prunable(which) == 2
    assert await store.list_runs(RunFilter(phase=Phase.SUCCESS)) == [make_end(child, 6), make_end(ended, 5)]
    assert await store.archive.prune(which, limit=9) == 2
    assert await store.list_runs(RunFilter()) == [going_on]
    await store.aclose()
