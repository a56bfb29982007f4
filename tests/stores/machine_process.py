"""A gateway process for the state machine: it can die at any write, be paused, and wake up again."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from gateway import AsyncGateway
from gateway.store.protocol import Store
from gateway.testing import FakeAdapter, FakeClock
from gateway.testing.backend import FakeBackend

T = TypeVar("T")

_running: ContextVar[Process | None] = ContextVar("running", default=None)


def adopt(loop: asyncio.AbstractEventLoop, coro: Any, context: Any = None) -> asyncio.Task[Any]:
    """Make a task, and note it with the process that made it: the event loop's task factory."""
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, context=context)
    process = _running.get()
    if process is not None:
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)
    return task


class Process:
    """What one process does goes through a gate whenever it comes back from waiting.

    A paused process stays at the gate; a dead one for ever. Death comes at once, or at the n-th passing
    before or after a write into the store. It has no say in when its lease ends: time goes on for the others.
    """

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.store = store
        self.clock = clock
        self.tasks: set[asyncio.Task[Any]] = set()
        self.died = asyncio.Event()
        self.awake = asyncio.Event()
        self.awake.set()
        self.has_beaten = asyncio.Event()  # since it woke up
        self.has_beaten.set()
        self.steps_to_go: int | None = None
        self.then_dies = True  # else it pauses
        self.stopped = asyncio.Event()  # within a call
        self.gateway: AsyncGateway

    @property
    def can_be_called(self) -> bool:
        return self.awake.is_set() and not self.died.is_set()

    async def call(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Let it do something; None if it died, or fell asleep, over that."""
        context = copy_context()
        context.run(_running.set, self)
        doing = context.run(asyncio.get_running_loop().create_task, work)
        self.stopped.clear()
        stopping = asyncio.ensure_future(self.stopped.wait())
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return doing.result() if doing.done() else None

    async def pass_gate(self, *, is_write: bool = False) -> None:
        if is_write and self.steps_to_go is not None and self.can_be_called:
            self.steps_to_go -= 1
            if self.steps_to_go == 0:
                self.died.set() if self.then_dies else self.awake.clear()
                self.stopped.set()
        while self.died.is_set() or not self.awake.is_set():
            await (asyncio.Event() if self.died.is_set() else self.awake).wait()

    def wake(self, *, beats_first: bool) -> None:
        """Let it go on; who waits for a write may hear of it only after the others' next sign of life."""
        if beats_first:
            self.has_beaten.clear()
        else:
            self.has_beaten.set()
        self.awake.set()

    async def bury(self) -> None:
        """End all that it was doing, as the system does with a killed process's threads."""
        self.died.set()
        while self.tasks:
            for task in self.tasks:
                task.cancel()
            await asyncio.wait(set(self.tasks), timeout=0.01)
        await self.store.aclose()


class OwnClock:
    """The clock as a process sees it: a sleep may end later than it should."""

    def __init__(self, clock: FakeClock, process: Process) -> None:
        self.now, self.monotonic = clock.now, clock.monotonic
        self._clock, self._process = clock, process

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._process.pass_gate()


class OwnStore:
    """The store as a process sees it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._process.store, name)
        if name in ("create", "save"):
            return self._guard_write(found)
        if name == "beat":
            return self._guard_beat(found)
        return self._guard(found) if inspect.iscoroutinefunction(found) else found

    def _guard_beat(self, work: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
        async def beat(*args: Any, **words: Any) -> None:
            await self._guard(work)(*args, **words)
            self._process.has_beaten.set()

        return beat

    def _guard(self, work: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def guarded(*args: Any, **words: Any) -> Any:
            await self._process.pass_gate()
            try:
                with self._process.clock.hold():
                    return await work(*args, **words)
            finally:
                await self._process.pass_gate()

        return guarded

    def _guard_write(self, work: Callable[..., Awaitable[Any]]) -> Callable[..., Writing]:
        async def write(*args: Any, **words: Any) -> Any:
            await self._process.pass_gate(is_write=True)
            with self._process.clock.hold():
                return await work(*args, **words)

        return lambda *args, **words: Writing(self._process, write(*args, **words))


class Writing:
    """A write that is under way, in the order of the calls; who waits for it passes the gate afterwards."""

    def __init__(self, process: Process, work: Coroutine[Any, Any, Any]) -> None:
        self._process, self._doing = process, asyncio.create_task(work)
        self._doing.add_done_callback(lambda done: done.cancelled() or done.exception())

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from self._doing)
        finally:
            yield from self._hear().__await__()

    async def _hear(self) -> None:
        await self._process.pass_gate(is_write=True)
        if not self._process.has_beaten.is_set():
            await self._process.has_beaten.wait()
            await self._process.pass_gate()


class OwnAdapter(FakeAdapter):
    """An adapter as a process has it: what the backend did stays done, whoever hears of it."""

    process: Process

    async def prepare(self, *args: Any, **words: Any) -> Any:
        return await self._hear(super().prepare(*args, **words))

    async def submit(self, *args: Any) -> Any:
        return await self._hear(super().submit(*args))

    async def poll(self, *args: Any) -> Any:
        return await self._hear(super().poll(*args))

    async def recover(self, *args: Any) -> Any:
        return await self._hear(super().recover(*args))

    async def accept(self, *args: Any) -> Any:
        return await self._hear(super().accept(*args))

    async def cancel(self, *args: Any) -> Any:
        return await self._hear(super().cancel(*args))

    async def _hear(self, answer: Coroutine[Any, Any, T]) -> T:
        try:
            return await answer
        finally:
            await self.process.pass_gate()


def make_adapter(process: Process, name: str, backend: FakeBackend) -> OwnAdapter:
    adapter = OwnAdapter(name, clock=OwnClock(process.clock, process), backend=backend)
    adapter.process = process
    return adapter
