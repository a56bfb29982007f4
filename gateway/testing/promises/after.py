from __future__ import annotations

from gateway.adapter import Feature
from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle, Snapshot
from gateway.testing.case import (
    AnyAdapter,
    ConformanceCase,
    expect,
    follow,
    get_features,
    look,
    need,
    prepare,
    read_events,
    start,
)


class AfterSubmit:
    """Handles, snapshots, and following jobs to their end."""

    async def test_submit_lands_once(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """One submission is one job; its handle says where it lives, and survives the store."""
        envelope = await prepare(adapter, case, case.good)
        before = await case.count_accepted()
        with case.patience("submit"):
            handle = await adapter.submit(envelope)
        expect(await case.count_accepted() == before + 1, "one submission must land exactly once")
        expect(handle.backend == adapter.name, f"the handle is of {handle.backend!r}")
        expect(bool(handle.job_id), "the handle has no job id")
        again = Handle.model_validate_json(handle.model_dump_json())
        expect((again, again.detail) == (handle, handle.detail), "the handle does not survive JSON")

    async def test_submit_does_not_wait(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """`submit` returns when the job is accepted, not when it is done."""
        slow = need(case.slow, "slow")
        handle = await start(adapter, case, slow)
        first = await follow(adapter, case, handle, until=lambda _: True)
        expect(not first.status.is_final, f"the slow job is {first.status.name} at the first look")

    async def test_good_job_completes(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """A job that succeeds ends COMPLETED with the right output, in a snapshot that survives the store."""
        last = await follow(adapter, case, await start(adapter, case, case.good))
        expect(last.status is Status.COMPLETED, f"the good job ended {last}")
        expect(case.is_right(last.output), f"the output is wrong: {last.output!r}")
        expect(Snapshot.model_validate_json(last.model_dump_json()) == last, "the snapshot loses in JSON")

    async def test_failed_job_is_a_snapshot(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """A job that fails is data, not an exception; its failure says where and why."""
        failing = need(case.failing, "failing")
        last = await follow(adapter, case, await start(adapter, case, failing))
        expect(last.status is Status.FAILED, f"the failing job ended {last.status.name}")
        failure = last.failure
        expect(failure is not None and failure.backend == adapter.name, f"whose failure is {failure}?")
        expect(failure is not None and bool(failure.message), "the failure has no message")
        expect(failure is not None and failure.kind is not FailureKind.LOST, "failed is not lost")

    async def test_poll_takes_many(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Many handles at once, in any order: each gets its own job's snapshot."""
        samples = [case.good, case.failing or case.good, case.good]
        handles = [await start(adapter, case, sample) for sample in samples]
        ends = [await follow(adapter, case, handle) for handle in handles]
        capabilities = await adapter.capabilities()
        expect(len(set(handles)) == len(handles), "two jobs have one handle")
        for order in (range(3), reversed(range(3))):
            asked = list(order)[: capabilities.poll_many]
            news = await look(adapter, case, *(handles[i] for i in asked))
            expect(set(news) <= {handles[i] for i in asked}, "poll answers what was not asked")
            for i in asked:
                seen = news.get(handles[i])
                expect(seen == ends[i], f"{handles[i].job_id} ended {ends[i]}, among others it is {seen}")

    async def test_poll_of_nothing(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """No handles, no news, no error."""
        expect(not await look(adapter, case), "poll of no handles has news")

    async def test_unknown_job_is_lost(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """A job that the backend does not know is FAILED with kind LOST, and does not hide the others."""
        unknown = need(case.unknown, "unknown")
        handle = await start(adapter, case, case.good)
        end = await follow(adapter, case, handle)
        many = (await adapter.capabilities()).poll_many > 1
        for asked in ([unknown, handle], [handle, unknown]) if many else ([unknown], [handle]):
            news = await look(adapter, case, *asked)
            if unknown in asked:
                lost = news.get(unknown)
                kind = lost.failure.kind if lost is not None and lost.failure is not None else None
                expect(kind is FailureKind.LOST, f"a job that is not known must be lost, not {lost}")
            if handle in asked:
                expect(news.get(handle) == end, f"beside a lost job, {end} is {news.get(handle)}")

    async def test_poll_only_reads(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Looking changes nothing, and a final snapshot stays as it is."""
        handle = await start(adapter, case, case.good)
        end = await follow(adapter, case, handle)
        before = await case.count_accepted()
        for _ in range(3):
            again = (await look(adapter, case, handle)).get(handle)
            expect(again == end, f"a final snapshot changed: {end} became {again}")
        expect(await case.count_accepted() == before, "poll submitted something")

    async def test_a_restart_follows(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Another adapter of the same configuration follows a job by its stored handle alone."""
        make_adapter = need(case.make_adapter, "make_adapter")
        handle = await start(adapter, case, case.good)
        fresh = make_adapter()
        try:
            last = await follow(fresh, case, handle)
        finally:
            await fresh.aclose()
        expect(last.status is Status.COMPLETED, f"after a restart the job ended {last}")
        expect(case.is_right(last.output), f"after a restart the output is {last.output!r}")

    async def test_events_end_with_the_end(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Events of a job that ends do end, the last snapshot is final, and polling says the same."""
        features = await get_features(adapter, case)
        need(features & {Feature.EVENTS, Feature.STREAM} or None, "adapter with events")
        handle = await start(adapter, case, case.good)
        with case.patience("events"):
            seen = [event async for event in read_events(adapter, handle)]
        kinds = {event.kind for event in seen}
        expect(kinds <= {"snapshot", "piece"}, f"an adapter's events are snapshots and pieces, not {kinds}")
        snapshots = [event.snapshot for event in seen if event.snapshot is not None]
        end = await follow(adapter, case, handle)
        expect(case.is_right(end.output), f"after its events the job's output is {end.output!r}")
        if Feature.EVENTS in features:
            expect(bool(snapshots), "events gave no snapshot")
            final = [snapshot for snapshot in snapshots if snapshot.status.is_final]
            expect(bool(final), f"events ended without a final snapshot: {snapshots[-1:]}")
            expect(final == snapshots[-1:], "a final snapshot must be the last")
            expect(
                final[0].status is end.status, f"events say {final[0].status.name}, poll {end.status.name}"
            )
            expect(final[0].output == end.output, "events and poll have different outputs")
