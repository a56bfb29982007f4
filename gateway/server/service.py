"""What every handler works with: the gateway of now, the settings, the keys, the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.errors import RunNotFound
from gateway.files import has_paths
from gateway.server.keys import KeyBook, Learning
from gateway.server.problems import LOCAL_FILE, STOPPING, Refusal
from gateway.server.stopping import Stopping
from gateway.server.taking import Taking
from gateway.server.tapes import Tapes
from gateway.server.webhooks import Webhooks
from gateway.task import Run, Task

if TYPE_CHECKING:
    from gateway.client import AsyncGateway
    from gateway.clock import Clock
    from gateway.config import ServerSettings
    from gateway.observe.stopwatch import Stopwatch
    from gateway.server.callers import Caller
    from gateway.server.observing import Observing
    from gateway.server.siblings import Siblings
    from gateway.store.protocol import RunFilter, Store

RUNS_AT_ONCE = 25
"""Read from the store: each may be as large as its input and its output."""

_log = logging.getLogger("gateway.server")


class Service:
    """The server's parts, as handlers see them.

    Attributes:
        gateway: takes new runs in. A reload of the configuration puts another in its place.
        retired: gateways of earlier configurations, until their runs have ended.
        settings: the table [server].
        clock: the time.
        keys: who may do what.
        learning: keeps them as the store has them.
        webhooks: tells of runs' ends.
        tapes: recordings of runs that stream.
        make_store: returns another door to the same store, for the gateway of a changed configuration.
        observing: what is told of the server; None where nothing is configured.
        siblings: the other workers of this server; None if there are none.
        in_flight: (key, idempotency key) of requests under way.
        taking: tasks of requests under way that have no idempotency key and may be sent again.
        stopping: set once no new runs are taken: streams and long polls end soon after.
    """

    def __init__(
        self,
        gateway: AsyncGateway,
        settings: ServerSettings,
        clock: Clock,
        keys: KeyBook | None = None,
    ) -> None:
        self.gateway, self.settings, self.clock = gateway, settings, clock
        self.retired: list[AsyncGateway] = []
        self.keys = keys or KeyBook(clock)
        self.learning = Learning(self.keys, lambda: self.store.shelf, clock, self._learn_budgets)
        self.webhooks = Webhooks(self)
        self.tapes = Tapes()
        self.make_store: Callable[[], Store] = lambda: self.store
        self.observing: Observing | None = None
        self.siblings: Siblings | None = None
        self.in_flight: set[tuple[str | None, str | None]] = set()
        self.taking = Taking()
        self.stopping = Stopping()
        self._chores: set[asyncio.Task[None]] = set()
        self._is_started = self._is_closed = False

    @property
    def store(self) -> Store:
        """Return where runs, keys and webhooks are kept."""
        return self.gateway.store

    async def start(self) -> None:
        """Open the store, learn the keys, pick up what an earlier process left, and go on with all that.

        Once is enough. Raises StoreError if the store can't be opened.
        """
        if self._is_started:
            return
        self._is_started = True
        await self.store.open()
        await self.learning.learn()
        await self.gateway.__aenter__()
        self.begin(self.learning.keep_learning())
        self.begin(self.webhooks.keep_sending())

    async def _learn_budgets(self) -> None:
        await self.gateway.hosting.learn_budgets()  # that of now: a changed configuration has another

    def begin(self, chore: Coroutine[Any, Any, None]) -> None:
        """Do something beside the requests, until the server ends; what it raises is logged."""
        task = asyncio.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._end_chore)

    def _end_chore(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a chore of the server has ended", exc_info=task.exception())

    def require_open(self) -> None:
        """Raise Refusal when the server is shutting down."""
        if self.stopping.is_set():
            raise Refusal(STOPPING, "the server is shutting down", headers=[(b"retry-after", b"1")])

    async def get_run(self, caller: Caller, run_id: str) -> Run:
        """Return a run that the caller may see. Raises RunNotFound, also for another key's run."""
        run = await self.gateway.get(run_id)
        if run.api_key != caller.key and not caller.sees_all:
            raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
        return run

    async def iterate_runs(self, which: RunFilter) -> AsyncIterator[Run]:
        """Yield runs, newest first, `which.limit` at most; few of them are in memory at once."""
        left = which.limit
        while left > 0:
            page = replace(which, limit=min(left, RUNS_AT_ONCE))
            runs = await self.gateway.list_runs(page)
            for run in runs:
                yield run
            if len(runs) < page.limit:
                return
            left, which = left - len(runs), page.make_next(runs[-1])

    def check_task(self, task: Task) -> Task:
        """Return a task of a remote caller as the gateway may have it.

        Raises Refusal if it means a file of this machine.
        """
        if has_paths(task.input):
            raise Refusal(
                LOCAL_FILE, "a file by its path is of another machine: send `data` or `uri` instead"
            )
        return task

    async def submit(
        self, caller: Caller, task: Task, backend: str | Sequence[str] = "auto", *, key: str | None = None
    ) -> Run:
        """Take a task in for a caller.

        Args:
            caller: whose run it is.
            task: what to do.
            backend: "auto", "auto:cheapest", a name, or names in order.
            key: the idempotency key as the store knows it; see gateway.server.views.join_key.

        Raises:
            Refusal: the server is shutting down, or the input means a file of this machine.
            GatewayError: as AsyncGateway.submit.
        """
        self.require_open()
        task = self.check_task(task)
        run = await self.gateway.submit(task, backend, idempotency_key=key, api_key=caller.key)
        if task.stream and not run.status.is_final:
            self.tapes.begin(run.id, self.find_gateway(run.id))
            await asyncio.sleep(0)  # it goes out before the head of our answer, which has time until then
        return run

    def find_gateway(self, run_id: str) -> AsyncGateway:
        """Return the gateway that works on a run here: an earlier configuration's, or that of now."""
        return next((old for old in self.retired if old.hosting.works_on(run_id)), self.gateway)

    def find_stopwatch(self, run_id: str) -> Stopwatch | None:
        """Return the stopwatch of a run that this process works on."""
        return self.find_gateway(run_id).hosting.get_stopwatch(run_id)

    async def aclose(self) -> None:
        """Finish what is being sent, give open runs back, close everything. Once is enough."""
        self.stopping.set()
        if self._is_closed:
            return
        self._is_closed = True
        chores = list(self._chores)
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)
        if self.siblings is not None:
            await self.siblings.aclose()
        await self.tapes.aclose()
        for gateway in (*self.retired, self.gateway):
            await gateway.aclose()
