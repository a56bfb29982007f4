"""Copies of a task that stream: the first to speak is listened to, and with a quorum nobody is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_setup import open_gateway, run_to_end

from gateway import AsyncGateway, Limits, Run, Status, Task
from gateway.adapter import CancelOutcome, Feature
from gateway.errors import InvalidInput
from gateway.store.memory import MemoryStore
from gateway.task import Event, Failure, FailureKind, Handle, Snapshot
from gateway.testing import FakeAdapter, FakeClock, FakeConfig

pytestmark = pytest.mark.anyio

STREAMING = FakeConfig(features=frozenset({Feature.STREAM, Feature.CANCEL}))


def make_speaker(name: str, clock: FakeClock, after_seconds: float, end: Status) -> FakeAdapter:
    """Make a backend that is silent for a while and then says its name twice, before its job ends."""
    steps = [(after_seconds, end)]
    return FakeAdapter(name, STREAMING, clock=clock, steps=steps, pieces=lambda _: [f"{name}1", f"{name}2"])


def make_task(**limits: Any) -> Task:
    return Task(model="m", input={"text": "x"}, stream=True, limits=Limits(**limits))


async def read_events(gateway: AsyncGateway, task: Task) -> tuple[str, list[Event]]:
    run = await gateway.submit(task)
    return run.id, [event async for event in gateway.events(run.id)]


class Breaking(FakeAdapter):
    """A backend that says a piece of its answer, and then that the job has failed."""

    async def _iterate(self, handle: Handle, after: int) -> AsyncIterator[Event]:
        del handle, after
        await self.clock.sleep(1.0)
        yield Event(kind="piece", piece="half of")
        await self.clock.sleep(1.0)
        failure = Failure(kind=FailureKind.JOB, message="it broke in the middle")
        yield Event(kind="snapshot", snapshot=Snapshot(status=Status.FAILED, failure=failure))


async def test_the_first_to_speak_is_listened_to_and_the_others_are_cancelled() -> None:
    clock = FakeClock()
    slow = make_speaker("slow", clock, 50.0, Status.COMPLETED)
    quick = make_speaker("quick", clock, 5.0, Status.COMPLETED)
    async with open_gateway(slow, quick, clock=clock) as gateway:
        run_id, events = await read_events(gateway, make_task(hedge=2, idempotent=True))
        run = await gateway.get(run_id)
        children = [await gateway.get(child) for child in run.children]
    assert [event.piece for event in events if event.kind == "piece"] == ["quick1", "quick2"]
    assert events[-1].status is Status.COMPLETED
    assert [child.status for child in children] == [Status.CANCELLED, Status.COMPLETED]
    assert run.output == children[1].output


async def test_who_speaks_first_does_not_wait_for_the_others_to_be_cancelled() -> None:
    class Stubborn(FakeAdapter):
        async def cancel(self, handle: Handle) -> CancelOutcome:
            await self.clock.sleep(20.0)
            return await super().cancel(handle)

    clock = FakeClock()
    slow = Stubborn("slow", STREAMING, clock=clock, steps=[(50.0, Status.COMPLETED)])
    quick = make_speaker("quick", clock, 5.0, Status.COMPLETED)
    async with open_gateway(slow, quick, clock=clock) as gateway:
        run = await gateway.submit(make_task(hedge=2, idempotent=True))
        events = [(event, clock.monotonic()) async for event in gateway.events(run.id)]
    said = [(event.piece, at < 10.0) for event, at in events if event.kind == "piece"]
    assert said == [("quick1", True), ("quick2", True)]


async def test_a_copy_that_is_begun_when_another_has_spoken_is_called_off() -> None:
    class SlowStore(MemoryStore):
        async def get(self, run_id: str) -> Run:
            if quick.accepted and not late.accepted:
                await clock.sleep(20.0)
            return await super().get(run_id)

    clock = FakeClock()
    quick = make_speaker("quick", clock, 5.0, Status.COMPLETED)
    late = make_speaker("late", clock, 50.0, Status.COMPLETED)
    async with open_gateway(quick, late, clock=clock, store=SlowStore()) as gateway:
        run_id, events = await read_events(gateway, make_task(hedge=2, idempotent=True))
        run = await gateway.get(run_id)
        children = [await gateway.get(child) for child in run.children]
    assert [event.piece for event in events if event.kind == "piece"] == ["quick1", "quick2"]
    assert [child.status for child in children] == [Status.COMPLETED, Status.CANCELLED]


async def test_after_its_first_piece_there_is_no_switch() -> None:
    clock = FakeClock()
    slow = make_speaker("slow", clock, 50.0, Status.COMPLETED)
    broken = Breaking("broken", STREAMING, clock=clock, steps=[(5.0, Status.COMPLETED)])
    async with open_gateway(slow, broken, clock=clock) as gateway:
        run_id, events = await read_events(gateway, make_task(hedge=2, idempotent=True))
        run = await gateway.get(run_id)
    assert [event.piece for event in events if event.kind == "piece"] == ["half of"]
    assert run.status is Status.FAILED
    assert run.failure is not None
    assert "it broke in the middle" in run.failure.message


async def test_a_quorum_streams_nothing_and_says_so() -> None:
    clock = FakeClock()
    adapters = [make_speaker(name, clock, 1.0, Status.COMPLETED) for name in "ab"]
    async with open_gateway(*adapters, clock=clock) as gateway:
        for ask in (gateway.plan, gateway.submit):
            with pytest.raises(InvalidInput, match=r"stream and quorum=\(2, 2\) contradict each other"):
                await ask(make_task(quorum=(2, 2)))
        assert (await run_to_end(gateway, make_task())).status is Status.COMPLETED
    assert sum(len(adapter.accepted) for adapter in adapters) == 1
