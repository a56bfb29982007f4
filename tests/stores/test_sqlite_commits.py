"""One writer thread, many changes to a transaction, and nothing that returned is ever lost."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.errors import RunNotFound, StoreError
from gateway.store import changes
from gateway.store.protocol import FIRST_FENCE, RunFilter, Wish
from gateway.store.rows import encode_run
from gateway.store.sqlite import SqliteStore
from gateway.task import Run
from gateway.testing.store_promises.samples import HERE, START_AT, after, make_end, make_event, make_run

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "runs.db") as opened:
        yield opened


@asynccontextmanager
async def hold_writer(store: SqliteStore, queued: int) -> AsyncIterator[None]:
    """Keep the writer busy inside the block, and let it go when so much work is queued behind."""
    holds, go_on = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        holds.set()
        go_on.wait(30)

    busy = asyncio.create_task(store._writer.call(hold))
    assert await asyncio.to_thread(holds.wait, 30)
    try:
        yield
        while len(store._writer.intake.queued) < queued:  # noqa: ASYNC110  nothing tells of that
            await asyncio.sleep(0)
    finally:
        go_on.set()
        await busy


async def trace(store: SqliteStore) -> list[str]:
    """Record the statements from here on."""
    statements: list[str] = []
    await store._writer.call(lambda db: db.set_trace_callback(statements.append))
    statements.clear()
    return statements


@pytest.mark.parametrize(("runs", "transactions"), [(1, 1), (200, 1), (512, 1), (513, 2)])
async def test_what_waits_together_is_written_together(
    store: SqliteStore, runs: int, transactions: int
) -> None:
    statements = await trace(store)
    async with hold_writer(store, runs):
        statements.clear()
        work = [asyncio.ensure_future(store.create(make_run(), owner="me")) for _ in range(runs)]
    await asyncio.gather(*work)
    of_the_holder = 1
    assert statements.count("COMMIT") == of_the_holder + transactions
    assert len(await store.list_runs(RunFilter(limit=1000))) == runs


async def test_two_hundred_at_once_are_few_transactions(store: SqliteStore) -> None:
    statements = await trace(store)
    await asyncio.gather(*(store.create(make_run(), owner="me") for _ in range(200)))
    assert 1 <= statements.count("COMMIT") < 100
    assert len(await store.list_runs(RunFilter(limit=300))) == 200


async def test_one_that_is_refused_costs_the_others_few_transactions(store: SqliteStore) -> None:
    taken, *runs = [make_run() for _ in range(100)]
    await store.create(taken, owner="me")
    statements = await trace(store)
    async with hold_writer(store, 100):
        work = [
            asyncio.ensure_future(store.create(run, owner="me")) for run in (*runs[:40], taken, *runs[40:])
        ]
    results = await asyncio.gather(*work, return_exceptions=True)
    assert [isinstance(result, StoreError) for result in results] == [place == 40 for place in range(100)]
    assert statements.count("COMMIT") < 10
    assert len(await store.list_runs(RunFilter(limit=1000))) == 100


async def test_work_that_raises_undoes_only_itself(store: SqliteStore) -> None:
    first, second, half = make_run(), make_run(), make_run()
    taken = make_run()
    await store.create(taken, owner="me")
    fence = await store.create(half, owner="me")
    await store.save(half, fence=fence, events=[make_event(half, 1)])

    def break_down(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM runs")
        raise ZeroDivisionError("a defect")

    async with hold_writer(store, 5):
        work = [
            asyncio.ensure_future(one)
            for one in (
                store.create(first, owner="me"),
                store.create(taken, owner="you"),
                store._writer.call(break_down),
                store.save(make_end(half), fence=fence, events=[make_event(half, 1)]),
                store.create(second, owner="me"),
            )
        ]
    done = await asyncio.gather(*work, return_exceptions=True)
    assert [isinstance(result, StoreError) for result in done] == [False, True, True, True, False]
    assert "ZeroDivisionError: a defect" in str(done[2])
    assert isinstance(getattr(done[2], "__cause__", None), ZeroDivisionError)
    assert await store.get(first.id) == first
    assert await store.get(second.id) == second
    assert await store.get(half.id) == half  # its end came with an event that there is: it was not written
    assert await store.list_events(half.id) == [make_event(half, 1)]


async def test_a_transaction_that_sqlite_gave_up_is_given_up_for_all_and_says_why(store: SqliteStore) -> None:
    """As SQLite may do when the disk is full, whichever statement met it; changes have one of their own."""
    run = make_run()

    def give_up(db: sqlite3.Connection) -> None:
        db.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    async with hold_writer(store, 4):
        work = [
            asyncio.ensure_future(one)
            for one in (
                store.beat("me", until=START_AT),
                store._writer.call(give_up),
                store.create(run, owner="me"),
                store.beat("you", until=START_AT),
            )
        ]
    one, two, created, three = await asyncio.gather(*work, return_exceptions=True)
    assert all(isinstance(error, StoreError) and "disk is full" in str(error) for error in (one, two, three))
    assert created == 1
    assert await store.list_runs(RunFilter()) == [run]
    beats = await store._writer.read(lambda db: db.execute("SELECT owner FROM owners").fetchall())
    assert beats == []


async def test_each_that_fails_gets_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "runs.db").mkdir()
    store = SqliteStore(tmp_path / "runs.db")
    store._writer.start()
    work = [store.create(make_run(), owner="me") for _ in range(3)]
    errors = await asyncio.gather(*work, return_exceptions=True)
    assert all(isinstance(error, StoreError) for error in errors)
    assert len({id(error) for error in errors}) == 3
    await store.aclose()


async def test_closing_writes_what_is_queued(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "runs.db")
    await store.open()
    work = [asyncio.ensure_future(store.create(make_run(), owner="me")) for _ in range(50)]
    await asyncio.sleep(0)
    await store.aclose()
    assert await asyncio.gather(*work) == [1] * 50
    async with open_store(tmp_path / "runs.db") as again:
        assert len(await again.list_runs(RunFilter())) == 50


async def test_who_comes_while_it_closes_is_refused_and_not_left_waiting(store: SqliteStore) -> None:
    async with hold_writer(store, 0):
        closing = asyncio.create_task(store.aclose())
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            with pytest.raises(StoreError, match="not open"):
                await store.create(make_run(), owner="me")
    await asyncio.gather(closing, store.aclose())


async def test_nothing_works_before_open_and_after_close(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "runs.db")
    for _ in range(2):
        with pytest.raises(StoreError, match="not open"):
            await store.get("run_1")
        await asyncio.gather(store.open(), store.open())
        with pytest.raises(RunNotFound):
            await store.get("run_1")
        await store.aclose()
        await store.aclose()


async def test_who_gives_up_waiting_does_not_stop_the_write(store: SqliteStore) -> None:
    run = make_run()
    async with hold_writer(store, 1):
        work = asyncio.ensure_future(store.create(run, owner="me"))
        await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    await store.beat("me", until=START_AT)  # behind it
    assert await store.get(run.id) == run


async def test_reading_waits_for_no_writing(store: SqliteStore) -> None:
    run = make_run()
    fence = await store.create(run, owner="me")
    async with hold_writer(store, 1), asyncio.timeout(30):
        ending = store.save(make_end(run), fence=fence)
        await asyncio.sleep(0)
        assert await store.get(run.id) == run
        assert await store.list_runs(RunFilter()) == [run]
    await ending
    assert await store.get(run.id) == make_end(run)


def test_a_loop_that_is_gone_stops_nobody_else(tmp_path: Path) -> None:
    store, go_on = SqliteStore(tmp_path / "runs.db"), threading.Event()

    async def leave() -> None:
        await store.open()
        waiting = asyncio.create_task(store._writer.call(lambda _: go_on.wait(30)))
        await asyncio.sleep(0)
        waiting.cancel()

    async def go_on_elsewhere() -> None:
        go_on.set()
        async with asyncio.timeout(30):
            await store.create(make_run(), owner="me")
            assert len(await store.list_runs(RunFilter())) == 1
            await store.aclose()

    asyncio.run(leave())
    asyncio.run(go_on_elsewhere())


async def test_reopening_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "runs.db"
    run, ended = make_run(), make_run()
    events = [make_event(run, seq) for seq in (1, 2)]
    async with open_store(path) as store:
        fence = await store.create(run, owner="me")
        await store.save(run, fence=fence, events=events)
        await store.wish(Wish(run.id, after(1), "a"))
        await store.save(make_end(ended), fence=await store.create(ended, owner="me"))
        await store.beat("me", until=after(10))
        stored = await store.get(run.id)
    async with open_store(path) as store:
        assert await store.get(run.id) == stored
        assert stored.accept_answer == "a"
        assert await store.get(ended.id) == make_end(ended)
        assert await store.list_events(run.id) == events
        assert await store.list_wishes("me") == [Wish(run.id, after(1), "a")]
        assert await store.list_owners() == ["me"]
        assert len(await store.list_outcomes(START_AT)) == 1
        assert await store.claim("you", HERE, now=after(10), limit=9) == []  # the lease was kept as well
        (claimed,) = await store.claim("you", HERE, now=after(11), limit=9)
        assert (claimed.run, claimed.fence) == (stored, fence + 1)


async def test_a_commit_is_on_the_disk(store: SqliteStore) -> None:
    def read(db: sqlite3.Connection) -> tuple[str, int]:
        (mode,), (synchronous,) = (
            db.execute(f"PRAGMA {p}").fetchone() for p in ("journal_mode", "synchronous")
        )
        return mode, synchronous

    assert await store._writer.call(read) == ("wal", 2)  # 2 is FULL: an fsync before each commit returns


async def test_two_stores_write_one_file_in_turns(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path) as one, open_store(path) as other:
        runs = [make_run() for _ in range(60)]
        stores = [one, other] * 30

        async def live(store: SqliteStore, run: Run) -> None:
            fence = await store.create(run, owner="me")
            for seq in range(1, 4):
                await store.save(run, fence=fence, events=[make_event(run, seq)])

        await asyncio.gather(*(live(store, run) for store, run in zip(stores, runs, strict=True)))
        assert len(await one.list_runs(RunFilter(limit=100))) == 60
        for run in runs:
            assert [event.seq for event in await other.list_events(run.id)] == [1, 2, 3]


async def test_a_defect_in_the_encoding_of_one_run_stops_no_other(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, good = make_run(), make_run()

    def stumble(run: Run) -> bytes:
        if run.id == odd.id:
            raise RuntimeError("what is that?")
        return encode_run(run)

    monkeypatch.setattr(changes, "encode_run", stumble)
    done = await asyncio.gather(
        *(store.create(run, owner="me") for run in (odd, good)), return_exceptions=True
    )
    assert isinstance(done[0], StoreError)
    assert (done[1], "what is that?" in str(done[0])) == (FIRST_FENCE, True)
    assert await store.get(good.id) == good
