from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from datetime import timedelta

import pytest

import gateway.testing
from gateway.adapter import CancelOutcome, Feature, Landed, NotLanded, Unknown
from gateway.errors import BackendError, InDoubt, Misbehaved, Rejected, Throttled, Unavailable
from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle, Task
from gateway.testing import FakeAdapter, FakeBackend, FakeClock, FakeConfig, Fault
from gateway.types import AttemptId

pytestmark = pytest.mark.anyio


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter(clock=FakeClock())


async def start(adapter: FakeAdapter, input: object = "hello", name: str = "a1") -> Handle:
    envelope = await adapter.prepare(Task(input=input), {"app": "echo"}, attempt_id=AttemptId(name))
    return await adapter.submit(envelope)


async def status_after(adapter: FakeAdapter, handle: Handle, seconds: float) -> Status:
    await adapter.clock.sleep(seconds)
    return (await adapter.poll([handle]))[handle].status


@pytest.mark.parametrize(
    ("fault", "error", "landed"),
    [
        (Fault.REFUSE, Unavailable, 0),
        (Fault.REJECT, Rejected, 0),
        (Fault.THROTTLE, Throttled, 0),
        (Fault.LOSE_REQUEST, InDoubt, 0),
        (Fault.LOSE_ANSWER, InDoubt, 2),
        (Fault.MISBEHAVE, Misbehaved, 2),
        (Fault.REFUSE_PREPARE, Unavailable, 0),
    ],
)
async def test_a_fault_happens_as_often_as_it_is_armed(
    adapter: FakeAdapter, fault: Fault, error: type[BackendError], landed: int
) -> None:
    adapter.arm(fault, 2)
    for _ in range(2):
        with pytest.raises(error) as caught:
            await start(adapter)
        assert type(caught.value) is error
        assert caught.value.backend == "fake"
    assert len(adapter.accepted) == landed
    await start(adapter)
    assert adapter.accepted[-1] == "a1"


async def test_throttled_says_how_long(adapter: FakeAdapter) -> None:
    adapter.backend.retry_after_seconds = 7
    for fault in (Fault.THROTTLE, Fault.POLL_THROTTLE):
        adapter.arm(fault)
    with pytest.raises(Throttled) as caught:
        await start(adapter)
    assert caught.value.retry_after == timedelta(seconds=7)
    with pytest.raises(Throttled):
        await adapter.poll([])


async def test_a_hanging_submission_has_landed(adapter: FakeAdapter) -> None:
    adapter.arm(Fault.HANG)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(start(adapter), 0.01)
    assert adapter.accepted == ["a1"]


async def test_recovery_may_fail_and_be_unknown_before_it_knows(adapter: FakeAdapter) -> None:
    envelope = await adapter.prepare(Task(), {}, attempt_id=AttemptId("a1"))
    assert await adapter.recover(envelope) == NotLanded()
    handle = await adapter.submit(envelope)
    adapter.arm(Fault.UNKNOWN, 2)
    adapter.arm(Fault.RECOVER_ERROR)
    with pytest.raises(Unavailable):
        await adapter.recover(envelope)
    assert isinstance(await adapter.recover(envelope), Unknown)
    assert isinstance(await adapter.recover(envelope), Unknown)
    assert await adapter.recover(envelope) == Landed(handle)


async def test_jobs_follow_their_script() -> None:
    steps = [(1.0, Status.RUNNING), (2.0, Status.UPLOADING), (3.0, Status.COMPLETED)]
    adapter = FakeAdapter(clock=FakeClock(), steps=steps)
    handle = await start(adapter)
    seen = [await status_after(adapter, handle, seconds) for seconds in (0.5, 1, 2, 3)]
    assert seen == [Status.QUEUED, Status.RUNNING, Status.UPLOADING, Status.COMPLETED]


async def test_jobs_fail_are_lost_and_never_end(adapter: FakeAdapter) -> None:
    adapter.arm(Fault.FAIL_JOB)
    failed = await start(adapter)
    adapter.arm(Fault.LOSE_JOB)
    lost = await start(adapter)
    adapter.arm(Fault.NEVER_END)
    endless = await start(adapter)
    await adapter.clock.sleep(86400)
    seen = await adapter.poll([failed, lost, endless])
    kinds = [one.failure and one.failure.kind for one in seen.values()]
    assert kinds == [FailureKind.JOB, FailureKind.LOST, None]
    assert seen[endless].status is Status.RUNNING


async def test_a_restart_may_forget_everything(adapter: FakeAdapter) -> None:
    handle = await start(adapter)
    fresh = FakeAdapter("fake", clock=adapter.clock, backend=adapter.backend)
    assert await status_after(fresh, handle, 1) is Status.COMPLETED
    adapter.backend.forget_all()
    assert await status_after(fresh, handle, 0) is Status.FAILED


async def test_polls_can_fail_and_are_counted(adapter: FakeAdapter) -> None:
    handle = await start(adapter)
    adapter.arm(Fault.POLL_ERROR, math.inf)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await adapter.poll([handle])
    adapter.arm(Fault.POLL_ERROR, 0)
    await adapter.poll([handle])
    assert adapter.calls["poll"] == 4


async def test_too_many_handles_are_the_caller_s_defect() -> None:
    adapter = FakeAdapter(config=FakeConfig(poll_many=2))
    with pytest.raises(ValueError, match="3 handles"):
        await adapter.poll([Handle("fake", str(number)) for number in range(3)])


async def test_a_cancelled_job_ends_its_events() -> None:
    config = FakeConfig(features=frozenset({Feature.EVENTS, Feature.CANCEL}))
    adapter = FakeAdapter(config=config, clock=FakeClock())
    adapter.arm(Fault.NEVER_END)
    handle = await start(adapter)

    async def watch() -> list[Status]:
        return [event.snapshot.status async for event in adapter.events(handle) if event.snapshot]

    watching = asyncio.ensure_future(watch())
    await adapter.clock.sleep(60)
    assert await adapter.cancel(handle) is CancelOutcome.CANCELLED
    assert await watching == [Status.QUEUED, Status.RUNNING, Status.CANCELLED]


async def test_streams_hand_out_pieces_and_may_be_cut() -> None:
    config = FakeConfig(features=frozenset({Feature.STREAM}))
    adapter = FakeAdapter(config=config, clock=FakeClock(), pieces=lambda text: [*text, b"end"])
    handle = await start(adapter, "hi")
    seen = [event async for event in adapter.events(handle)]
    assert [event.piece or event.data for event in seen if event.kind == "piece"] == ["h", "i", b"end"]
    adapter.arm(Fault.CUT_STREAM)
    with pytest.raises(Unavailable):
        _ = [event async for event in adapter.events(await start(adapter))]


async def test_latency_passes_on_the_clock() -> None:
    adapter = FakeAdapter(config=FakeConfig(latency_seconds=2), clock=FakeClock())
    await start(adapter)
    assert adapter.clock.monotonic() == 4


def test_a_shared_backend_is_not_scripted_twice() -> None:
    with pytest.raises(TypeError, match="answer"):
        FakeAdapter(backend=FakeBackend(), answer=str)


def test_every_name_is_there() -> None:
    assert sorted(gateway.testing.__all__) == gateway.testing.__all__
    for name in gateway.testing.__all__:
        assert getattr(gateway.testing, name) is not None
    with pytest.raises(AttributeError):
        gateway.testing.NoSuchName  # noqa: B018  looking is the test


def test_the_fakes_need_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import gateway.testing; gateway.testing.FakeAdapter()"
    subprocess.run([sys.executable, "-c", code], check=True)
