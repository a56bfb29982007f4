"""The synchronous Gateway: every method of AsyncGateway, carried over one event loop in its own thread."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from gateway.client import AsyncGateway
from gateway.errors import Unusable
from gateway.reading import Selected
from gateway.task import Run, Task

if TYPE_CHECKING:
    from gateway.catalogue import Model
    from gateway.engine.accepting import Chooser
    from gateway.policy.quorum import Agreement

P = ParamSpec("P")
R = TypeVar("R")
_CLOSED = "this gateway is closed: make another"


def _carry(
    method: Callable[Concatenate[AsyncGateway, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Gateway, P], R]:
    """Make the synchronous twin of a method."""

    @wraps(method)
    def call(self: Gateway, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(lambda: method(self._gateway, *args, **kwargs))

    return call  # type: ignore[return-value]  # mypy keeps the name of `self`


def _carry_iterator(
    method: Callable[Concatenate[AsyncGateway, P], AsyncIterator[R]],
) -> Callable[Concatenate[Gateway, P], Iterator[R]]:
    """Make the synchronous twin of a method that yields."""

    @wraps(method)
    def call(self: Gateway, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        iterator = method(self._gateway, *args, **kwargs)
        end = object()

        async def step() -> R | object:
            return await anext(iterator, end)

        while (item := self._call(step)) is not end:
            yield item  # type: ignore[misc]  # it is not `end`, so it is an R

    return call  # type: ignore[return-value]  # mypy keeps the name of `self`


class _Loop:
    """An event loop that runs in a thread of its own."""

    def __init__(self) -> None:
        """Start it."""
        begun = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(begun,), name="gateway", daemon=True)
        self._thread.start()
        begun.wait()

    def call(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Do something in it, in the caller's context, and return what comes of it."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _run(self, begun: threading.Event) -> None:
        async def stay() -> None:
            self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
            begun.set()
            await self._ended.wait()

        asyncio.run(stay())


class Gateway:
    """The same as AsyncGateway, without async, for any number of threads. Use it as `with`, or `close` it."""

    _gateway: AsyncGateway
    _loop: _Loop
    _is_closed: bool
    _process: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what AsyncGateway takes."""
        self._start(lambda: AsyncGateway(*args, **kwargs))

    @classmethod
    def from_config(cls, path: str | Path | None = None) -> Self:
        """Make the gateway that a `gateway.toml` describes. Raises ConfigError."""
        gateway = cls.__new__(cls)
        gateway._start(lambda: AsyncGateway.from_config(path))  # noqa: SLF001  its own
        return gateway

    run = _carry(AsyncGateway.run)
    submit = _carry(AsyncGateway.submit)
    get = _carry(AsyncGateway.get)
    wait = _carry(AsyncGateway.wait)
    cancel = _carry(AsyncGateway.cancel)
    accept = _carry(AsyncGateway.accept)
    list_runs = _carry(AsyncGateway.list_runs)
    plan = _carry(AsyncGateway.plan)
    replan = _carry(AsyncGateway.replan)
    quote = _carry(AsyncGateway.quote)
    costs = _carry(AsyncGateway.costs)
    settle = _carry(AsyncGateway.settle)
    map = _carry(AsyncGateway.map)
    backends = _carry(AsyncGateway.backends)
    health = _carry(AsyncGateway.health)
    recover = _carry(AsyncGateway.recover)
    events = _carry_iterator(AsyncGateway.events)

    @property
    def models(self) -> Mapping[str, Model]:
        """The catalogue: each alias with its targets."""
        return self._gateway.models

    def close(self) -> None:
        """As AsyncGateway.aclose; calls under way in other threads raise Unusable."""
        if not self._is_closed and self._process == os.getpid():
            self._is_closed = True
            atexit.unregister(self.close)
            self._loop.call(self._gateway.aclose)
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, make: Callable[[], AsyncGateway]) -> None:
        self._is_closed = False
        self._process = os.getpid()
        self._gateway = make()  # before the loop is started: a wrong configuration leaves no thread behind
        self._loop = _Loop()
        atexit.register(self.close)  # one that nobody closes must not keep the interpreter from ending

    def _call(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        if self._is_closed:
            raise Unusable(_CLOSED)
        if self._process != os.getpid():  # after a fork, where the thread of its loop is not
            raise Unusable("this gateway belongs to another process: make one in each")
        try:
            return self._loop.call(work)
        except CancelledError:  # it was under way when another thread closed the gateway
            raise Unusable(_CLOSED) from None


_default: Gateway | None = None
_default_lock = threading.Lock()


def get_default() -> Gateway:
    """Return the gateway of the configuration that is found, made once per process. Raises ConfigError."""
    global _default  # noqa: PLW0603  one default gateway per process, like logging's root
    with _default_lock:
        if _default is None:
            _default = Gateway.from_config()
        return _default


def _forget_default() -> None:
    """Begin anew in a forked process: the thread of the loop, and of whoever has the lock, are not there."""
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # where there are forks
    os.register_at_fork(after_in_child=_forget_default)


def run(
    task: Task,
    backend: Selected = "auto",
    *,
    timeout: float | None = None,
    accept: Chooser | None = None,
    agree: Agreement | None = None,
    idempotency_key: str | None = None,
    api_key: str | None = None,
) -> Run:
    """Run a task on the default gateway, that of the configuration found; see AsyncGateway.run."""
    return get_default().run(
        task,
        backend,
        timeout=timeout,
        accept=accept,
        agree=agree,
        idempotency_key=idempotency_key,
        api_key=api_key,
    )
