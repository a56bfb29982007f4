"""The synchronous Gateway: every method of AsyncGateway, carried over one event loop in its own thread."""

from __future__ import annotations

import atexit
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from gateway.client import AsyncGateway
from gateway.reading import Selected
from gateway.task import Run, Task

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from gateway.catalogue import Model
    from gateway.engine.accepting import Chooser
    from gateway.policy.quorum import Agreement

P = ParamSpec("P")
R = TypeVar("R")


def _carry(
    method: Callable[Concatenate[AsyncGateway, P], Awaitable[R]],
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


class Gateway:
    """The same as AsyncGateway, without async, for any number of threads. Use it as `with`, or `close` it."""

    _gateway: AsyncGateway
    _portal: BlockingPortal
    _stack: ExitStack
    _is_closed: bool

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
        """As AsyncGateway.aclose."""
        if not self._is_closed:
            self._is_closed = True
            atexit.unregister(self.close)
            self._call(self._gateway.aclose)
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, make: Callable[[], AsyncGateway]) -> None:
        from anyio.from_thread import start_blocking_portal

        self._stack = ExitStack()
        self._is_closed = False
        self._gateway = make()  # before the loop is started: a wrong configuration leaves no thread behind
        self._portal = self._stack.enter_context(start_blocking_portal("asyncio"))
        atexit.register(self.close)  # one that nobody closes must not keep the interpreter from ending

    def _call(self, work: Callable[[], Awaitable[R]]) -> R:
        return self._portal.call(work)


_default: Gateway | None = None
_default_lock = threading.Lock()


def get_default() -> Gateway:
    """Return the gateway of the configuration that is found, made once. Raises ConfigError."""
    global _default  # noqa: PLW0603  one default gateway per process, like logging's root
    with _default_lock:
        if _default is None:
            _default = Gateway.from_config()
        return _default


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
