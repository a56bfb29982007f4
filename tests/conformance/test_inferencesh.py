"""The inference.sh adapter keeps the promises of the seam, in all generations of the API's answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from gateway.adapter import CancelOutcome, Landed, Unknown
from gateway.devnet.faults import Fault, Operation
from gateway.devnet.inferencesh import InferenceshApi
from gateway.errors import CostOutcome, InDoubt
from gateway.files import File
from gateway.lifecycle import Status
from gateway.task import Event, FailureKind, Handle, Snapshot, Task
from gateway.testing.case import ConformanceCase, Sample
from gateway.testing.conformance import AdapterConformance
from gateway.types import JSON, AttemptId, Money
from gateway_inferencesh import (
    InferenceshAdapter,
    InferenceshConfig,
    InsufficientScope,
    PaymentRequired,
    RequirementsNotMet,
    SessionEnded,
    SessionExpired,
    SessionMismatch,
    SessionNotFound,
)

NAME = "hosted"
KEY = "inf_secret_of_the_test"


def make_adapter(api: InferenceshApi, **config: JSON) -> InferenceshAdapter:
    words = {"url": api.url, "api_key": KEY, **config}
    return InferenceshAdapter(NAME, InferenceshConfig.model_validate(words))


@pytest.fixture(params=["v1", "v2", "v3", "superset"])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[InferenceshApi]:
    api = InferenceshApi(NAME, api_key=KEY, envelope=request.param)
    await api.start()
    yield api
    await api.stop()


class TestInferenceshAdapter(AdapterConformance):
    @pytest.fixture
    def case(self, api: InferenceshApi) -> ConformanceCase:
        def sample(app: str, input: object) -> Sample:
            return Sample(task=Task(input=input), target={"app": f"demo/{app}"})

        return ConformanceCase(
            good=sample("echo", {"text": "hello"}),
            expected={"text": "hello"},
            bad_target={"app": "no-namespace"},
            accepted=lambda: len(api.journal),
            failing=sample("fail", {"message": "oh"}),
            slow=sample("sleep", {"seconds": 0.3}),
            refused=sample("needs-secret", {}),
            unknown=Handle(NAME, "task_that_never_was"),
            go_down=api.stop,
            come_back=api.start,
            lose_answer=lambda: api.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT),
            make_adapter=lambda: make_adapter(api),
            secrets=(KEY,),
        )


@pytest.fixture
async def adapter(api: InferenceshApi) -> AsyncIterator[InferenceshAdapter]:
    adapter = make_adapter(api)
    yield adapter
    await adapter.aclose()


async def start(adapter: InferenceshAdapter, app: str, input: JSON, **target: JSON) -> Handle:
    words = {"app": f"demo/{app}", **target}
    envelope = await adapter.prepare(Task(input=input), words, attempt_id=AttemptId("a1"))
    return await adapter.submit(envelope)


async def finish(adapter: InferenceshAdapter, handle: Handle, until: Status | None = None) -> Snapshot:
    async with asyncio.timeout(60):
        while True:
            snapshot = (await adapter.poll([handle])).get(handle)
            if snapshot is not None and (snapshot.status.is_final or snapshot.status is until):
                return snapshot
            await asyncio.sleep(0.01)


async def follow(adapter: InferenceshAdapter, handle: Handle) -> list[Event]:
    async with asyncio.timeout(60):
        return [event async for event in adapter.events(handle)]


@pytest.mark.anyio
class TestAgainstTheDevnet:
    async def test_real_inference(self, adapter: InferenceshAdapter) -> None:
        handle = await start(adapter, "sentiment", {"text": "What a wonderful day!"})
        snapshot = await finish(adapter, handle)
        assert snapshot.status is Status.COMPLETED
        assert snapshot.output["compound"] > 0.5
        assert snapshot.cost is not None
        assert snapshot.cost.outcome is CostOutcome.CHARGED
        assert snapshot.detail["usage_events"]

    @pytest.mark.parametrize("statuses", ["numbers", "names"])
    @pytest.mark.parametrize("final_event", ["whole", "partial"])
    @pytest.mark.parametrize("snapshot_on_connect", ["yes", "no"])
    async def test_a_stream(
        self,
        api: InferenceshApi,
        adapter: InferenceshAdapter,
        statuses: Literal["numbers", "names"],
        final_event: Literal["whole", "partial"],
        snapshot_on_connect: str,
    ) -> None:
        api.quirks.statuses = statuses
        api.quirks.final_event = final_event
        api.quirks.snapshot_on_connect = snapshot_on_connect == "yes"
        text = "the quick brown fox jumps over the lazy dog"
        handle = await start(adapter, "words", {"text": text, "delay_seconds": 0.01})
        events = await follow(adapter, handle)
        pieces = [event.piece["response"] for event in events if event.kind == "piece"]
        assert "".join(pieces) == text
        assert events[-1].snapshot is not None
        assert events[-1].snapshot.output == {"response": text}
        assert events[-1].snapshot == await finish(adapter, handle)

    @pytest.mark.parametrize("fault", [Fault.CUT_STREAM, Fault.STALL_STREAM])
    async def test_a_broken_stream(self, api: InferenceshApi, fault: Fault) -> None:
        adapter = make_adapter(api, heartbeat_seconds=0.1)
        api.faults.arm(fault, on=Operation.STREAM)
        events = await follow(adapter, await start(adapter, "sleep", {"seconds": 0.3}))
        assert events[-1].snapshot is not None
        assert events[-1].snapshot.status is Status.COMPLETED
        await adapter.aclose()

    async def test_a_late_subscriber(self, adapter: InferenceshAdapter) -> None:
        handle = await start(adapter, "echo", {"a": 1})
        end = await finish(adapter, handle)
        events = await follow(adapter, handle)
        assert [event.snapshot for event in events] == [end]

    async def test_cancel(self, adapter: InferenceshAdapter) -> None:
        handle = await start(adapter, "sleep", {"seconds": 60})
        assert await adapter.cancel(handle) in (CancelOutcome.REQUESTED, CancelOutcome.CANCELLED)
        snapshot = await finish(adapter, handle)
        assert snapshot.failure is not None
        assert snapshot.failure.kind is FailureKind.CANCELLED
        assert await adapter.cancel(handle) is CancelOutcome.TOO_LATE

    async def test_cancel_by_force(self, adapter: InferenceshAdapter) -> None:
        handle = await start(adapter, "sleep", {"seconds": 60, "stubborn": True})
        await finish(adapter, handle, Status.RUNNING)
        assert await adapter.cancel(handle) is CancelOutcome.REQUESTED
        assert await adapter.cancel(handle, force=True) is CancelOutcome.CANCELLED

    async def test_a_scheduled_run(self, adapter: InferenceshAdapter) -> None:
        at = datetime.now(UTC) + timedelta(hours=1)
        handle = await start(adapter, "echo", {"a": 1}, run_at=at)
        assert (await adapter.poll([handle]))[handle].status is Status.RECEIVED
        await adapter.cancel(handle, force=True)

    async def test_rejected_at_admission(self, adapter: InferenceshAdapter) -> None:
        snapshot = await finish(adapter, await start(adapter, "rejected", {}))
        assert snapshot.status is Status.REJECTED
        assert snapshot.cost is not None
        assert snapshot.cost.outcome is CostOutcome.NOT_CHARGED

    async def test_requirements(self, adapter: InferenceshAdapter) -> None:
        with pytest.raises(RequirementsNotMet, match="DEMO_TOKEN") as caught:
            await start(adapter, "needs-secret", {})
        assert [item.key for item in caught.value.missing] == ["DEMO_TOKEN"]

    async def test_keys(self, api: InferenceshApi, adapter: InferenceshAdapter) -> None:
        narrow = make_adapter(api, api_key="inf_narrow")
        assert (await narrow.capabilities()).reason == "the API key is refused"
        api.account.add_key("inf_narrow", ["apps:read"])
        assert (await narrow.capabilities()).healthy
        with pytest.raises(InsufficientScope) as caught:
            await start(narrow, "echo", {})
        assert caught.value.required_scope == "apps:execute"
        await narrow.aclose()

    async def test_no_money(self, api: InferenceshApi, adapter: InferenceshAdapter) -> None:
        api.account.balance_microcents = 0
        with pytest.raises(PaymentRequired):
            await start(adapter, "echo", {})

    async def test_quotes(self, adapter: InferenceshAdapter) -> None:
        exact = await adapter.quote(Task(input={"text": "hi"}), {"app": "demo/sentiment"})
        assert exact.upper == Money.parse("0.002 USD")
        ranged = await adapter.quote(Task(input={"text": "hi"}), {"app": "demo/words"})
        assert ranged.confidence == "range"
        unknown = await adapter.quote(Task(input={"seconds": 1}), {"app": "demo/sleep"})
        assert (unknown.confidence, unknown.upper) == ("unknown", None)

    async def test_files(self, api: InferenceshApi, adapter: InferenceshAdapter) -> None:
        handle = await start(adapter, "file-length", {"file": File(data=b"12345", filename="five.bin")})
        assert (await finish(adapter, handle)).output == {"length": 5}
        assert not api.files.leaked_keys_on
        files = await adapter.tasks.fetch_files(handle.job_id, "input")
        assert [file["filename"] for file in files] == ["five.bin"]
        deleted = await adapter.tasks.delete_files(handle.job_id)
        assert deleted["deleted"] == [files[0]["id"]]

    async def test_what_is_beside_the_seam(self, adapter: InferenceshAdapter) -> None:
        handle = await start(adapter, "fail", {"message": "oh"})
        assert (await finish(adapter, handle)).failure is not None
        logs = await adapter.tasks.fetch_logs(handle.job_id)
        assert any("about to fail" in log["content"] for log in logs)
        assert (await adapter.tasks.fetch_timings(handle.job_id))["task_id"] == handle.job_id
        await adapter.tasks.delete(handle.job_id)
        lost = await finish(adapter, handle)
        assert lost.failure is not None
        assert lost.failure.kind is FailureKind.LOST

    async def test_a_lost_answer_is_found_in_the_list(
        self, api: InferenceshApi, adapter: InferenceshAdapter
    ) -> None:
        envelopes = [
            await adapter.prepare(Task(input={"n": n}), {"app": "demo/echo"}, attempt_id=AttemptId(f"a{n}"))
            for n in range(3)
        ]
        api.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT, times=3)
        for envelope in envelopes:
            with pytest.raises(InDoubt):
                await adapter.submit(envelope)
        fresh = make_adapter(api)
        for n, envelope in enumerate(envelopes):
            found = await fresh.recover(envelope)
            assert isinstance(found, Landed)
            assert (await finish(fresh, found.handle)).output == {"n": n}
        assert len(api.journal) == 3
        await fresh.aclose()

    async def test_twins_are_not_told_apart(self, api: InferenceshApi, adapter: InferenceshAdapter) -> None:
        api.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT, times=2)
        twins = [
            await adapter.prepare(Task(input={}), {"app": "demo/echo"}, attempt_id=AttemptId(name))
            for name in ("a1", "a2")
        ]
        for envelope in twins:
            with pytest.raises(InDoubt):
                await adapter.submit(envelope)
        assert isinstance(await adapter.recover(twins[0]), Unknown)

    @pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.ERROR_AFTER])
    async def test_an_answer_that_says_nothing_is_found_too(
        self, api: InferenceshApi, adapter: InferenceshAdapter, fault: Fault
    ) -> None:
        envelope = await adapter.prepare(
            Task(input={"a": 1}), {"app": "demo/echo"}, attempt_id=AttemptId("a1")
        )
        api.faults.arm(fault, on=Operation.SUBMIT)
        with pytest.raises(InDoubt):
            await adapter.submit(envelope)
        assert isinstance(await adapter.recover(envelope), Landed)

    async def test_a_session(self, adapter: InferenceshAdapter) -> None:
        app = {"app": "infsh/session-test"}
        async with adapter.session(app, timeout_seconds=120) as session:
            await session.run({"key": "n", "value": 41}, function="set_value")
            assert session.id is not None
            assert session.target == {**app, "session": session.id}
            await session.run({"key": "n"}, function="increment")
            found = await session.run({"key": "n"}, function="get_value")
            assert found.output["value"] == 42
            assert (await session.keepalive())["idle_timeout"] == 120
            known = await adapter.sessions.fetch_session(session.id)
            assert (known["status"], known["call_count"]) == ("active", 3)
            assert [one["id"] for one in await adapter.sessions.list_sessions()] == [session.id]
            session_id = session.id
        assert (await adapter.sessions.fetch_session(session_id))["status"] == "ended"
        again = adapter.session(app, session_id=session_id)
        with pytest.raises(SessionEnded):
            await again.run({})

    async def test_two_first_calls_open_one_session(self, adapter: InferenceshAdapter) -> None:
        async with adapter.session({"app": "infsh/session-test"}) as session:
            await asyncio.gather(*(session.run({"key": "k"}, function="increment") for _ in range(4)))
            assert len(await adapter.sessions.list_sessions()) == 1

    async def test_sessions_that_cannot_be_used(
        self, api: InferenceshApi, adapter: InferenceshAdapter
    ) -> None:
        app = {"app": "infsh/session-test"}
        with pytest.raises(SessionNotFound):
            await adapter.session(app, session_id="sess_none").run({})
        session = adapter.session(app)
        await session.run({})
        with pytest.raises(SessionMismatch):
            await adapter.session({"app": "demo/echo"}, session_id=session.id).run({})
        api.clock.skip(61)
        with pytest.raises(SessionExpired) as caught:
            await session.run({})
        assert (caught.value.code, caught.value.http_status) == ("SESSION_EXPIRED", 410)

    async def test_a_call_refused_opens_nothing(self, adapter: InferenceshAdapter) -> None:
        async with adapter.session({"app": "demo/needs-secret"}) as session:
            with pytest.raises(RequirementsNotMet):
                await session.run({})
            assert session.id is None
