"""No listing reads more than an index leads it to, and an older file gets what these need."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.lifecycle import Phase, Status
from gateway.store.archive import Pruning
from gateway.store.protocol import RunFilter
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite_listing import make_listing
from gateway.testing.store_promises.samples import START_AT, after, make_end, make_run

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
    RunFilter(model="m", backend="b"),
    RunFilter(phase=Phase.SUCCESS, model="m"),
    RunFilter(phase=Phase.SUCCESS, backend="b"),
    RunFilter(phase=Phase.RUNNING, model="m", backend="b", api_key="k"),
    RunFilter(phase=Phase.FAILED, model="m", before=START_AT, before_id="x"),
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
    assert any("USING INDEX" in line or "USING COVERING INDEX" in line for line in plan), plan
    sorts = any("TEMP B-TREE" in line for line in plan)
    assert not sorts or which.idempotency_key, plan  # of one key there is one run: nothing to sort
    if which.phase is Phase.RUNNING or which.status is Status.SERVING:
        assert any("runs_open_by_time" in line for line in plan), plan  # not through all that have ended


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
