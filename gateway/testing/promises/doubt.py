from __future__ import annotations

from gateway.adapter import Feature, Landed, NotLanded, Recovery, Unknown
from gateway.errors import BackendError, InDoubt, Misbehaved
from gateway.lifecycle import Status
from gateway.task import Envelope
from gateway.testing.case import (
    AnyAdapter,
    ConformanceCase,
    down,
    expect,
    expect_named,
    follow,
    get_features,
    happen,
    need,
    prepare,
    submit,
)


async def recover(adapter: AnyAdapter, case: ConformanceCase, envelope: Envelope) -> Recovery:
    """Ask whether it landed."""
    with case.patience("recover"):
        return await adapter.recover(envelope)


class WhenInDoubt:
    """A task that is paid for is never lost and never paid for twice."""

    async def test_recover_finds_what_landed(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """What landed is found under the same handle, or nobody can say; it is never called not landed."""
        envelope = await prepare(adapter, case, case.good)
        handle = await submit(adapter, case, envelope)
        before = await case.count_accepted()
        found = await recover(adapter, case, envelope)
        expect(await case.count_accepted() == before, "recover submitted something")
        if Feature.RECALL in await get_features(adapter, case):
            expect(isinstance(found, Landed), f"recall is promised, but a landed envelope is {found}")
        expect(not isinstance(found, NotLanded), "it landed, but recover says that it did not")
        if isinstance(found, Landed):
            expect(found.handle == handle, f"submit gave {handle}, recover {found.handle}")

    async def test_recover_invents_nothing(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """What was never sent did not land, or nobody can say; if it may be sent again, it lands once."""
        envelope = await prepare(adapter, case, case.good)
        before = await case.count_accepted()
        found = await recover(adapter, case, envelope)
        expect(await case.count_accepted() == before, "recover submitted something")
        expect(not isinstance(found, Landed), f"it was never sent, but recover says {found}")
        if Feature.RECALL in await get_features(adapter, case):
            expect(isinstance(found, NotLanded), f"recall is promised, but an unsent envelope is {found}")
        if isinstance(found, NotLanded) and not found.final:
            await submit(adapter, case, envelope)
            expect(await case.count_accepted() == before + 1, "sent after recovery, it must land once")

    async def test_a_lost_answer_is_in_doubt(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """When the answer is lost, `submit` says so and never sends again; `recover` finds the one job."""
        lose_answer = need(case.lose_answer, "lose_answer")
        envelope = await prepare(adapter, case, case.good)
        before = await case.count_accepted()
        await happen(lose_answer)
        try:
            await submit(adapter, case, envelope)
        except (InDoubt, Misbehaved) as error:
            expect_named(adapter, error)
        except BackendError as error:
            raise AssertionError(f"it may have landed, but submit raised {error!r}") from error
        else:
            raise AssertionError("the answer was lost, but submit gave a handle")
        expect(await case.count_accepted() == before + 1, "a lost answer made it land more than once")
        found = await recover(adapter, case, envelope)
        expect(not isinstance(found, NotLanded), "it landed, but recover says that it did not")
        if Feature.RECALL in await get_features(adapter, case):
            expect(isinstance(found, Landed), f"recall is promised, but recover says {found}")
        if isinstance(found, Landed):
            last = await follow(adapter, case, found.handle)
            expect(last.status is Status.COMPLETED, f"the recovered job ended {last}")
        expect(await case.count_accepted() == before + 1, "recover submitted something")

    async def test_a_restart_recovers(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Another adapter of the same configuration says of a stored envelope what the first would say."""
        make_adapter = need(case.make_adapter, "make_adapter")
        envelope = await prepare(adapter, case, case.good)
        handle = await submit(adapter, case, envelope)
        fresh = make_adapter()
        try:
            found = await recover(fresh, case, envelope)
        finally:
            await fresh.aclose()
        expect(not isinstance(found, NotLanded), "it landed, but after a restart recover says it did not")
        if isinstance(found, Landed):
            expect(found.handle == handle, f"submit gave {handle}, recover {found.handle}")
        if Feature.RECALL in await get_features(adapter, case):
            expect(isinstance(found, Landed), f"recall is promised, but after a restart it is {found}")

    async def test_down_leaves_the_doubt(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """A backend that can't be asked proves nothing: Unknown or an error, never NotLanded."""
        need(case.go_down, "go_down")
        envelope = await prepare(adapter, case, case.good)
        await submit(adapter, case, envelope)
        async with down(case):
            try:
                found = await recover(adapter, case, envelope)
                expect(isinstance(found, Unknown | Landed), f"the backend is down, but recover says {found}")
            except BackendError as error:
                expect_named(adapter, error)
