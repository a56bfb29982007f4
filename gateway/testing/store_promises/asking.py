from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from gateway.errors import GatewayError
from gateway.lifecycle import AttemptStatus, Phase, Status
from gateway.policy.learning import Outcome
from gateway.store.protocol import RunFilter, Store, Wish
from gateway.task import Run, Task
from gateway.testing.case import expect
from gateway.testing.store_promises.samples import (
    HERE,
    START_AT,
    after,
    expect_raises,
    make_attempt,
    make_end,
    make_run,
    with_attempt,
)


class Wishing:
    """A wish of any caller reaches the run's owner, and outlives what the owner writes."""

    async def test_a_cancel_survives_the_owners_saves(self, store: Store) -> None:
        """The owner, which does not know of it yet, can't write it away."""
        run = make_run()
        fence = await store.create(run, owner="me")
        asked = await store.wish(Wish(run.id, cancel_at=after(1)))
        expect(asked.cancel_requested_at == after(1), "the wish is not in the answer")
        for state in (with_attempt(run, make_attempt()), with_attempt(run, make_attempt(), Status.SERVING)):
            await store.save(state, fence=fence)
            found = await store.get(run.id)
            expect(found == replace(state, cancel_requested_at=after(1)), f"it came back as {found}")
        expect(await store.list_wishes("me") == [Wish(run.id, after(1))], "the owner does not hear of it")
        await store.save(make_end(run), fence=fence)
        expect((await store.get(run.id)).cancel_requested_at == after(1), "the end forgot the wish")

    async def test_the_first_cancel_and_the_last_answer_count(self, store: Store) -> None:
        """A wish to cancel keeps its time; an answer may be chosen anew; neither takes the other away."""
        run = make_run()
        await store.create(run, owner="me")
        for wish in (Wish(run.id, accept_answer="a"), Wish(run.id, after(1)), Wish(run.id, after(2), "b")):
            await store.wish(wish)
        expect(await store.list_wishes("me") == [Wish(run.id, after(1), "b")], "the wishes are wrong")
        found = await store.get(run.id)
        expect((found.cancel_requested_at, found.accept_answer) == (after(1), "b"), f"it is {found}")

    async def test_wishes_are_heard_by_the_owner_alone(self, store: Store) -> None:
        """Only for open runs, only of this owner, and by the new one after a take-over."""
        mine, yours, quiet, ended = make_run(), make_run(), make_run(), make_run()
        await store.create(mine, owner="me")
        await store.create(yours, owner="you")
        await store.create(quiet, owner="me")
        fence = await store.create(ended, owner="me")
        for run in (mine, yours, ended):
            await store.wish(Wish(run.id, after(1)))
        await store.save(make_end(ended), fence=fence)
        expect(await store.list_wishes("me") == [Wish(mine.id, after(1))], "not the wishes for me")
        await store.beat("you", until=after(9))
        claimed = await store.claim("third", HERE, now=START_AT, limit=9)
        wishes = {one.run.id: one.run.cancel_requested_at for one in claimed}
        expect(wishes == {mine.id: after(1), quiet.id: None}, f"a claim tells {wishes}")
        expect(await store.list_wishes("me") == [], "who lost a run still hears of it")
        expect(await store.list_wishes("third") == [Wish(mine.id, after(1))], "the new owner does not")

    async def test_a_wish_comes_too_late(self, store: Store) -> None:
        """An ended run is returned as it is."""
        run = make_run()
        fence = await store.create(run, owner="me")
        ended = make_end(run)
        await store.save(ended, fence=fence)
        expect(await store.wish(Wish(run.id, after(1), "a")) == ended, "a wish changed an ended run")
        expect(await store.get(run.id) == ended, "a wish for an ended run was kept")


async def fill(store: Store) -> dict[str, Run]:
    """Store one run of each kind."""
    runs = {
        "new": make_run(created_at=after(1)),
        "other model": make_run(Task(model="x"), created_at=after(2), api_key="team"),
        "moved": make_run(created_at=after(3)),
        "done": make_run(created_at=after(4)),
        "broken": make_run(created_at=after(5)),
    }
    fences = {name: await store.create(run, owner="me") for name, run in runs.items()}
    runs["moved"] = with_attempt(runs["moved"], make_attempt(1, AttemptStatus.REFUSED))
    await store.save(runs["moved"], fence=fences["moved"])
    runs["moved"] = with_attempt(runs["moved"], make_attempt(2, backend="node2"))
    runs["done"], runs["broken"] = make_end(runs["done"]), make_end(runs["broken"], succeeded=False)
    for name in ("moved", "done", "broken"):
        await store.save(runs[name], fence=fences[name])
    return runs


class Looking:
    """Lists are complete, in order, and hold nothing else."""

    async def test_filters(self, store: Store) -> None:
        """Each filter alone, and some together; newest first."""
        runs = await fill(store)
        cases: list[tuple[RunFilter, list[str]]] = [
            (RunFilter(), ["broken", "done", "moved", "other model", "new"]),
            (RunFilter(phase=Phase.RUNNING), ["moved", "other model", "new"]),
            (RunFilter(phase=Phase.SUCCESS), ["done"]),
            (RunFilter(phase=Phase.FAILED), ["broken"]),
            (RunFilter(status=Status.RECEIVED), ["other model", "new"]),
            (RunFilter(model="x"), ["other model"]),
            (RunFilter(model="nothing"), []),
            (RunFilter(backend="node1"), ["broken", "done"]),
            (RunFilter(backend="node2"), ["moved"]),
            (RunFilter(before=after(3)), ["other model", "new"]),
            (RunFilter(api_key="team"), ["other model"]),
            (RunFilter(api_key="other"), []),
            (RunFilter(limit=2), ["broken", "done"]),
            (RunFilter(limit=0), []),
            (RunFilter(phase=Phase.RUNNING, model="m", before=after(3), limit=1), ["new"]),
        ]
        for which, names in cases:
            found = [run.id for run in await store.list_runs(which)]
            expect(found == [runs[name].id for name in names], f"{which} gave {found}, not {names}")
        whole = await store.list_runs(RunFilter(phase=Phase.SUCCESS))
        expect(whole == [runs["done"]], "a listed run is not whole")

    async def test_pages_meet_each_run_once(self, store: Store) -> None:
        """`before` the last of a page begins the next one, to the microsecond."""
        runs = [make_run(created_at=after(number / 1_000_000)) for number in range(11)]
        for run in runs:
            await store.create(run, owner="me")
        found: list[Run] = []
        while page := await store.list_runs(
            RunFilter(limit=4, before=found[-1].created_at if found else None)
        ):
            found += page
        expect(found == runs[::-1], f"paging gave {[run.id for run in found]}")

    async def test_of_one_moment_the_later_comes_first(self, store: Store) -> None:
        """Runs that were created at the same time come back in the order of their writing, newest first."""
        runs = [make_run(created_at=START_AT) for _ in range(3)]
        for run in runs:
            await store.create(run, owner="me")
        found = [run.id for run in await store.list_runs(RunFilter())]
        expect(found == [run.id for run in runs[::-1]], f"the order is {found}")

    async def test_words_that_nothing_can_have(self, store: Store) -> None:
        """A name that no text of a database can hold is not there, or is refused in the gateway's words."""
        for name in ("half \ud800", "none \x00"):
            for ask in (store.get(name), store.list_events(name), store.wish(Wish(name, after(1)))):
                await expect_raises(GatewayError, ask, f"there is something called {name!r}")
            with suppress(GatewayError):
                expect(await store.list_runs(RunFilter(idempotency_key=name)) == [], f"a run has {name!r}")

    async def test_outcomes(self, store: Store) -> None:
        """What may have landed and ended since then, oldest end first: with its backend and model."""
        refused = make_attempt(status=AttemptStatus.REFUSED, ended_at=after(50))
        runs = {
            "slow": make_end(make_run(), 40.0),
            "quick": make_end(make_run(), 0.25),
            "broken": make_end(make_run(Task(target={})), 20.0, succeeded=False),
            "refused": with_attempt(make_run(), refused),
            "going on": with_attempt(make_run(), make_attempt(submitted_at=START_AT)),
        }
        for run in runs.values():
            fence = await store.create(replace(run, attempts=(), status=Status.RECEIVED), owner="me")
            await store.save(run, fence=fence)
        expected = [
            ("node1", "m", Outcome(after(0.25), succeeded=True, doubted=False, seconds=0.25)),
            ("node1", "", Outcome(after(20), succeeded=False, doubted=False, seconds=20.0)),
            ("node1", "m", Outcome(after(40), succeeded=True, doubted=False, seconds=40.0)),
        ]
        found = await store.list_outcomes(START_AT)
        expect(found == expected, f"the outcomes are {found}")
        expect(await store.list_outcomes(after(20)) == expected[1:], "since when is not kept")
        expect(await store.list_outcomes(after(41)) == [], "there is something after the last")
