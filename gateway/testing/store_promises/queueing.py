from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from gateway.errors import BudgetExceeded, GatewayError, InvalidInput, RunExists, RunNotFound, RunTakenOver
from gateway.lifecycle import AttemptStatus, Status
from gateway.policy.budget import Spend
from gateway.store.protocol import FIRST_FENCE, RunFilter, Store
from gateway.task import Task
from gateway.testing.case import expect
from gateway.testing.store_promises.samples import (
    HERE,
    START_AT,
    make_attempt,
    make_end,
    make_event,
    make_run,
    with_attempt,
)


async def gather(*work: Awaitable[object]) -> list[object]:
    """Return what each returned, or its error."""
    return list(await asyncio.gather(*work, return_exceptions=True))


class Queueing:
    """What is called for is taken at once, in order; who waits hears whether it is kept."""

    async def test_a_run_goes_on_before_its_creation_is_kept(self, store: Store) -> None:
        """All changes that were called for without waiting are kept, with all that happened and was spent."""
        run = make_run()
        sent = with_attempt(run, make_attempt(), Status.DISPATCHED)
        done = await gather(
            store.create(run, owner="me"),
            store.save(
                sent, fence=FIRST_FENCE, events=[make_event(run, 1)], spends=[Spend("a", 7, 9, "a's")]
            ),
            store.save(sent, fence=FIRST_FENCE, spends=[Spend("a", -2)]),
            store.save(make_end(run), fence=FIRST_FENCE, events=[make_event(run, 2), make_event(run, 3)]),
        )
        expect(done == [FIRST_FENCE, None, None, None], f"they returned {done}")
        expect(await store.get(run.id) == make_end(run), "the newest state is not there")
        expect([e.seq for e in await store.list_events(run.id)] == [1, 2, 3], "events were lost or doubled")
        expect(await store.ledger.fetch_spent() == {"a": 5}, "not all was spent")
        expect(await store.list_owners() == [], "it has not ended")

    async def test_what_nobody_waits_for_is_kept_as_well(self, store: Store) -> None:
        """Alone after a moment, or with what comes next; in any case before what is called for after it."""
        run, alone = make_run(), make_run()
        await gather(store.create(run, owner="me"), store.create(alone, owner="me"))
        sent = with_attempt(run, make_attempt(), Status.DISPATCHED)
        lingering = store.save(sent, fence=FIRST_FENCE, events=[make_event(run, 1)], soon=False)
        by_itself = store.save(with_attempt(alone, make_attempt()), fence=FIRST_FENCE, soon=False)
        await store.save(make_end(run), fence=FIRST_FENCE, events=[make_event(run, 2)])
        done = await gather(lingering, by_itself)
        expect(done == [None, None], f"they returned {done}")
        expect(await store.get(run.id) == make_end(run), "an earlier state came after the last")
        expect([e.seq for e in await store.list_events(run.id)] == [1, 2], "events were lost")
        expect((await store.get(alone.id)).status is Status.RUNNING, "what lingered is not kept")
        store.save(make_end(alone), fence=FIRST_FENCE, soon=False)
        await store.release("me")
        expect((await store.get(alone.id)).status is Status.COMPLETED, "another act came before it")

    async def test_what_lingers_behind_a_failure_fails(self, store: Store) -> None:
        """It is not written alone."""
        run = make_run()
        failing = store.save(run, fence=FIRST_FENCE)
        lingering = store.save(make_end(run), fence=FIRST_FENCE, events=[make_event(run, 1)], soon=False)
        await asyncio.sleep(0)
        late = store.save(make_end(run), fence=FIRST_FENCE, events=[make_event(run, 2)], soon=False)
        done = await gather(failing, lingering, late)
        expect(all(isinstance(error, RunTakenOver) for error in done), f"they returned {done}")

    async def test_the_last_of_many_changes_stays(self, store: Store) -> None:
        """Changes of one run, and of others between them, are kept in the order of the calls."""
        runs = [make_run() for _ in range(3)]
        work: list[Awaitable[object]] = [store.create(run, owner="me") for run in runs]
        for seq in range(1, 20):
            states = [with_attempt(run, make_attempt(), Status.RUNNING) for run in runs]
            work += [store.save(one, fence=FIRST_FENCE, events=[make_event(one, seq)]) for one in states]
            if seq % 5 == 0:
                await asyncio.sleep(0)
        ends = [make_end(run, succeeded=False) for run in runs]
        await gather(*work, *(store.save(end, fence=FIRST_FENCE) for end in ends))
        for end in ends:
            expect(await store.get(end.id) == end, "an earlier state came after the last")
            expect(len(await store.list_events(end.id)) == 19, "events were lost")

    async def test_every_attempt_of_many_changes_is_kept(self, store: Store) -> None:
        """Also those that ended, and were followed by others, before anything was on the disk."""
        run, work = make_run(), list[Awaitable[object]]()
        work.append(store.create(run, owner="me"))
        for number in (1, 2, 3):
            for status in (AttemptStatus.PREPARED, AttemptStatus.REFUSED):
                run = with_attempt(run, make_attempt(number, status))
                work.append(store.save(run, fence=FIRST_FENCE))
        await gather(*work)
        expect(await store.get(run.id) == run, f"the attempts are {(await store.get(run.id)).attempts}")

    async def test_nothing_is_kept_behind_a_creation_that_failed(self, store: Store) -> None:
        """Who creates a run whose key is taken, and goes on, hears for each change that the key is taken."""
        first, second = make_run(idempotency_key="k"), make_run(idempotency_key="k")
        await store.create(first, owner="me")
        done = await gather(
            store.create(second, owner="me"),
            store.save(with_attempt(second, make_attempt()), fence=FIRST_FENCE, spends=[Spend("a", 1)]),
            store.save(make_end(second), fence=FIRST_FENCE, events=[make_event(second, 1)]),
        )
        ids = [error.run_id for error in done if isinstance(error, RunExists)]
        expect(ids == [first.id] * 3, f"they returned {done}")
        expect([run.id for run in await store.list_runs(RunFilter())] == [first.id], "a refused run is kept")
        expect(await store.ledger.fetch_spent() == {}, "a refused run has spent")

    async def test_nothing_is_kept_behind_a_change_that_failed(self, store: Store) -> None:
        """Neither what waited with it nor what was called for while it was being written."""
        run = make_run()
        await store.create(run, owner="me")
        (claimed,) = await store.claim("you", HERE, now=START_AT, limit=9, dead=["me"])
        work = []
        for seq in range(1, 9):
            work.append(store.save(make_end(run), fence=FIRST_FENCE, events=[make_event(run, seq)]))
            await asyncio.sleep(0)
        work.append(store.save(with_attempt(run, make_attempt()), fence=claimed.fence))
        done = await gather(*work)
        expect(all(isinstance(error, RunTakenOver) for error in done[:-1]), f"they returned {done}")
        expect(done[-1] is None, f"the new owner's change failed with the old one's: {done[-1]}")
        expect((await store.get(run.id)).status is Status.RUNNING, "an old owner's change is kept")
        expect(await store.list_events(run.id) == [], "an old owner's events are kept")

    async def test_a_refused_spend_lets_its_run_go_on(self, store: Store) -> None:
        """The creation before it is kept, the change itself is not, and those behind it are tried."""
        run = make_run()
        reserving = with_attempt(run, make_attempt(), Status.DISPATCHED)
        done = await gather(
            store.create(run, owner="me"),
            store.save(
                reserving, fence=FIRST_FENCE, events=[make_event(run, 1)], spends=[Spend("a", 9, 5, "a's")]
            ),
            store.save(replace(run, status=Status.QUEUED), fence=FIRST_FENCE, spends=[Spend("a", 5, 5)]),
        )
        expect(done[0] == FIRST_FENCE and done[2] is None, f"they returned {done}")
        expect(isinstance(done[1], BudgetExceeded), f"a budget was exceeded: {done[1]}")
        found = await store.get(run.id)
        expect(found == replace(run, status=Status.QUEUED), f"what is kept is {found}")
        expect(await store.list_events(run.id) == [], "what was refused has happened")
        expect(await store.ledger.fetch_spent() == {"a": 5}, "what was refused is spent")

    async def test_what_is_no_json_fails_alone(self, store: Store) -> None:
        """With all that is called for behind it, and nothing of other runs."""
        bad, good = make_run(Task(model="m", input=object())), make_run()
        done = await gather(
            store.create(good, owner="me"),
            store.create(bad, owner="me"),
            store.save(make_end(good), fence=FIRST_FENCE),
            store.save(make_end(bad), fence=FIRST_FENCE),
        )
        expect(done[0] == FIRST_FENCE and done[2] is None, f"the good run's returned {done[::2]}")
        expect(all(isinstance(error, InvalidInput) for error in done[1::2]), f"the bad run's: {done[1::2]}")
        expect(await store.get(good.id) == make_end(good), "the good run is not kept")
        expect([run.id for run in await store.list_runs(RunFilter())] == [good.id], "the bad run is kept")

    async def test_who_fails_unheard_disturbs_nobody(self, store: Store) -> None:
        """A change may fail without anybody waiting for it; who asks later hears of it."""
        run = make_run()
        unheard = store.save(run, fence=FIRST_FENCE)
        await store.create(make_run(), owner="me")
        try:
            await unheard
        except GatewayError as error:
            expect(isinstance(error, RunTakenOver), f"it failed with {error!r}")
        else:
            raise AssertionError("a run that never was could be saved")
        await store.create(make_run(), owner="me")

    async def test_many_runs_are_kept_from_creation_to_end_at_once(self, store: Store) -> None:
        """Six hundred at the same time, without waiting between their changes; one of them is refused."""
        taken = make_run(idempotency_key="k")
        await store.create(taken, owner="me")
        runs = [make_run(idempotency_key="k" if number == 300 else None) for number in range(600)]

        async def live(run_number: int) -> None:
            run = runs[run_number]
            created = store.create(run, owner="me")
            ended = store.save(make_end(run), fence=FIRST_FENCE, events=[make_event(run, 1)])
            await created
            await ended

        done = await gather(*(live(number) for number in range(600)))
        refused = [number for number, error in enumerate(done) if error is not None]
        expect(refused == [300] and isinstance(done[300], RunExists), f"those refused are {refused}")
        found = await store.list_runs(RunFilter(limit=1000, status=Status.COMPLETED))
        expect(len(found) == 599, f"{len(found)} of 599 have ended")
        try:
            await store.get(runs[300].id)
        except RunNotFound:
            return
        raise AssertionError("a refused run is kept")
