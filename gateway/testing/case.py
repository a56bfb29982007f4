"""What AdapterConformance must be told about a backend, and the words in which it asks."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, TypeAlias, TypeVar

import anyio

from gateway.adapter import Adapter, Feature
from gateway.errors import BackendError
from gateway.lifecycle import Status
from gateway.task import Envelope, Event, Handle, Snapshot, Task
from gateway.types import JSON, AttemptId

T = TypeVar("T")
AnyAdapter: TypeAlias = Adapter[Any]
Hook: TypeAlias = Callable[[], Awaitable[None] | None]
"""Something that happens to the backend; may be a coroutine function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A task with the words of the backend to run it with."""

    task: Task
    target: Mapping[str, JSON]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformanceCase:
    """One working backend, with things to ask of it. What is None is not tested (and reported as skipped).

    Attributes:
        good: succeeds, soon.
        expected: its output, or a function that says whether an output is right.
        bad_target: a target for which `prepare` must refuse.
        accepted: returns how many submissions the backend has ever taken, repetitions included.
        failing: is accepted, runs, and fails.
        slow: runs long enough to be looked at, and to be cancelled.
        refused: `submit` must raise Rejected for it.
        unknown: a handle of a job that never was.
        go_down: makes the backend unreachable; `come_back` mends it.
        lose_answer: makes the backend take the next submission and lose the answer to it.
        make_adapter: makes another adapter of the same configuration: the gateway after a restart.
        secrets: what may be in no envelope and no handle.
        volatile: keys of the payload that may differ between two preparations (times, signatures).
        patience_seconds: for a job to end, and for one operation to return.
        quick_seconds: for `capabilities` to answer.
        poll_every_seconds: between two looks.
    """

    good: Sample
    expected: JSON | Callable[[JSON], bool]
    bad_target: Mapping[str, JSON]
    accepted: Callable[[], int | Awaitable[int]]
    failing: Sample | None = None
    slow: Sample | None = None
    refused: Sample | None = None
    unknown: Handle | None = None
    go_down: Hook | None = None
    come_back: Hook | None = None
    lose_answer: Hook | None = None
    make_adapter: Callable[[], AnyAdapter] | None = None
    secrets: tuple[str, ...] = ()
    volatile: frozenset[str] = field(default_factory=frozenset)
    patience_seconds: float = 30.0
    quick_seconds: float = 10.0
    poll_every_seconds: float = 0.02

    async def count_accepted(self) -> int:
        """Return how many submissions the backend has taken so far."""
        count = self.accepted()
        return await count if isawaitable(count) else count

    @contextmanager
    def patience(self, what: str) -> Iterator[None]:
        """Fail, and not hang, when something does not return."""
        try:
            with anyio.fail_after(self.patience_seconds):
                yield
        except TimeoutError as error:
            raise AssertionError(f"{what} did not return within {self.patience_seconds} s") from error

    def is_right(self, output: JSON) -> bool:
        """Say whether an output is the good sample's."""
        return bool(self.expected(output)) if callable(self.expected) else bool(output == self.expected)


async def happen(hook: Hook) -> None:
    """Let something happen to the backend."""
    done = hook()
    if done is not None:
        await done


def expect(holds: bool, promise: str) -> None:  # noqa: FBT001  it reads as a sentence
    """Raise AssertionError with the promise that does not hold."""
    if not holds:
        raise AssertionError(promise)


def need(thing: T | None, name: str) -> T:
    """Return what the case has, or skip the test if it leaves that out."""
    if thing is None:
        import pytest

        pytest.skip(f"the case has no `{name}`")
    return thing


@asynccontextmanager
async def down(case: ConformanceCase) -> AsyncIterator[None]:
    """Take the backend away for the length of the block."""
    go_down, come_back = need(case.go_down, "go_down"), need(case.come_back, "come_back")
    await happen(go_down)
    try:
        yield
    finally:
        await happen(come_back)


def make_attempt_id() -> AttemptId:
    """Make an id as the engine does."""
    return AttemptId(str(uuid.uuid4()))


async def prepare(adapter: AnyAdapter, case: ConformanceCase, sample: Sample) -> Envelope:
    """Prepare a sample and take the envelope through the store, as the engine does."""
    with case.patience("prepare"):
        envelope = await adapter.prepare(sample.task, sample.target, attempt_id=make_attempt_id())
    return Envelope.model_validate_json(envelope.model_dump_json())


async def submit(adapter: AnyAdapter, case: ConformanceCase, envelope: Envelope) -> Handle:
    """Submit an envelope and take the handle through the store, as the engine does."""
    with case.patience("submit"):
        handle = await adapter.submit(envelope)
    return Handle.model_validate_json(handle.model_dump_json())


async def start(adapter: AnyAdapter, case: ConformanceCase, sample: Sample) -> Handle:
    """Prepare and submit a sample."""
    return await submit(adapter, case, await prepare(adapter, case, sample))


async def look(adapter: AnyAdapter, case: ConformanceCase, *handles: Handle) -> Mapping[Handle, Snapshot]:
    """Poll once."""
    with case.patience("poll"):
        return await adapter.poll(handles)


async def read_events(adapter: AnyAdapter, handle: Handle) -> AsyncIterator[Event]:
    """Yield a job's events, and accept its first answer once there are any, as the engine does."""
    is_accepted = False
    async for event in adapter.events(handle):
        yield event
        if event.snapshot is not None and event.snapshot.answers and not is_accepted:
            is_accepted = True
            await adapter.submit(await adapter.accept(handle, event.snapshot))


async def follow(
    adapter: AnyAdapter,
    case: ConformanceCase,
    handle: Handle,
    until: Callable[[Snapshot], bool] = lambda snapshot: snapshot.status.is_final,
) -> Snapshot:
    """Poll until a job's snapshot is as wanted (final), accepting its answer where the backend wants that."""
    deadline = adapter.clock.monotonic() + case.patience_seconds
    features = await get_features(adapter, case)
    last: Snapshot | None = None
    is_accepted = False
    while adapter.clock.monotonic() < deadline:
        last = (await look(adapter, case, handle)).get(handle, last)
        if last is not None and until(last):
            return last
        wants_accepting = last is not None and last.status is Status.UPLOADING and Feature.ACCEPT in features
        if last is not None and wants_accepting and not is_accepted:
            with case.patience("accept"):
                await adapter.submit(await adapter.accept(handle, last))
            is_accepted = True
        await adapter.clock.sleep(case.poll_every_seconds)
    raise AssertionError(f"the job did not get there within {case.patience_seconds} s: {last}")


async def get_features(adapter: AnyAdapter, case: ConformanceCase) -> frozenset[Feature]:
    """Return what the adapter says that it can do."""
    with case.patience("capabilities"):
        return (await adapter.capabilities()).features


def expect_named(adapter: AnyAdapter, error: BackendError) -> None:
    """Expect that an error tells whose it is."""
    expect(error.backend == adapter.name, f"{error!r} does not carry backend={adapter.name!r}")
    expect(bool(error.message), f"{error!r} has no message")
