from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.errors import BudgetExceeded, InvalidInput, RunExists, RunNotFound, RunTakenOver
from gateway.lifecycle import AttemptStatus, Status
from gateway.policy.budget import Spend
from gateway.store.protocol import RunFilter, Store
from gateway.task import Handle, Snapshot
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
from gateway.types import JSON


class Spending:
    """One key is one run, and no account goes beyond its limit, however many write at once."""

    async def test_one_key_is_one_run(self, store: Store) -> None:
        """A second run of a key raises RunExists, which names the first, also after its end."""
        first, second = make_run(idempotency_key="k"), make_run(idempotency_key="k")
        fence = await store.create(first, owner="me")
        for _ in range(2):
            error = await expect_raises(RunExists, store.create(second, owner="me"), "one key has two runs")
            expect(getattr(error, "run_id", None) == first.id, f"which run has the key: {error!r}?")
            await store.save(make_end(first), fence=fence)
        await expect_raises(RunNotFound, store.get(second.id), "a refused run was stored")
        expect((await store.get(first.id)).idempotency_key == "k", "the key is gone")
        for other in (make_run(idempotency_key="l"), make_run(), make_run()):
            await store.create(other, owner="me")

    async def test_one_key_at_the_same_time_is_one_run(self, store: Store, make_store: StoreMaker) -> None:
        """Of many that come together one is stored, and the others hear which."""
        second = make_store()
        await second.open()
        try:
            runs = [make_run(idempotency_key="k") for _ in range(20)]
            doors = [store, second] * 10
            work = (door.create(run, owner="me") for door, run in zip(doors, runs, strict=True))
            done = await asyncio.gather(*work, return_exceptions=True)
        finally:
            await second.aclose()
        errors = [error for error in done if isinstance(error, RunExists)]
        stored = await store.list_runs(RunFilter())
        expect(len(stored) == 1 and len(errors) == 19, f"{len(stored)} runs have one key")
        expect({error.run_id for error in errors} == {stored[0].id}, "the errors name other runs")

    async def test_whose_a_job_is(self, store: Store) -> None:
        """The attempts that have a job, of runs that go on or ended since then."""
        runs = {name: make_run() for name in ("open", "ended", "long ago", "elsewhere", "another's")}
        held = {name: make_attempt(number, submitted_at=START_AT) for number, name in enumerate(runs, 1)}
        handles = dict.fromkeys(runs, Handle("node1", 'the "job"')) | {"another's": Handle("node1", "job")}
        for name, run in runs.items():
            deep: JSON = name
            for _ in range(220):  # what one of them said must not hide whose the job is
                deep = [deep]
            said = Snapshot(status=Status.RUNNING, output=deep)
            attempt = replace(held[name], handle=handles[name], snapshot=said)
            if name == "elsewhere":
                attempt = replace(attempt, backend="node2")
            ended_at = {"ended": after(100), "long ago": after(90)}.get(name)
            if ended_at is not None:
                attempt = replace(attempt, status=AttemptStatus.SUCCEEDED, ended_at=ended_at)
            status = Status.COMPLETED if ended_at else Status.RUNNING
            whole = replace(with_attempt(run, attempt, status), ended_at=ended_at)
            await store.save(whole, fence=await store.create(run, owner="me"))
        found = await store.ledger.list_holders("node1", 'the "job"', since=after(95))
        expect(sorted(found) == [held["open"].id, held["ended"].id], f"the job is of {found}")

    async def test_what_is_spent_adds_up(self, store: Store) -> None:
        """By account, to the last digit, whatever its size; giving back takes away."""
        run = make_run()
        fence = await store.create(run, owner="me")
        expect(await store.ledger.fetch_spent() == {}, "something is spent at the beginning")
        steps = [[Spend("a", 10**40), Spend("b", 3)], [Spend("a", 1), Spend("a", 1)], [Spend("b", -3)]]
        for spends in steps:
            await store.save(run, fence=fence, spends=spends)
        spent = await store.ledger.fetch_spent()
        expect(spent.get("a") == 10**40 + 2, f"account a has {spent.get('a')}")
        expect(spent.get("b", 0) == 0, f"account b has {spent.get('b')}")
        some = await store.ledger.fetch_spent(["a", "c", "' OR 1=1"])
        expect(some == {"a": 10**40 + 2}, f"of some accounts it tells {some}")
        expect(await store.ledger.fetch_spent([]) == {}, "of no accounts it tells something")

    async def test_a_refused_spend_writes_nothing(self, store: Store) -> None:
        """Neither the run, nor its events, nor what would have fitted; up to the limit is not beyond it."""
        run = make_run()
        fence = await store.create(run, owner="me")
        await store.save(run, fence=fence, spends=[Spend("b", 7, 10, "b's")])
        beyond = [Spend("a", 5, 10, "a's"), Spend("b", 4, 10, "b's")]
        started = with_attempt(run, make_attempt())
        writing = store.save(started, fence=fence, events=[make_event(run, 1)], spends=beyond)
        error = await expect_raises(BudgetExceeded, writing, "a budget was exceeded")
        told = {name: getattr(error, name, None) for name in ("budget", "wanted", "used", "limit")}
        expect(told == {"budget": "b's", "wanted": 4, "used": 7, "limit": 10}, f"the refusal tells {told}")
        expect(await store.get(run.id) == run, "the run was changed")
        expect(await store.list_events(run.id) == [], "an event was kept")
        expect(await store.ledger.fetch_spent() == {"b": 7}, "a part was spent")
        await store.save(started, fence=fence, spends=[Spend("b", 3, 10), Spend("b", 1)])
        expect(
            await store.ledger.fetch_spent() == {"b": 11}, "the limit itself is too much, or no limit is one"
        )

    async def test_an_old_fence_spends_nothing(self, store: Store) -> None:
        """Who lost its run can't reserve for it, nor give back."""
        run = make_run()
        fence = await store.create(run, owner="me")
        await store.save(run, fence=fence, spends=[Spend("a", 5)])
        await store.claim("you", HERE, now=START_AT, limit=9, dead=["me"])
        for amount in (5, -5):
            writing = store.save(run, fence=fence, spends=[Spend("a", amount)])
            await expect_raises(RunTakenOver, writing, "an old fence could spend")
        expect(await store.ledger.fetch_spent() == {"a": 5}, "an old fence changed an account")

    async def test_many_at_once_stay_within_the_limit(self, store: Store, make_store: StoreMaker) -> None:
        """Fifty want 10 of 105: ten get it, and exactly that is spent."""
        runs = [make_run() for _ in range(50)]
        fences = [await store.create(run, owner="me") for run in runs]
        second = make_store()
        await second.open()
        try:
            doors = [store, second] * 25
            work = (
                door.save(run, fence=fence, spends=[Spend("day", 10, 105, "the day's")])
                for door, run, fence in zip(doors, runs, fences, strict=True)
            )
            done = await asyncio.gather(*work, return_exceptions=True)
        finally:
            await second.aclose()
        refused = [result for result in done if isinstance(result, BudgetExceeded)]
        others = [result for result in done if result is not None and result not in refused]
        expect(not others, f"it raised {others}")
        expect(len(refused) == 40, f"{50 - len(refused)} got a part of it")
        expect(await store.ledger.fetch_spent() == {"day": 100}, "what is spent is not what was given")

    async def test_an_ended_run_is_reopened_for_its_money(self, store: Store) -> None:
        """Its older attempts too can be written then, by the newest fence alone; no open run is."""
        unknown = make_attempt(1, AttemptStatus.UNRESOLVED)
        run = make_end(with_attempt(make_run(), unknown), number=2)
        old = await store.create(replace(run, attempts=()), owner="me")
        for attempts in (run.attempts[:1], run.attempts):
            await store.save(replace(run, attempts=attempts), fence=old)
        first, claimed = await store.ledger.reopen(run.id), await store.ledger.reopen(run.id)
        expect(claimed.run == run, "the run is not whole")
        for fence in (old, first.fence):
            await expect_raises(RunTakenOver, store.save(run, fence=fence), "an old fence can write")
        paid = replace(unknown, cost=run.attempts[1].cost)
        spends = [Spend("day", 7)]
        await store.save(replace(run, attempts=(*run.attempts[1:], paid)), fence=claimed.fence, spends=spends)
        run = run.with_attempt(paid)
        await store.save(run, fence=claimed.fence)
        expect(await store.get(run.id) == run, "an older attempt was not written")
        expect(await store.ledger.fetch_spent() == {"day": 7}, "what it cost was not booked")
        going_on = make_run()
        await store.create(going_on, owner="me")
        await expect_raises(InvalidInput, store.ledger.reopen(going_on.id), "a run that goes on was reopened")
        await expect_raises(RunNotFound, store.ledger.reopen("nobody"), "nobody's run was reopened")

    async def test_the_bill_has_every_attempt(self, store: Store) -> None:
        """Each with its run, backend, model and cost, oldest first, whether it has ended or not."""
        ended, going_on = make_end(make_run()), make_run()
        fence = await store.create(replace(ended, attempts=()), owner="me")
        await store.save(ended, fence=fence)
        fence = await store.create(going_on, owner="me")
        first = make_attempt(1, AttemptStatus.REFUSED, created_at=after(10))
        second = make_attempt(2, backend="node2", created_at=after(20))
        for attempt in (first, second):
            going_on = with_attempt(going_on, attempt)
            await store.save(going_on, fence=fence)
        entries = await store.ledger.list_entries(START_AT)
        told = [(e.at, e.run_id, e.backend, e.model, e.ended) for e in entries]
        expected = [
            (START_AT, ended.id, "node1", "m", True),
            (after(10), going_on.id, "node1", "m", True),
            (after(20), going_on.id, "node2", "m", False),
        ]
        expect(told == expected, f"the bill is {told}")
        expect(entries[0].cost == ended.attempts[0].cost, "the cost is not the attempt's")
        since = [entry.at for entry in await store.ledger.list_entries(after(10))]
        expect(since == [after(10), after(20)], f"since 10 s there are {since}")
