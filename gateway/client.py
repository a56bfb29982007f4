"""The face of the library: AsyncGateway. `gateway.sync` has the same without async."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Iterable,
    Mapping,
)
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gateway.adapter import Adapter
from gateway.clock import Clock, SystemClock
from gateway.errors import InvalidInput, RunFailed
from gateway.lifecycle import Status
from gateway.limits import Limits
from gateway.reading import Reading, Selected
from gateway.task import Event, Run, Task
from gateway.types import Money

if TYPE_CHECKING:
    from gateway.catalogue import Model
    from gateway.config import Config, ModelSettings
    from gateway.engine.accepting import Chooser
    from gateway.engine.engine import Engine
    from gateway.engine.recovery import Recovered
    from gateway.policy.budget import Accounting
    from gateway.policy.capacity import Capacity
    from gateway.policy.quorum import Agreement
    from gateway.store.protocol import Store


class AsyncGateway(Reading):
    """One call over many backends. Use it as `async with`, or `aclose` it.

    The store is opened, and runs that a dead process left behind are picked up, with the first call.

    Attributes:
        models: the catalogue, each alias with its targets.
        adapters: the backends by name, for what stands beside the seam.
        hosting: what it does in this process, for who serves it to others.
        store: where its runs are kept; open after the first call.
    """

    def __init__(
        self,
        adapters: Iterable[Adapter[Any]],
        models: Mapping[str, ModelSettings | Mapping[str, Any]] | None = None,
        *,
        store: Store | str = "memory:",
        limits: Limits | None = None,
        accounting: Accounting | None = None,
        capacities: Mapping[str, Capacity] | None = None,
        retention: timedelta | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Make a gateway in code, without I/O.

        Args:
            adapters: the backends, each made with its name.
            models: name -> {"targets": {backend: words}}, as in the configuration.
            store: a Store, "memory:" or "sqlite:///path".
            limits: for tasks and models that set none.
            accounting: budgets, and rates between assets.
            capacities: by backend, how much it may be given at once.
            retention: how long a run is kept after its end; for ever if absent.
            clock: the system's, unless a test says otherwise.

        Raises:
            ConfigError: two backends of one name, or a target that its adapter refuses.
            InvalidInput: a limit of a wrong type.
        """
        from gateway.catalogue import Catalogue
        from gateway.config import ModelSettings, validate
        from gateway.engine.engine import Engine
        from gateway.engine.hosting import Hosting
        from gateway.errors import ConfigError
        from gateway.policy.settings import read_limits
        from gateway.store import make_store

        by_name: dict[str, Adapter[Any]] = {}
        for adapter in adapters:
            if adapter.name in by_name:
                raise ConfigError(f"two backends are called {adapter.name!r}")
            by_name[adapter.name] = adapter
        settings = {
            name: model
            if isinstance(model, ModelSettings)
            else validate(ModelSettings, model, f"models.{name}")
            for name, model in (models or {}).items()
        }
        self._engine: Engine = Engine(
            by_name,
            Catalogue(settings, by_name),
            make_store(store) if isinstance(store, str) else store,
            clock or SystemClock(),
            read_limits(limits) if limits is not None else Limits(),
            accounting,
            capacities,
        )
        self._engine.cleaner.retention = retention
        self.hosting = Hosting(self._engine)
        self.models: Mapping[str, Model] = self._engine.catalogue.models
        self.adapters: Mapping[str, Adapter[Any]] = by_name
        self.store: Store = self._engine.store

    @classmethod
    def from_config(cls, path: str | Path | None = None, *, clock: Clock | None = None) -> Self:
        """Make the gateway that a `gateway.toml` describes. Raises ConfigError."""
        from gateway.config import load
        from gateway.observe.making import make_observer
        from gateway.observe.observer import NOBODY

        config = load(path)
        gateway = cls.from_settings(config, clock=clock)
        gateway.hosting.observe(make_observer(config.observability) or NOBODY)
        return gateway

    @classmethod
    def from_settings(cls, config: Config, *, store: Store | None = None, clock: Clock | None = None) -> Self:
        """Make the gateway of a configuration that was read, unobserved. Raises ConfigError."""
        from gateway.config import make_store_url
        from gateway.registry import make_adapters
        from gateway.spending import make_accounting, make_capacities

        clock = clock or SystemClock()
        return cls(
            make_adapters(config.backends, clock).values(),
            config.models,
            store=store or make_store_url(config),
            limits=config.gateway.make_limits(),
            accounting=make_accounting(config),
            capacities=make_capacities(config),
            retention=config.gateway.retention,
            clock=clock,
        )

    async def run(
        self,
        task: Task,
        backend: Selected = "auto",
        *,
        timeout: float | None = None,
        accept: Chooser | None = None,
        agree: Agreement | None = None,
        idempotency_key: str | None = None,
        api_key: str | None = None,
    ) -> Run:
        """Run a task to its end and return the run, with `output` and what it cost.

        Args:
            task: what to do.
            backend: "auto", "auto:cheapest", "auto:fastest", "auto:reliable", a name, or names in order.
            accept: chooses among answers that want accepting, instead of `task.accept`; called in this
                process only, with what there is so far; None means to go on waiting.
            agree: says whether two answers agree, instead of `limits.agree`; in this process only.
            idempotency_key: the caller's own: with the same key the same task is the same run, for ever.
            api_key: whose run it is, by name: budgets per key count it, and queues take turns by it.
            timeout: seconds to wait; the run goes on when they are over (its own end is Limits.deadline).

        Raises:
            RunFailed: it ended FAILED, CANCELLED or REJECTED; carries the run.
            TaskError, NoBackend: nothing was submitted.
            IdempotencyConflict: the key belongs to another task's run, or to another caller's.
            WaitTimeout: the waiting ended, the run goes on.
        """
        from gateway.engine.waiting import check_timeout, wait_for_end

        check_timeout(timeout)
        await self._engine.start()
        run = await self._engine.reception.submit(task, backend, accept, idempotency_key, agree, api_key)
        return _require_success(await wait_for_end(self._engine, run.id, timeout))

    async def submit(
        self,
        task: Task,
        backend: Selected = "auto",
        *,
        accept: Chooser | None = None,
        agree: Agreement | None = None,
        idempotency_key: str | None = None,
        api_key: str | None = None,
    ) -> Run:
        """Give a task to the gateway and return its run at once, stored and on its way; see `run`."""
        await self._engine.start()
        return await self._engine.reception.submit(task, backend, accept, idempotency_key, agree, api_key)

    async def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Wait until a run has ended, wherever it is worked on. Raises as `run` does, and RunNotFound."""
        from gateway.engine.waiting import wait_for_end

        await self._engine.start()
        return _require_success(await wait_for_end(self._engine, run_id, timeout))

    async def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield a run's events from its first to its end; pieces of output only while it runs here.

        With `after`, those that follow the stored event of that `seq`: nothing is lost between two readings.
        """
        from gateway.engine.waiting import iterate_events

        await self._engine.start()
        async for event in iterate_events(self._engine, run_id, after):
            yield event

    async def cancel(self, run_id: str) -> Run:
        """Ask for a run's end and return it as it is then; the wish is stored, whoever works on the run."""
        await self._engine.start()
        return await self._engine.cancel(run_id)

    async def accept(self, run_id: str, answer_id: str) -> Run:
        """Accept, and pay for, one of a run's answers (its attempt's `snapshot.answers`); see Task.accept."""
        await self._engine.start()
        return await self._engine.accept(run_id, answer_id)

    async def map(
        self,
        tasks: Iterable[Task],
        backend: Selected = "auto",
        *,
        concurrency: int = 64,
        api_key: str | None = None,
    ) -> list[Run]:
        """Run many tasks, so many at a time, and return their runs in the tasks' order, failed ones included.

        A task that could not be taken in at all (TaskError, NoBackend) raises, after the others have ended.
        """
        if not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidInput(f"concurrency={concurrency!r}: at least one task has to run at a time")
        limit = asyncio.Semaphore(concurrency)

        async def run_one(task: Task) -> Run:
            async with limit:
                try:
                    return await self.run(task, backend, api_key=api_key)
                except RunFailed as failed:
                    return failed.run

        found = await asyncio.gather(*(run_one(task) for task in tasks), return_exceptions=True)
        for result in found:
            if isinstance(result, BaseException):
                raise result
        return [result for result in found if isinstance(result, Run)]

    async def settle(
        self,
        run_id: str,
        *,
        cost: Money | None = None,
        not_charged: bool = False,
        evidence: str,
        attempt: int | None = None,
    ) -> Run:
        """Say what a run cost of which nobody knew it, from evidence found elsewhere; budgets count it then.

        Args:
            run_id: of a run that has ended.
            cost: what it cost; or else say `not_charged`.
            not_charged: it cost nothing: what was reserved is given back.
            evidence: where that was found, in words: an invoice, a transaction, a support ticket.
            attempt: the number of the attempt, if the run has several of unknown cost.

        Raises:
            RunNotFound: the store has no such run.
            InvalidInput: it goes on, or its cost is known.
            NoRate: a budget counts it, and there is no rate into its currency.
        """
        from gateway.engine.settling import settle_by_hand

        engine = self._engine
        await engine.start(to_work=False)
        return await settle_by_hand(
            engine.store,
            engine.accounting,
            engine.clock,
            run_id,
            cost=cost,
            not_charged=not_charged,
            evidence=evidence,
            number=attempt,
        )

    async def recover(self) -> list[Recovered]:
        """Pick up every open run that no living process looks after, and tell what was found."""
        await self._engine.start()
        return await self._engine.recover()

    async def aclose(self) -> None:
        """Finish what is being sent, give open runs back to whoever comes next, and close everything."""
        await self._engine.aclose()

    async def __aenter__(self) -> Self:
        await self._engine.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _require_success(run: Run) -> Run:
    if run.status is not Status.COMPLETED:
        raise RunFailed(run)
    return run
