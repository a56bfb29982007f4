from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, timedelta

from gateway.errors import CostOutcome, RunExists, RunNotFound
from gateway.lifecycle import Phase
from gateway.policy.budget import Spend
from gateway.store.archive import Pruning
from gateway.store.bill import BillLine, Total
from gateway.store.protocol import RunFilter, Store
from gateway.task import Cost, Run, Task
from gateway.testing.case import expect
from gateway.testing.store_promises.samples import (
    START_AT,
    after,
    expect_raises,
    make_attempt,
    make_end,
    make_event,
    make_run,
    with_attempt,
)
from gateway.types import Money, RunId

KNOWN = Cost(
    quoted=Money.parse("0.5 USD"), settled=Money.parse("0.25 USD"), outcome=CostOutcome.CHARGED, evidence={}
)
NOBODY_KNOWS = Cost(reserved=Money.parse("1 USD"))


async def keep_end(store: Store, run: Run, seconds: float, cost: Cost = KNOWN) -> Run:
    """Store a run that ended so long after the beginning, and what it cost."""
    fence = await store.create(run, owner="me")
    ended = make_end(run, seconds)
    ended = ended.with_attempt(replace(ended.attempts[0], cost=cost))
    await store.save(ended, fence=fence, events=[make_event(run, 1)])
    return ended


async def list_left(store: Store) -> list[RunId]:
    """Return the ids of the runs that are there, oldest first."""
    return [run.id async for run in store.archive.export()]


class Archiving:
    """What has ended can be carried away whole, and is forgotten when it shall be, and nothing else."""

    async def test_only_what_ended_long_ago_is_pruned(self, store: Store) -> None:
        """Neither what is open nor what ended at or after the time; twice is once."""
        old, young, going_on = make_run(), make_run(), make_run()
        await keep_end(store, old, 5)
        await keep_end(store, young, 50)
        fence = await store.create(going_on, owner="me")
        await store.save(with_attempt(going_on, make_attempt()), fence=fence)
        for before, forgotten in ((5, 0), (50, 1), (50, 0)):
            which = Pruning(ended_before=after(before))
            expect(await store.archive.count_prunable(which) == forgotten, f"the count before {before} s")
            expect(await store.archive.prune(which, limit=9) == forgotten, f"not {forgotten} were pruned")
        expect(await list_left(store) == [young.id, going_on.id], "the wrong runs are left")
        expect(await store.archive.prune(Pruning(ended_before=after(10**8)), limit=9) == 1, "open runs ended")
        expect([run.id for run in await store.list_runs(RunFilter())] == [going_on.id], "an open run is gone")

    async def test_nothing_of_a_pruned_run_is_left(self, store: Store) -> None:
        """Neither itself, nor its events, nor its account; the accounts of others stay."""
        run, other = make_run(), make_run()
        for one in (run, other):
            fence = await store.create(one, owner="me")
            spends = [Spend(f"run:{one.id}|||", 7), Spend("total|||", 7)]
            await store.save(with_attempt(one, make_attempt(cost=KNOWN)), fence=fence, spends=spends)
            if one is run:
                ended = make_end(one)
                ended = ended.with_attempt(replace(ended.attempts[0], cost=KNOWN))
                await store.save(ended, fence=fence, events=[make_event(run, 1)])
        expect(await store.archive.prune(Pruning(ended_before=after(99)), limit=9) == 1, "it was not pruned")
        await expect_raises(RunNotFound, store.get(run.id), "a pruned run is there")
        await expect_raises(RunNotFound, store.list_events(run.id), "a pruned run's events are there")
        entries = await store.ledger.list_entries(START_AT)
        expect([entry.run_id for entry in entries] == [other.id], "a pruned run's attempts are there")
        expect(await store.ledger.fetch_spent() == {f"run:{other.id}|||": 7, "total|||": 14}, "the accounts")

    async def test_what_nobody_knows_the_cost_of_stays(self, store: Store) -> None:
        """Until it is asked for."""
        await keep_end(store, known := make_run(), 1)
        await keep_end(store, unknown := make_run(), 2, NOBODY_KNOWS)
        which = Pruning(ended_before=after(99))
        expect(await store.archive.prune(which, limit=9) == 1, "not one was pruned")
        expect(await list_left(store) == [unknown.id], f"{known.id} is the one with a known cost")
        which = replace(which, unresolved=True)
        expect(await store.archive.count_prunable(which) == 1, "it is not counted when it is asked for")
        expect(await store.archive.prune(which, limit=9) == 1, "it stays though it was asked for")
        expect(await list_left(store) == [], "something is left")

    async def test_a_child_stays_while_its_parent_is_open(self, store: Store) -> None:
        """Or the parent would have its task done again."""
        parent = make_run()
        fence = await store.create(parent, owner="me")
        await keep_end(store, child := make_run(parent=parent.id), 1)
        which = Pruning(ended_before=after(99))
        expect(await store.archive.count_prunable(which) == 0, "the child of an open run is counted")
        expect(await store.archive.prune(which, limit=9) == 0, "the child of an open run was pruned")
        await store.save(make_end(parent, 200), fence=fence)
        expect(await store.archive.prune(which, limit=9) == 1, "it stays though its parent has ended")
        await expect_raises(RunNotFound, store.get(child.id), "the child is there")

    async def test_so_many_at_a_time(self, store: Store) -> None:
        """`limit` bounds one call, and calling until there is nothing more forgets them all."""
        for seconds in range(1, 8):
            await keep_end(store, make_run(), seconds)
        which = Pruning(ended_before=after(99))
        pruned: list[int] = []
        while not pruned or pruned[-1]:
            pruned.append(await store.archive.prune(which, limit=3))
        expect(pruned == [3, 3, 1, 0], f"the calls pruned {pruned}")

    async def test_the_newest_can_be_kept(self, store: Store) -> None:
        """So many that ended last stay, known or not."""
        runs = [await keep_end(store, make_run(), seconds) for seconds in (3, 1, 2)]
        runs.append(await keep_end(store, make_run(), 4, NOBODY_KNOWS))
        which = Pruning(ended_before=after(99), keep=2)
        expect(await store.archive.count_prunable(which) == 2, "the count does not keep the newest")
        expect(await store.archive.prune(which, limit=9) == 2, "not all but the newest two were pruned")
        expect(await list_left(store) == [runs[0].id, runs[3].id], "the newest two are not what is left")
        expect(await store.archive.prune(replace(which, keep=9), limit=9) == 0, "fewer than are kept: pruned")

    async def test_a_pruned_key_stays_taken(self, store: Store) -> None:
        """The same key never runs twice, and the refusal names the run that is gone."""
        run = make_run(idempotency_key="k")
        await keep_end(store, run, 1)
        await store.archive.prune(Pruning(ended_before=after(99)), limit=9)
        again = make_run(idempotency_key="k")
        error = await expect_raises(RunExists, store.create(again, owner="me"), "a pruned key ran twice")
        expect(getattr(error, "run_id", None) == run.id, f"which run had the key: {error!r}?")
        await store.create(make_run(idempotency_key="l"), owner="me")

    async def test_the_bill_survives(self, store: Store) -> None:
        """Its sums by day, backend and model are those of before, however many prunings they came from."""
        day = timedelta(days=1)
        for seconds, model, cost in (
            (1, "m", KNOWN),
            (2, "m", KNOWN),
            (3, "m", NOBODY_KNOWS),
            (4, "x", KNOWN),
        ):
            await keep_end(store, make_run(Task(model=model), api_key="team"), seconds, cost)
        expect(await store.ledger.list_pruned(START_AT) == [], "something is on the bill twice")
        for _ in range(9):
            await store.archive.prune(Pruning(ended_before=after(99), unresolved=True), limit=1)
        lines = await store.ledger.list_pruned(START_AT)
        usd = Money.parse
        expected = [
            BillLine(
                backend="node1",
                model="m",
                day=date(2030, 1, 1),
                key="team",
                attempts=3,
                quoted=Total(known=(usd("1 USD"),), unknown=1),
                reserved=Total(known=(usd("1 USD"),)),
                settled=Total(known=(usd("0.5 USD"),), unknown=1),
            ),
            BillLine(
                backend="node1",
                model="x",
                day=date(2030, 1, 1),
                key="team",
                attempts=1,
                quoted=Total(known=(usd("0.5 USD"),)),
                settled=Total(known=(usd("0.25 USD"),)),
            ),
        ]
        expect(sorted(lines, key=lambda line: line.model or "") == expected, f"the sums are {lines}")
        later = await store.ledger.list_pruned(START_AT.astimezone(UTC) + timedelta(hours=5))
        expect(len(later) == 2, "the day of `since` is not whole")
        expect(await store.ledger.list_pruned(START_AT + day) == [], "an earlier day is told")

    async def test_a_key_has_a_bill_of_its_own(self, store: Store) -> None:
        """Nothing of another key's is on it, nor of runs without one; before the pruning and after."""
        for key in ("mine", "other", None, "mine"):
            await keep_end(store, make_run(api_key=key), 1)
        for expected in ((2, 0), (0, 2)):
            entries = await store.ledger.list_entries(START_AT, "mine")
            lines = await store.ledger.list_pruned(START_AT, "mine")
            told = len(entries), sum(line.attempts for line in lines)
            expect(told == expected, f"{told} attempts are on the bill and pruned from it, not {expected}")
            expect({entry.api_key for entry in entries} <= {"mine"}, "another's attempts are told")
            expect({line.key for line in lines} <= {"mine"}, "another's lines are told")
            await store.archive.prune(Pruning(ended_before=after(99)), limit=9)
        whose = [line.key for line in await store.ledger.list_pruned(START_AT)]
        expect(sorted(whose, key=str) == [None, "mine", "other"], f"all lines are of {whose}")
        expect(await store.ledger.list_pruned(START_AT, "nobody") == [], "somebody's lines are nobody's")

    async def test_export_has_every_run_whole(self, store: Store) -> None:
        """Oldest first, more than one page of them, those of one moment in the order of their writing."""
        runs: Sequence[Run] = [make_run(created_at=after(number // 3)) for number in range(450)]
        for run in runs:
            await store.create(run, owner="me")
        ended = make_end(runs[0])
        await store.save(ended, fence=1)
        found = [run async for run in store.archive.export()]
        expect(
            [run.id for run in found] == [run.id for run in runs], "the order is wrong, or some are missing"
        )
        expect(found[0] == ended, "an exported run is not whole")
        since = [run.id async for run in store.archive.export(since=after(100))]
        expect(since == [run.id for run in runs[300:]], f"since 100 s there are {len(since)}")
        expect(len(await store.list_runs(RunFilter(phase=Phase.SUCCESS))) == 1, "export changed something")

    async def test_pages_of_one_moment(self, store: Store) -> None:
        """A page begins behind the run that ended the last one, also among runs of the same time."""
        runs = [make_run(created_at=after(number // 7)) for number in range(20)]
        for run in runs:
            await store.create(run, owner="me")
        which = RunFilter(limit=3)
        found: list[Run] = []
        while page := await store.list_runs(which):
            found += page
            which = which.make_next(page[-1])
        expect([run.id for run in found] == [run.id for run in runs[::-1]], "a page repeats or leaves out")
