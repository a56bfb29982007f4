from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

from gateway.errors import InvalidInput, RunError, RunNotFound, RunTakenOver, StoreError
from gateway.lifecycle import AttemptStatus, Status
from gateway.store.protocol import RunFilter, Store, Wish
from gateway.task import Envelope, FailureKind, Handle, Snapshot, Task
from gateway.testing.case import expect
from gateway.testing.store_promises.samples import (
    START_AT,
    StoreMaker,
    after,
    expect_raises,
    make_attempt,
    make_end,
    make_event,
    make_run,
    make_task,
    with_attempt,
)
from gateway.types import JSON, AttemptId


class Keeping:
    """What was written comes back as it was, and what was refused left nothing."""

    async def test_a_new_run_comes_back_whole(self, store: Store) -> None:
        """Every field of a run and its task survives."""
        run = make_run(make_task(), backend=("node1", "node2"), deadline_at=after(99))
        await store.create(run, owner="me")
        expect(await store.get(run.id) == run, f"{run} came back as {await store.get(run.id)}")

    async def test_each_state_comes_back_whole(self, store: Store) -> None:
        """Every line of a run's story survives, its envelopes and costs included."""
        run = make_run()
        fence = await store.create(run, owner="me")
        sent = make_attempt(status=AttemptStatus.SUBMITTED, handle=Handle("node1", "job-1", {"token": "t"}))
        for state in (with_attempt(run, make_attempt()), with_attempt(run, sent), make_end(run)):
            await store.save(state, fence=fence)
            found = await store.get(run.id)
            expect(found == state, f"{state} came back as {found}")
            expect(found.attempts[0].envelope is not None, "the envelope is gone")
        handle = (await store.get(run.id)).attempts[0].handle
        expect(handle is not None and handle.detail == {"token": "t"}, "the handle's detail is gone")

    async def test_large_outputs_come_back_whole(self, store: Store) -> None:
        """However they are kept: what repeats itself, and what does not."""
        chunks = "".join(f'data: {{"choices": [{{"delta": "wörd {n}"}}]}}\n\n' for n in range(9_999))
        noise = "".join(sha256(str(number).encode()).hexdigest() for number in range(999))
        for output in (chunks, noise, {"first": noise, "then": chunks}):
            run = make_run()
            fence = await store.create(run, owner="me")
            end = replace(make_end(run), output=output)
            await store.save(end, fence=fence)
            expect(await store.get(run.id) == end, f"{str(output)[:40]}... did not come back as it was")
            expect(await store.list_runs(RunFilter(limit=1)) == [end], "a list has another output")

    async def test_what_could_be_written_can_be_read(self, store: Store) -> None:
        """However deep it is nested, wherever that is, and however long an integer is."""
        for depth in (0, 190, 199, 210, 230, 250, 253, 300):
            deep: JSON = 10**5_000
            for _ in range(depth):
                deep = [deep]
            run = make_run(Task(model="m", input=deep))
            try:
                fence = await store.create(run, owner="me")
            except InvalidInput:
                continue
            look = Snapshot(status=Status.RUNNING, output=deep)
            envelope = Envelope(attempt_id=AttemptId("attempt-1"), backend="node1", payload={"input": deep})
            event = replace(make_event(run, 1), snapshot=look, data=None)
            for state, events in (
                (with_attempt(run, make_attempt()), [event]),
                (with_attempt(run, make_attempt(envelope=envelope)), []),
                (with_attempt(run, make_attempt(snapshot=look)), []),
                (replace(make_end(run), output=deep), []),
            ):
                with suppress(InvalidInput):
                    await store.save(state, fence=fence, events=events)
                    expect(await store.get(run.id) == state, f"at {depth} levels it came back as another")
                    known = await store.list_events(run.id)
                    expect(not events or known == events, f"at {depth} levels events came back as others")

    async def test_a_new_envelope_replaces_the_old(self, store: Store) -> None:
        """What is to be sent is what was stored last."""
        run = make_run()
        fence = await store.create(run, owner="me")
        first = make_attempt(envelope=None)
        await store.save(with_attempt(run, first), fence=fence)
        envelope = make_attempt().envelope
        await store.save(with_attempt(run, replace(first, envelope=envelope)), fence=fence)
        found = (await store.get(run.id)).attempts[0].envelope
        expect(found == envelope, f"the envelope to send is {found}")

    async def test_further_attempts_leave_the_first(self, store: Store) -> None:
        """All attempts stay, in their order."""
        run = make_run()
        fence = await store.create(run, owner="me")
        for number in range(1, 12):
            run = with_attempt(run, make_attempt(number, AttemptStatus.REFUSED))
            await store.save(run, fence=fence)
        numbers = [attempt.number for attempt in (await store.get(run.id)).attempts]
        expect(numbers == list(range(1, 12)), f"the attempts are {numbers}")

    async def test_an_unknown_run_is_said(self, store: Store) -> None:
        """What is not there raises RunNotFound; it can't be saved either."""
        for work in (store.get("run_x"), store.list_events("run_x"), store.wish(Wish("run_x", START_AT))):
            error = await expect_raises(RunNotFound, work, "an unknown run gave an answer")
            expect(isinstance(error, RunError) and error.run_id == "run_x", f"which run is it: {error!r}?")
        run = make_run()
        await expect_raises(RunTakenOver, store.save(run, fence=1), "a run that never was could be saved")

    async def test_a_run_is_created_once(self, store: Store) -> None:
        """A second run of the same id is refused and leaves the first."""
        run = make_run()
        await store.create(run, owner="me")
        again = replace(run, task=Task(model="other"))
        await expect_raises(StoreError, store.create(again, owner="you"), "a run was overwritten")
        expect(await store.get(run.id) == run, "the first run was changed")
        expect(await store.list_owners() == ["me"], "the first run was given away")

    async def test_a_task_that_is_no_json_is_refused(self, store: Store) -> None:
        """Such a task raises InvalidInput, and nothing of it is kept."""
        run = make_run(Task(model="m", input={"what": object()}))
        await expect_raises(InvalidInput, store.create(run, owner="me"), "an object was stored as JSON")
        await expect_raises(RunNotFound, store.get(run.id), "a half run was stored")

    async def test_events_come_in_order(self, store: Store) -> None:
        """Events come back whole, by their numbers, from any of them on."""
        run, other = make_run(), make_run()
        fence = await store.create(run, owner="me")
        await store.create(other, owner="me")
        events = [make_event(run, seq) for seq in range(1, 13)]
        await store.save(run, fence=fence)
        await store.save(run, fence=fence, events=events[:5])
        await store.save(run, fence=fence, events=events[5:])
        expect(await store.list_events(run.id) == events, "events were lost or mixed up")
        expect(await store.list_events(run.id, after=9) == events[9:], "those after the ninth are wrong")
        expect(await store.list_events(run.id, after=12) == [], "there is something after the last")
        expect(await store.list_events(other.id) == [], "another run's events are in the list")

    async def test_many_at_once(self, store: Store) -> None:
        """A hundred runs at the same time: each is kept, with its own events."""
        runs = [make_run() for _ in range(100)]
        fences = await asyncio.gather(*(store.create(run, owner="me") for run in runs))
        ended = [make_end(run) for run in runs]
        work = zip(ended, fences, strict=True)
        await asyncio.gather(*(store.save(r, fence=f, events=[make_event(r, 1)]) for r, f in work))
        found = {run.id: run for run in await store.list_runs(RunFilter(limit=200))}
        expect(found == {run.id: run for run in ended}, "some of a hundred runs were lost")
        events = await asyncio.gather(*(store.list_events(run.id) for run in runs))
        expect(events == [[make_event(run, 1)] for run in runs], "events went to other runs")

    async def test_one_failure_among_many_is_alone(self, store: Store) -> None:
        """What fails undoes nothing of what is written beside it."""
        taken = make_run()
        await store.create(taken, owner="me")
        runs = [make_run() for _ in range(20)]
        work = [store.create(run, owner="me") for run in (*runs[:10], taken, *runs[10:])]
        done = await asyncio.gather(*work, return_exceptions=True)
        errors = [result for result in done if isinstance(result, BaseException)]
        expect(len(errors) == 1 and isinstance(errors[0], StoreError), f"twenty good runs gave {errors}")
        expect(len(await store.list_runs(RunFilter())) == 21, "good runs were undone")

    async def test_another_door_to_the_same_data(self, store: Store, make_store: StoreMaker) -> None:
        """A second store over the same data sees at once what the first wrote, and the other way round."""
        run = make_run()
        fence = await store.create(run, owner="me")
        second = make_store()
        await second.open()
        try:
            expect(await second.get(run.id) == run, "the second store does not see the run")
            await second.save(make_end(run, succeeded=False), fence=fence, events=[make_event(run, 1)])
        finally:
            await second.aclose()
        found = await store.get(run.id)
        failure = found.failure
        expect(found.status is Status.FAILED, "the first store does not see the end")
        expect(failure is not None and failure.kind is FailureKind.JOB, f"the failure is {failure}")
        expect(len(await store.list_events(run.id)) == 1, "the first store does not see the event")
