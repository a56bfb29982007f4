"""Following jobs: pace, faults while looking, streams, deadlines, cancels, events."""

from __future__ import annotations

from datetime import timedelta

import pytest
from engine_setup import make_task, open_gateway, run_to_end

from gateway import FailureKind, RunFailed, Status, Task
from gateway.adapter import Feature
from gateway.lifecycle import AttemptStatus
from gateway.testing import FakeAdapter, FakeClock, FakeConfig

pytestmark = pytest.mark.anyio


async def test_an_hour_of_polling_takes_no_time_and_few_looks() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(3600.0, Status.COMPLETED)])
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert run.updated_at - run.created_at >= timedelta(hours=1)
    assert run.updated_at - run.created_at < timedelta(hours=1, seconds=15)
    assert a.calls["poll"] < 450


async def test_the_first_look_comes_after_tens_of_milliseconds() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(0.05, Status.COMPLETED)])
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert run.updated_at - run.created_at < timedelta(seconds=0.1)


async def test_many_jobs_share_each_look() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(10.0, Status.COMPLETED)])
    async with open_gateway(a, clock=clock) as gateway:
        await gateway.map([make_task(str(n)) for n in range(90)], concurrency=90)
        alone = a.calls["poll"]
    assert len(a.accepted) == 90
    assert alone < 60


@pytest.mark.parametrize("fault", ["poll_error", "poll_throttle"])
async def test_a_look_that_fails_is_no_news(fault: str) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    a.arm(fault, 5)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert run.status is Status.COMPLETED
    assert len(a.accepted) == 1


async def test_a_backend_that_is_down_for_an_hour_is_waited_for() -> None:
    clock = FakeClock()
    a, b = FakeAdapter("a", clock=clock, steps=[(5.0, Status.COMPLETED)]), FakeAdapter("b", clock=clock)
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await gateway.submit(make_task(), "a")
        await clock.sleep(1)
        a.backend.is_down = True
        await clock.sleep(3600)
        assert not (await gateway.get(run.id)).status.is_final
        a.backend.is_down = False
        run = await gateway.wait(run.id)
    assert (run.status, b.accepted, len(a.accepted)) == (Status.COMPLETED, [], 1)


async def test_a_deadline_holds_while_the_backend_wants_no_looks() -> None:
    """A proxy may name hours; the others are not looked at either, and go on afterwards."""
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(30.0, Status.COMPLETED)], retry_after_seconds=3600.0)
    a.arm("poll_throttle")
    async with open_gateway(a, clock=clock) as gateway:
        patient = await gateway.submit(make_task())
        run = await run_to_end(gateway, make_task(deadline=timedelta(seconds=20)))
        assert (run.failure.kind, run.updated_at - run.created_at) == (
            FailureKind.DEADLINE,
            timedelta(seconds=20),
        )
        assert a.calls["poll"] == 2  # the second asks what the job has cost that was cancelled
        patient = await gateway.wait(patient.id)
    assert patient.status is Status.COMPLETED
    assert patient.updated_at - patient.created_at >= timedelta(hours=1)


async def test_a_passed_deadline_ends_the_run_and_stops_the_job() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(600.0, Status.COMPLETED)])
    async with open_gateway(a, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(deadline=timedelta(seconds=60)))
    assert run.failure is not None
    assert (run.status, run.failure.kind) == (Status.FAILED, FailureKind.DEADLINE)
    assert run.attempts[0].status is AttemptStatus.CANCELLED
    assert run.updated_at - run.created_at < timedelta(seconds=75)


async def test_cancel_stops_the_job_at_its_backend() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, steps=[(1.0, Status.RUNNING), (600.0, Status.COMPLETED)])
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.submit(make_task())
        await clock.sleep(5)
        run = await gateway.cancel(run.id)
        with pytest.raises(RunFailed) as caught:
            await gateway.wait(run.id)
    assert caught.value.run.status is Status.CANCELLED
    assert a.calls["cancel"] == 1


async def test_cancel_of_a_backend_that_can_not_says_that_the_job_goes_on() -> None:
    clock = FakeClock()
    config = FakeConfig(features=frozenset())
    a = FakeAdapter("a", config, clock=clock, steps=[(600.0, Status.COMPLETED)])
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.submit(make_task())
        await clock.sleep(5)
        run = await gateway.cancel(run.id)
    assert run.failure is not None
    assert run.status is Status.CANCELLED
    assert "may go on there" in run.failure.message


async def test_cancel_before_a_backend_has_it_sends_nothing_more() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, retry_after_seconds=600.0)
    a.arm("throttle", 100)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.submit(make_task())
        await clock.sleep(5)
        await gateway.cancel(run.id)
        with pytest.raises(RunFailed) as caught:
            await gateway.wait(run.id)
    assert caught.value.run.status is Status.CANCELLED
    assert (a.calls["submit"], a.accepted) == (1, [])


async def test_cancel_of_an_ended_run_changes_nothing() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
        assert await gateway.cancel(run.id) == run


async def test_events_tell_the_whole_story_in_order() -> None:
    clock = FakeClock()
    a, b = FakeAdapter("a", clock=clock), FakeAdapter("b", clock=clock)
    a.arm("refuse")
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await gateway.submit(make_task())
        events = [event async for event in gateway.events(run.id)]
        again = [event async for event in gateway.events(run.id)]
    assert events == again
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    told = [(e.attempt, e.backend, (e.message or "").split(":")[0]) for e in events if e.kind == "attempt"]
    assert told == [
        (1, "a", "prepared"),
        (1, "a", "refused"),
        (2, "b", "prepared"),
        (2, "b", "submitted"),
        (2, "b", "succeeded"),
    ]
    assert (events[-1].kind, events[-1].status) == ("end", Status.COMPLETED)


async def test_pieces_come_as_they_are_and_pin_the_run_to_its_backend() -> None:
    clock = FakeClock()
    config = FakeConfig(features=frozenset({Feature.STREAM, Feature.EVENTS}))
    a = FakeAdapter("a", config, clock=clock, pieces=lambda _: [b"\xff\x00", b"two", {"three": 3}])
    b = FakeAdapter("b", config, clock=clock)
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await gateway.submit(Task(model="m", input={"text": "x"}, stream=True), "a")
        pieces = [e.data or e.piece async for e in gateway.events(run.id) if e.kind == "piece"]
        assert (await gateway.wait(run.id)).status is Status.COMPLETED
    assert pieces == [b"\xff\x00", b"two", {"three": 3}]


async def test_a_cut_stream_falls_back_to_looking() -> None:
    clock = FakeClock()
    config = FakeConfig(features=frozenset({Feature.STREAM, Feature.EVENTS}))
    a = FakeAdapter("a", config, clock=clock, steps=[(1.0, Status.RUNNING), (30.0, Status.COMPLETED)])
    a.arm("cut_stream")
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert run.status is Status.COMPLETED
    assert (a.calls["events"], a.calls["poll"] > 0, len(a.accepted)) == (1, True, 1)


async def test_a_task_that_wants_a_stream_goes_only_where_there_is_one() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    b = FakeAdapter("b", FakeConfig(features=frozenset({Feature.STREAM})), clock=clock)
    async with open_gateway(a, b, clock=clock) as gateway:
        plan = await gateway.plan(Task(model="m", input=1, stream=True))
    assert [(c.backend, c.removed_by) for c in plan.candidates] == [("b", None), ("a", "feature")]
