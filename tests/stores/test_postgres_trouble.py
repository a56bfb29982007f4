"""PostgreSQL goes away, comes back, is newer, is full of others: what is written is certain all the same."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg
import pytest

from gateway.errors import ConfigError, RunTakenOver, StoreError, StoreTooNew
from gateway.policy.budget import Spend
from gateway.store import make_store
from gateway.store.archive import Pruning
from gateway.store.changes import Change
from gateway.store.news import WISHES
from gateway.store.postgres import PostgresStore, address, batch, lane, queries
from gateway.store.protocol import SCHEMA_VERSION, RunFilter, Wish
from gateway.task import Task
from gateway.testing.postgres import LocalPostgres
from gateway.testing.store_promises.samples import HERE, START_AT, after, make_end, make_event, make_run

pytestmark = pytest.mark.anyio

_GONE = psycopg.OperationalError("the connection is gone")


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    async with open_store(postgres_url) as store:
        yield store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(lane, "_PATIENCE_SECONDS", 0.1)


@pytest.fixture
def own_server() -> Iterator[LocalPostgres]:
    """A server that a test may stop."""
    with LocalPostgres() as server:
        yield server


async def test_large_outputs_share_no_transaction_that_is_too_large(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL refuses a message of a gigabyte, and all that would be written with it."""
    real, sizes = batch.Batch.commit, []

    async def commit(self: batch.Batch, connection: address.Connection, channel: str) -> None:
        sizes.append(sum(len(job.state[3]) for job in self.jobs if isinstance(job, Change)))
        await real(self, connection, channel)

    runs = [make_run() for _ in range(6)]
    await asyncio.gather(*(store.create(run, owner="me") for run in runs))
    large = base64.b64encode(os.urandom(15_000_000)).decode()
    ends = [replace(make_end(run), output=large) for run in runs[1:]] + [make_end(runs[0])]
    monkeypatch.setattr(batch.Batch, "commit", commit)
    await asyncio.gather(*(store.save(end, fence=1) for end in ends))
    assert [await store.get(end.id) for end in ends] == ends
    assert len(sizes) == 2
    assert max(sizes) < 70_000_000


@pytest.mark.parametrize("is_in", [True, False], ids=["committed", "not committed"])
async def test_a_commit_without_an_answer_is_looked_up(
    store: PostgresStore,
    monkeypatch: pytest.MonkeyPatch,
    is_in: bool,  # noqa: FBT001  pytest gives it by its name
) -> None:
    """Money is spent once, and events are there once, whether or not the transaction got in."""
    real, broken = batch.Batch.commit, 1

    async def commit(self: batch.Batch, connection: address.Connection, channel: str) -> None:
        nonlocal broken
        if broken and is_in:
            await real(self, connection, channel)
        if broken:
            broken -= 1
            raise _GONE
        await real(self, connection, channel)

    run = make_run()
    fence = await store.create(run, owner="me")
    monkeypatch.setattr(batch.Batch, "commit", commit)
    await store.save(make_end(run), fence=fence, events=[make_event(run, 1)], spends=[Spend("a", 5, 9)])
    assert broken == 0
    assert await store.ledger.fetch_spent() == {"a": 5}
    assert len(await store.list_events(run.id)) == 1
    assert await store.get(run.id) == make_end(run)


async def test_a_commit_is_looked_up_whatever_broke_behind_it(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that would not pass by itself says no more of the commit than one that would."""
    real, broken = batch.Batch.commit, 1

    async def commit(self: batch.Batch, connection: address.Connection, channel: str) -> None:
        nonlocal broken
        await real(self, connection, channel)
        if broken:
            broken -= 1
            raise psycopg.InterfaceError("the answer was not understood")

    run = make_run()
    fence = await store.create(run, owner="me")
    monkeypatch.setattr(batch.Batch, "commit", commit)
    await store.save(make_end(run), fence=fence, events=[make_event(run, 1)], spends=[Spend("a", 5, 9)])
    assert broken == 0
    assert await store.ledger.fetch_spent() == {"a": 5}
    assert len(await store.list_events(run.id)) == 1


async def test_a_claim_whose_answer_is_lost_is_not_forgotten(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would ever get that run again: its owner would not know of it."""
    real, broken = batch.Batch.commit, 1

    async def commit(self: batch.Batch, connection: address.Connection, channel: str) -> None:
        nonlocal broken
        await real(self, connection, channel)
        if broken:
            broken -= 1
            raise _GONE

    run = make_run()
    await store.create(run, owner="gone")
    monkeypatch.setattr(batch.Batch, "commit", commit)
    (claimed,) = await store.claim("me", HERE, now=START_AT, limit=9)
    await store.save(make_end(run), fence=claimed.fence)


async def test_a_restart_in_the_middle_loses_nothing_and_doubles_nothing(own_server: LocalPostgres) -> None:
    """A crash of the server among hundreds of writes: each returns, and is there once."""
    async with open_store(own_server.make_url("s")) as store:
        runs = [make_run() for _ in range(60)]
        written = 0

        async def live(run: object) -> None:
            nonlocal written
            fence = await store.create(run, owner="me")  # type: ignore[arg-type]  # it is one
            for seq in range(1, 21):
                events = [make_event(run, seq)]  # type: ignore[arg-type]
                await store.save(run, fence=fence, events=events, spends=[Spend("all", 1)])  # type: ignore[arg-type]
                written += 1

        living = asyncio.gather(*(live(run) for run in runs))
        for share in (3, 2):  # at a third, and at a half
            while written < 1200 // share:  # noqa: ASYNC110  the writers run on meanwhile
                await asyncio.sleep(0.005)
            await asyncio.to_thread(own_server.restart)
        await living
        assert await store.ledger.fetch_spent() == {"all": 1200}
        for run in runs:
            assert [event.seq for event in await store.list_events(run.id)] == list(range(1, 21))


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_is_away_is_said_and_comes_back(own_server: LocalPostgres) -> None:
    async with open_store(own_server.make_url("s")) as store:
        run = make_run()
        fence = await store.create(run, owner="me")
        await asyncio.to_thread(own_server.stop)
        for work in (store.get(run.id), store.save(make_end(run), fence=fence)):
            with pytest.raises(StoreError, match=r"can't be reached.*is PostgreSQL running") as told:
                await work
            assert own_server.password not in str(told.value)
        await asyncio.to_thread(own_server.start)
        assert await store.get(run.id) == run
        await store.save(make_end(run), fence=fence)


async def test_a_server_that_hangs_is_not_waited_for(
    own_server: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was asked is asked again, on another connection."""

    async def get_pid(db: address.Connection) -> int:
        (pid,) = await (await db.execute("SELECT pg_backend_pid()")).fetchone() or (0,)
        return int(pid)

    async with open_store(own_server.make_url("s")) as store:
        fence = await store.create(run := make_run(), owner="me")
        hanging = [await store._lane.act(get_pid), await store._readers.read(get_pid)]
        monkeypatch.setattr(address, "_ANSWER_SECONDS", 0.5)
        for pid in hanging:
            os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(60):
                assert await store.get(run.id) == run
                await store.save(make_end(run), fence=fence, spends=[Spend("a", 5)])
        finally:
            for pid in hanging:
                os.kill(pid, signal.SIGCONT)
        assert await store.get(run.id) == make_end(run)
        assert await store.ledger.fetch_spent() == {"a": 5}


@pytest.mark.usefixtures("impatient")
async def test_who_can_not_get_in_hears_why_and_no_password(own_server: LocalPostgres) -> None:
    url = own_server.make_url("s")
    wrong = url.replace(own_server.password, "not-the-password")
    for bad, why in ((wrong, "authentication failed"), (url.replace("/postgres?", "/no?"), "does not exist")):
        store = PostgresStore(bad)
        shown = f"{store.address} {store.address!r}"
        with pytest.raises(StoreError, match=why) as told:
            await store.open()
        for text in (str(told.value), shown, repr(told.value.__cause__)):
            assert "not-the-password" not in text
            assert own_server.password not in text


async def test_of_several_hosts_the_one_that_answers_is_taken(own_server: LocalPostgres) -> None:
    url = own_server.make_url("s").replace("127.0.0.1:", "127.0.0.1:1,127.0.0.1:")
    async with open_store(url) as store:
        await store.create(make_run(), owner="me")


async def test_a_newer_store_is_left_alone(store: PostgresStore, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute("UPDATE gateway_schema SET version = version + 1")
    with pytest.raises(StoreTooNew, match=rf"schema {SCHEMA_VERSION + 1}.*upgrade"):
        await PostgresStore(postgres_url).open()


async def test_an_older_store_is_brought_up_to_date(store: PostgresStore, postgres_url: str) -> None:
    fence = await store.create(run := make_run(api_key="team"), owner="me")
    await store.save(make_end(run), fence=fence)
    with psycopg.connect(postgres_url, autocommit=True) as db:  # as schema 3 was
        db.execute("ALTER TABLE pruned_costs DROP COLUMN api_key")
        db.execute("ALTER TABLE pruned_costs ADD PRIMARY KEY (day, backend, model)")
        db.execute("UPDATE gateway_schema SET version = 3")
    async with open_store(postgres_url) as newer:
        assert await newer.archive.prune(Pruning(ended_before=after(99), unresolved=True), limit=9) == 1
        assert [line.key for line in await newer.ledger.list_pruned(START_AT)] == ["team"]


async def test_events_of_an_older_store_go_on(store: PostgresStore, postgres_url: str) -> None:
    """Up to schema 4 each had a row of its own."""
    fence = await store.create(run := make_run(), owner="me")
    events = [make_event(run, seq) for seq in range(1, 6)]
    with psycopg.connect(postgres_url, autocommit=True) as db:
        rows = [(run.id, event.seq, event.model_dump_json()) for event in events[:3]]
        db.cursor().executemany("INSERT INTO events VALUES (%s, %s, %s)", rows)
        db.execute("UPDATE gateway_schema SET version = 4")
    async with open_store(postgres_url) as newer:
        await newer.save(run, fence=fence, events=events[3:])
        for after_seq in range(6):
            assert await newer.list_events(run.id, after=after_seq) == events[after_seq:]


async def test_many_open_a_new_database_at_once(postgres_url: str) -> None:
    stores = [PostgresStore(postgres_url) for _ in range(6)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        await store.create(make_run(), owner="me")
    assert len(await stores[0].list_runs(RunFilter())) == 6
    await asyncio.gather(*(store.aclose() for store in stores))


async def test_what_is_wrong_fails_alone(store: PostgresStore) -> None:
    """PostgreSQL keeps no NUL in text: that run is refused, and those written with it are not."""
    good = [make_run() for _ in range(5)]
    bad = make_run(Task(model="a\0b"))
    done = await asyncio.gather(
        *(store.create(run, owner="me") for run in (*good[:2], bad, *good[2:])), return_exceptions=True
    )
    assert [result for result in done if result != 1] == [done[2]]
    assert isinstance(done[2], StoreError)
    assert len(await store.list_runs(RunFilter())) == 5


async def test_of_two_saves_of_one_run_the_later_stays(store: PostgresStore) -> None:
    run = make_run()
    fence = await store.create(run, owner="me")
    saves = [store.save(run, fence=fence, events=[make_event(run, seq)]) for seq in range(1, 30)]
    await asyncio.gather(*saves, store.save(make_end(run), fence=fence))
    assert (await store.get(run.id)) == make_end(run)


async def test_another_process_is_told(store: PostgresStore, postgres_url: str) -> None:
    """Of a run's events, of wishes and of runs that were given up; not of what is another's."""
    run, other_run = make_run(), make_run()
    fence = await store.create(run, owner="me")
    other_fence = await store.create(other_run, owner="me")
    async with open_store(postgres_url) as other:
        with other.news.listen(run.id) as events, other.news.listen(WISHES) as wishes:
            await until_live(other)
            events.clear()
            wishes.clear()
            await store.save(other_run, fence=other_fence, events=[make_event(other_run, 1)])
            await store.wish(Wish(run.id, after(1)))
            await asyncio.wait_for(wishes.wait(), 60)
            assert not events.is_set()
            await store.save(run, fence=fence, events=[make_event(run, 1)])
            await asyncio.wait_for(events.wait(), 60)
            wishes.clear()
            await store.release("me")
            await asyncio.wait_for(wishes.wait(), 60)


async def test_who_was_cut_off_looks_again(own_server: LocalPostgres) -> None:
    """After a restart, in which news may have been lost, everybody is woken, and news come again."""
    async with open_store(own_server.make_url("s")) as store:
        with store.news.listen("a") as bell:
            await until_live(store)
            bell.clear()
            await asyncio.to_thread(own_server.restart)
            await asyncio.wait_for(bell.wait(), 60)
            assert store.news.is_live
            bell.clear()
            run = make_run(id="a")
            fence = await store.create(run, owner="me")
            await store.save(run, fence=fence, events=[make_event(run, 1)])
            await asyncio.wait_for(bell.wait(), 60)


async def until_live(store: PostgresStore) -> None:
    async with asyncio.timeout(60):
        while not store.news.is_live:  # noqa: ASYNC110  nothing tells of that
            await asyncio.sleep(0.01)


async def test_a_closed_store_says_so(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    await store.open()
    fence = await store.create(run := make_run(), owner="me")
    await store.aclose()
    for work in (store.get(run.id), store.save(run, fence=fence), store.beat("me", until=START_AT)):
        with pytest.raises(StoreError, match="not open"):
            await work
    await store.open()
    with pytest.raises(RunTakenOver):
        await store.save(run, fence=fence + 1)
    await store.aclose()


@pytest.mark.parametrize("url", ["postgresql://me:secret@[h/db", "postgresql://me:secret@h/db?nonsense=1"])
async def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="write") as told:
        make_store(url)
    assert "secret" not in str(told.value)


async def test_a_mistyped_scheme_shows_no_password() -> None:
    with pytest.raises(ConfigError, match="write") as told:
        make_store("postgres://me:secret@h/db")
    assert "secret" not in str(told.value)


async def test_who_stands_still_in_the_middle_of_a_write_keeps_no_run_for_ever(
    postgres_url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a paused process does: its owner is silent, and its connection still has the run's row."""
    monkeypatch.setattr(queries, "_CUT_OFF", queries._CUT_OFF.replace("10 s", "0.1 s"))
    run = make_run()
    await store.create(run, owner="paused")
    paused = await address.Address(postgres_url).connect()
    await paused.execute("SET idle_in_transaction_session_timeout = 0")
    await paused.execute("BEGIN")
    await paused.execute("SELECT 1 FROM runs WHERE id = %s FOR NO KEY UPDATE", (run.id,))
    claimed = await store.claim("me", HERE, now=after(600), limit=10)
    assert claimed == []
    async with asyncio.timeout(60):
        while not claimed:
            claimed = await store.claim("me", HERE, now=after(600), limit=10)
    assert [one.run.id for one in claimed] == [run.id]
    with pytest.raises(psycopg.OperationalError):
        await paused.execute("COMMIT")
    await paused.close()
