"""What is written together, what is written behind, and what becomes of what could not be written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from engine_setup import make_task, open_gateway

from gateway import Failure, FailureKind, Run, RunFailed, Status, Task
from gateway.errors import StoreError
from gateway.lifecycle import AttemptStatus
from gateway.store import make_store
from gateway.store.memory import MemoryStore
from gateway.task import Envelope, Handle, Snapshot
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import AttemptId

pytestmark = pytest.mark.anyio


def _refuse() -> Awaitable[Any]:
    refused = asyncio.get_running_loop().create_future()
    refused.set_exception(StoreError("no space left on device"))
    refused.exception()  # whoever waits for it hears of it, and nobody else
    return refused


def _is_landing(run: Run) -> bool:
    return run.attempt is not None and run.attempt.status is AttemptStatus.SUBMITTED


async def test_a_new_run_and_its_first_envelope_are_handed_over_together() -> None:
    class TimedStore(MemoryStore):
        turn_is_over = together = False

        def create(self, run: Run, **words: Any) -> Awaitable[int]:
            asyncio.get_running_loop().call_soon(setattr, self, "turn_is_over", True)  # as stores hand over
            return super().create(run, **words)

        def save(self, run: Run, **words: Any) -> Awaitable[None]:
            if run.attempt is not None and run.attempt.status is AttemptStatus.PREPARED:
                self.together = not self.turn_is_over
            return super().save(run, **words)

    class QuickAdapter(FakeAdapter):
        """Prepares without waiting for anything, as those do that need not ask their backend."""

        async def prepare(self, task: Task, target: Any, *, attempt_id: AttemptId) -> Envelope:
            payload = {"app": target["app"], "input": task.input}
            return Envelope(attempt_id=attempt_id, backend=self.name, payload=payload)

    clock, store = FakeClock(), TimedStore()
    async with open_gateway(QuickAdapter("a", clock=clock), clock=clock, store=store) as gateway:
        await gateway.run(make_task())
    assert (store.turn_is_over, store.together) == (True, True)


async def test_a_run_that_could_not_be_written_down_is_told_to_its_caller_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class FullStore(MemoryStore):
        def create(self, run: Run, **words: Any) -> Awaitable[int]:
            return _refuse()

    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    async with open_gateway(a, clock=clock, store=FullStore()) as gateway:
        with pytest.raises(StoreError, match="no space left"):
            await gateway.submit(make_task())
        await clock.sleep(300)
        assert not gateway._engine._worker.live
    assert a.calls["submit"] == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_job_is_looked_at_before_its_landing_is_on_the_disk_and_ends_after_it() -> None:
    class SlowStore(MemoryStore):
        landing: asyncio.Future[None] | None = None

        def save(self, run: Run, **words: Any) -> Awaitable[None]:
            saved = super().save(run, **words)
            if _is_landing(run) and self.landing is None:
                self.landing = asyncio.get_running_loop().create_future()
                return self.landing
            return saved

    clock, store = FakeClock(), SlowStore()
    a = FakeAdapter("a", clock=clock, steps=[(1.0, Status.COMPLETED)])
    async with open_gateway(a, clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task())
        with clock.hold():
            for _ in range(200):
                await asyncio.sleep(0)
        assert store.landing is not None
        assert _is_landing(gateway._engine._worker.live[run.id].run)
        told = asyncio.create_task(_list_messages(gateway, run.id))
        await clock.sleep(0.5)
        store.landing.set_result(None)
        assert (await gateway.wait(run.id)).status is Status.COMPLETED
        assert (await told)[:3] == ["prepared", "submitted", "succeeded"]


async def test_a_cancel_goes_on_when_its_caller_goes_away_while_it_is_written() -> None:
    class SlowStore(MemoryStore):
        def save(self, run: Run, **words: Any) -> Awaitable[None]:
            written = super().save(run, **words)

            async def wait() -> None:
                if run.status is Status.CANCELLED:
                    writing.set()
                    await clock.sleep(1)
                await written

            return wait()

    clock, store, writing = FakeClock(), SlowStore(), asyncio.Event()
    a = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    async with open_gateway(a, clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task())
        await clock.sleep(5)
        cancelling = asyncio.create_task(gateway.cancel(run.id))
        await writing.wait()
        cancelling.cancel()
        await clock.sleep(5)
        with pytest.raises(RunFailed, match="cancelled"):
            await gateway.wait(run.id, timeout=30)
        seqs = [event.seq for event in await store.list_events(run.id)]
    assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.parametrize("times", [1, 3])
async def test_a_landing_that_could_not_be_written_is_written_when_the_store_is_back(times: int) -> None:
    class FullStore(MemoryStore):
        refused = 0

        def save(self, run: Run, **words: Any) -> Awaitable[None]:
            if _is_landing(run) and self.refused < times:
                self.refused += 1
                return _refuse()
            return super().save(run, **words)

    clock, store = FakeClock(), FullStore()
    a = FakeAdapter("a", clock=clock)
    a.arm("never_end")
    async with open_gateway(a, clock=clock, store=store) as gateway:
        run = await gateway.submit(make_task())
        await clock.sleep(120)
        stored = await store.get(run.id)
        assert stored.attempts[0].handle is not None
        seqs = [event.seq for event in await store.list_events(run.id)]
        assert seqs == list(range(1, len(seqs) + 1))
    assert (store.refused, len(a.accepted)) == (times, 1)


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
async def test_a_job_whose_last_words_no_store_can_keep_ends_all_the_same(
    status: Status, tmp_path: Path
) -> None:
    deep: Any = "the end"
    for _ in range(400):
        deep = [deep]
    failure = Failure(kind=FailureKind.JOB, message="it broke", detail=deep)
    last = Snapshot(status=status, output=deep, failure=failure if status is Status.FAILED else None)

    class DeepAdapter(FakeAdapter):
        async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
            return dict.fromkeys(handles, last)

    clock = FakeClock(settle_seconds=0.02)
    store = make_store(f"sqlite:///{tmp_path / 'runs.db'}")
    async with open_gateway(DeepAdapter("a", clock=clock), clock=clock, store=store) as gateway:
        with pytest.raises(RunFailed, match="what it said can't be stored") as failed:
            await gateway.run(make_task())
        stored = await gateway.get(failed.value.run.id)
    assert stored == failed.value.run
    assert stored.failure is not None
    assert (stored.status, stored.failure.kind) == (Status.FAILED, FailureKind.OUTPUT_ERROR)


@pytest.mark.parametrize("levels", [220, 400])
async def test_a_look_that_no_store_can_keep_leaves_its_run_and_all_others_going(
    levels: int, tmp_path: Path
) -> None:
    deep: Any = "so far"
    for _ in range(levels):
        deep = [deep]
    looks = [Snapshot(status=Status.RUNNING, output=deep, message=str(n)) for n in range(3)]
    looks.append(Snapshot(status=Status.COMPLETED, output="done"))

    class DeepAdapter(FakeAdapter):
        async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
            return dict.fromkeys(handles, looks.pop(0) if len(looks) > 1 else looks[0])

    clock = FakeClock(settle_seconds=0.02)
    store = make_store(f"sqlite:///{tmp_path / 'runs.db'}")
    a, b = DeepAdapter("a", clock=clock), FakeAdapter("b", clock=clock)
    async with open_gateway(a, b, clock=clock, store=store) as gateway:
        other = await gateway.submit(make_task(), "b")
        run = await gateway.run(make_task(), "a")
        assert (run.status, run.output, len(run.attempts)) == (Status.COMPLETED, "done", 1)
        assert (await gateway.wait(other.id)).status is Status.COMPLETED
        assert await gateway.get(run.id) == run


async def _list_messages(gateway: Any, run_id: str) -> list[str]:
    return [event.message async for event in gateway.events(run_id) if event.kind == "attempt"]


async def test_a_run_whose_late_end_can_not_be_written_down_is_not_looked_at_without_a_pause() -> None:
    clock = FakeClock()

    class FullStore(MemoryStore):
        refusals = 0

        def save(self, run: Run, **words: Any) -> Awaitable[None]:
            if run.status.is_final and clock.monotonic() < 90 and self.refusals < 1_000:
                self.refusals += 1
                return _refuse()
            return super().save(run, **words)

    store, a = FullStore(), FakeAdapter("a", clock=clock, steps=[(1e4, Status.COMPLETED)])
    async with open_gateway(a, clock=clock, store=store) as gateway:
        with pytest.raises(RunFailed):
            await gateway.run(make_task(deadline=timedelta(seconds=30)))
    assert 0 < store.refusals < 30
