"""What ended long ago is pruned when it shall be; keys, sums and open runs outlive that."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from engine_setup import make_task, open_gateway

from gateway.cli.main import main
from gateway.engine.cleaning import Cleaner, prune_all
from gateway.errors import IdempotencyConflict
from gateway.store.archive import Pruning
from gateway.store.memory import MemoryStore
from gateway.store.protocol import RunFilter
from gateway.store.sqlite import SqliteStore
from gateway.task import Run
from gateway.testing import FakeAdapter, FakeClock
from gateway.testing.store_promises.samples import make_attempt, make_end, make_run, with_attempt

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)


async def test_what_ended_too_long_ago_is_pruned_every_hour() -> None:
    clock, store = FakeClock(), MemoryStore()
    cleaner = Cleaner(store, clock, DAY)
    cleaner.start()
    runs = [make_run(created_at=clock.now()) for _ in range(2)]
    for run, hours in zip(runs, (0, 20), strict=True):
        await store.create(run, owner="me")
        ended = replace(make_end(run), ended_at=clock.now() + timedelta(hours=hours))
        await store.save(ended, fence=1)
    await clock.sleep(23 * 3600.0)
    assert len(await store.list_runs(RunFilter())) == 2
    await clock.sleep(3 * 3600.0)
    assert [run.id for run in await store.list_runs(RunFilter())] == [runs[1].id]
    await clock.sleep(24 * 3600.0)
    assert await store.list_runs(RunFilter()) == []
    await cleaner.stop()


async def test_without_a_retention_nothing_is_begun() -> None:
    before = asyncio.all_tasks()
    cleaner = Cleaner(MemoryStore(), FakeClock())
    cleaner.start()
    assert asyncio.all_tasks() == before
    await cleaner.stop()


async def test_a_key_whose_run_was_pruned_is_refused_and_never_run_again() -> None:
    clock, store = FakeClock(), MemoryStore()
    a = FakeAdapter("a", clock=clock)
    async with open_gateway(a, clock=clock, store=store) as gateway:
        run = await gateway.run(make_task(), idempotency_key="order 17")
        assert await prune_all(store, Pruning(ended_before=clock.now() + DAY)) == 1
        with pytest.raises(IdempotencyConflict, match=f"had run {run.id}, which has ended and was pruned"):
            await gateway.run(make_task(), idempotency_key="order 17")
        assert len(a.accepted) == 1


async def test_the_bill_is_the_same_after_pruning() -> None:
    clock, store = FakeClock(), MemoryStore()
    a, b = FakeAdapter("a", clock=clock), FakeAdapter("b", clock=clock)
    async with open_gateway(a, b, clock=clock, store=store) as gateway:
        since = clock.now() - DAY
        for number in range(6):
            await gateway.run(make_task(str(number)), "ab"[number % 2])
        before = [await gateway.costs(since, by=by) for by in (("backend", "model", "day"), ("model",), ())]
        assert await prune_all(store, Pruning(ended_before=clock.now() + DAY)) == 6
        after = [await gateway.costs(since, by=by) for by in (("backend", "model", "day"), ("model",), ())]
    assert after == before
    assert sum(line.attempts for line in after[0]) == 6


def _end(run: Run, at: datetime) -> Run:
    ended = make_end(run)
    attempts = tuple(replace(one, created_at=at, ended_at=at) for one in ended.attempts)
    return replace(ended, ended_at=at, attempts=attempts)


def fill(path: Path) -> list[Run]:
    """Store two runs that ended long ago, and an open one as old."""
    old = datetime.now(UTC) - 40 * DAY - timedelta(hours=1)
    runs = [make_run(created_at=old + number * DAY) for number in range(3)]
    known = [_end(run, old) for run in runs[:2]]
    ended = [*known, with_attempt(runs[2], make_attempt())]

    async def write() -> None:
        store = SqliteStore(path)
        await store.open()
        for run, end in zip(runs, ended, strict=True):
            fence = await store.create(run, owner="me")
            await store.save(end, fence=fence)
        await store.aclose()

    asyncio.run(write())
    return ended


def test_the_command_line_prunes_and_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[gateway]\nstore = "sqlite:///runs.db"\n')
    runs = fill(tmp_path / "runs.db")
    words = ["--config", str(config)]

    def say(*more: str) -> str:
        assert main([*more, *words]) == 0
        return capsys.readouterr().out

    lines = [json.loads(line) for line in say("export", "--format", "jsonl").splitlines()]
    assert [line["id"] for line in lines] == [run.id for run in runs]
    assert lines[1]["attempts"][0]["cost"]["outcome"] == "charged"
    assert [json.loads(line)["id"] for line in say("export", "--since", "40d").splitlines()] == [
        run.id for run in runs[1:]
    ]
    assert say("prune", "--older-than", "50d") == "0 runs were pruned\n"
    assert say("prune", "--older-than", "30d", "--dry-run") == "2 runs would be pruned\n"
    assert say("prune", "--older-than", "30d", "--keep", "2") == "0 runs were pruned\n"
    assert say("prune", "--older-than", "30d") == "2 runs were pruned\n"
    assert [json.loads(line)["id"] for line in say("export").splitlines()] == [runs[2].id]
    assert main(["prune", "--older-than", "soon", *words]) == 2
    assert "--older-than: 'soon' is not a duration" in capsys.readouterr().err
    assert main(["prune", "--older-than", "1d", "--keep", "-1", *words]) == 2
