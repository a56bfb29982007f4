from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.errors import RunTakenOver
from gateway.lifecycle import AttemptStatus, Status
from gateway.store.protocol import Scope, Store
from gateway.task import Run, Task
from gateway.testing.case import expect
from gateway.testing.store_promises.samples import (
    HERE,
    START_AT,
    StoreMaker,
    after,
    expect_raises,
    make_attempt,
    make_end,
    make_event,
    make_run,
    with_attempt,
)


async def claim(store: Store, owner: str = "you", scope: Scope = HERE, *, limit: int = 100) -> list[str]:
    """Claim at the beginning of time and return the runs' ids."""
    return [one.run.id for one in await store.claim(owner, scope, now=START_AT, limit=limit)]


async def leave(store: Store, *runs: Run) -> list[str]:
    """Store runs that nobody owns."""
    for run in runs:
        fence = await store.create(run, owner="gone")
        if run.attempts:
            await store.save(run, fence=fence)
    await store.release("gone")
    return [run.id for run in runs]


class Owning:
    """A run has one owner at a time, and who lost it writes nothing any more."""

    async def test_an_old_fence_changes_nothing(self, store: Store) -> None:
        """After a take-over the first owner's write raises RunTakenOver and leaves no trace."""
        run = make_run()
        old = await store.create(run, owner="me")
        started = with_attempt(run, make_attempt())
        await store.save(started, fence=old, events=[make_event(run, 1)])
        (claimed,) = await store.claim("you", HERE, now=START_AT, limit=9, dead=["me"])
        expect(claimed.fence > old, "the fence did not grow")
        late = make_end(run)
        guessing = store.save(late, fence=claimed.fence + 1)
        await expect_raises(RunTakenOver, guessing, "a fence that nobody was given could write")
        writing = store.save(late, fence=old, events=[make_event(run, 2)])
        error = await expect_raises(RunTakenOver, writing, "an old fence could write")
        expect(getattr(error, "run_id", "") == run.id, "the error does not say whose fence")
        expect(await store.get(run.id) == started, "an old fence changed the run")
        expect(len(await store.list_events(run.id)) == 1, "an old fence added an event")
        await store.save(late, fence=claimed.fence)
        expect(await store.get(run.id) == late, "the new owner can't write")

    async def test_a_claimed_run_is_whole(self, store: Store) -> None:
        """A claim hands out the run as it was left."""
        run = with_attempt(make_run(), make_attempt())
        await leave(store, run)
        (claimed,) = await store.claim("you", HERE, now=START_AT, limit=9)
        expect(claimed.run == run, f"{run} was claimed as {claimed.run}")

    async def test_a_claim_tells_the_newest_event(self, store: Store) -> None:
        """So that its new owner goes on counting there."""
        silent, told = make_run(), make_run()
        await store.create(silent, owner="gone")
        fence = await store.create(told, owner="gone")
        await store.save(told, fence=fence, events=[make_event(told, 1), make_event(told, 2)])
        await store.release("gone")
        claimed = await store.claim("you", HERE, now=START_AT, limit=9)
        found = {one.run.id: one.seq for one in claimed}
        expect(found == {silent.id: 0, told.id: 2}, f"the newest events were told as {found}")

    async def test_nobodys_run_is_free(self, store: Store) -> None:
        """A run without an owner goes to the first that asks, once, and even back to who gave it up."""
        (run_id,) = await leave(store, make_run())
        expect(await claim(store, "gone") == [run_id], "a run of nobody was not given")
        await store.beat("gone", until=after(1))
        expect(await claim(store) == [], "a run was given twice")

    async def test_a_beating_owner_keeps_its_runs(self, store: Store) -> None:
        """Up to and including the end of its lease; then, or if it never beat, its runs are free."""
        run = make_run()
        await store.create(run, owner="me")
        await store.beat("me", until=after(5))
        await store.beat("me", until=after(10))
        for seconds, expected in ((0, 0), (7, 0), (10, 0), (10.001, 1)):
            claimed = await store.claim("you", HERE, now=after(seconds), limit=9)
            expect(len(claimed) == expected, f"{seconds} s into a lease of 10: {claimed}")
        never = make_run()
        await store.create(never, owner="who never beat")
        expect(await claim(store) == [never.id], "the run of one that never beat is not free")

    async def test_a_dead_owner_keeps_nothing(self, store: Store) -> None:
        """Who is known to be dead loses its runs at once, whatever its lease says; nobody else does."""
        run, other = make_run(), make_run()
        for one, owner in ((run, "dead"), (other, "alive")):
            await store.create(one, owner=owner)
            await store.beat(owner, until=after(10))
        claimed = await store.claim("you", HERE, now=START_AT, limit=9, dead=["dead", "unheard of"])
        expect([one.run.id for one in claimed] == [run.id], f"claimed: {claimed}")

    async def test_nobody_claims_its_own(self, store: Store) -> None:
        """A run that one has already is not given to it again, even after its lease."""
        await store.create(make_run(), owner="me")
        claimed = await store.claim("me", HERE, now=after(99), limit=9, dead=["me"])
        expect(claimed == [], "one claimed its own run")

    async def test_an_ended_run_is_left_alone(self, store: Store) -> None:
        """What has ended has no owner that matters, and is not claimed."""
        run = make_run()
        fence = await store.create(run, owner="me")
        await store.save(make_end(run), fence=fence)
        expect(await store.list_owners() == [], "an ended run has an owner")
        expect(await claim(store) == [], "an ended run was claimed")
        await store.release("me")
        expect(await claim(store) == [], "an ended run was claimed after its release")

    async def test_a_run_stays_where_its_job_is(self, store: Store) -> None:
        """With an attempt only the newest one's backend at its own address counts, not the model."""
        here = with_attempt(make_run(Task(model="unknown here")), make_attempt())
        moved = with_attempt(make_run(), make_attempt(address="http://127.0.0.1:9"))
        other = with_attempt(make_run(), make_attempt(backend="node2"))
        spaced = with_attempt(make_run(), make_attempt(backend="node1 http://a", address="b"))
        gone_on = make_run()
        fence = await store.create(gone_on, owner="gone")
        for attempt in (make_attempt(1, AttemptStatus.REFUSED), make_attempt(2, backend="node2")):
            gone_on = with_attempt(gone_on, attempt)
            await store.save(gone_on, fence=fence)
        await leave(store, here, moved, other, spaced)
        expect(await claim(store) == [here.id], "a run was claimed away from its job")
        tricky = Scope(frozenset({("node1", "http://a b")}), frozenset({"m"}))
        expect(await claim(store, scope=tricky) == [], "two places were taken for one")
        second = Scope(frozenset({("node2", "http://127.0.0.1:4000")}), frozenset())
        expect(set(await claim(store, scope=second)) == {other.id, gone_on.id}, "the newest attempt counts")

    async def test_a_run_without_a_job_needs_its_model(self, store: Store) -> None:
        """Before the first attempt the model must be known here; a task without a model fits everywhere."""
        known, unknown, free = make_run(), make_run(Task(model="x")), make_run(Task(target={"app": "a"}))
        await leave(store, known, unknown, free)
        nothing = Scope(frozenset(), frozenset())
        expect(await claim(store, scope=nothing) == [free.id], "only the task without a model fits nowhere")
        expect(await claim(store) == [known.id], "an unknown model was claimed")

    async def test_a_limit_takes_the_oldest(self, store: Store) -> None:
        """So many at a time, the oldest first; the rest stays for others."""
        runs = [make_run(created_at=after(seconds)) for seconds in (30, 10, 20, 40)]
        ids = await leave(store, *runs)
        await store.beat("you", until=after(10))
        expect(await claim(store, limit=2) == [ids[1], ids[2]], "not the two oldest")
        expect(await claim(store, "third", limit=0) == [], "a limit of 0 gave something")
        expect(await claim(store, "third") == [ids[0], ids[3]], "not the rest")

    async def test_two_claimers_share(self, store: Store, make_store: StoreMaker) -> None:
        """However many claim at once, no run is given twice and none is forgotten."""
        ids = await leave(store, *(make_run() for _ in range(60)))
        others = [make_store() for _ in range(3)]
        try:
            for other in others:
                await other.open()
            owners = [f"owner {number}" for number in range(12)]
            for owner in owners:
                await store.beat(owner, until=after(9))
            stores = [store, *others] * 3
            work = (claim(s, o, limit=7) for s, o in zip(stores, owners, strict=True))
            claimed = [run_id for found in await asyncio.gather(*work) for run_id in found]
        finally:
            for other in others:
                await other.aclose()
        expect(len(claimed) == len(set(claimed)), "a run was given to two owners")
        expect(sorted(claimed) == sorted(ids), f"{len(claimed)} of 60 runs were claimed")

    async def test_release_gives_everything_up(self, store: Store) -> None:
        """Who leaves in order is waited for by nobody; others keep theirs."""
        mine, also_mine, yours = make_run(), make_run(), make_run()
        for run, owner in ((mine, "me"), (also_mine, "me"), (yours, "you")):
            await store.create(run, owner=owner)
            await store.beat(owner, until=after(10))
        expect(sorted(await store.list_owners()) == ["me", "you"], "the owners are wrong")
        await store.release("me")
        expect(await store.list_owners() == ["you"], "who left is still an owner")
        expect(await claim(store, "third") == [mine.id, also_mine.id], "not all was given up")

    async def test_a_fence_is_each_runs_own(self, store: Store) -> None:
        """A take-over of one run leaves the fences of others."""
        mine, lost = make_run(), make_run(Task(model="m"))
        fence = await store.create(mine, owner="me")
        await store.beat("me", until=after(10))
        await store.create(lost, owner="gone")
        expect(await claim(store) == [lost.id], "the wrong run was taken over")
        saved = replace(mine, status=Status.QUEUED)
        await store.save(saved, fence=fence)
        expect(await store.get(mine.id) == saved, "a fence of another run counted")
