"""What can be asked of a gateway without changing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from gateway.adapter import Capabilities
from gateway.errors import InvalidInput
from gateway.limits import Limits
from gateway.task import Quote, Run, Task

if TYPE_CHECKING:
    from gateway.engine.engine import Engine
    from gateway.engine.health import BackendHealth
    from gateway.policy.routing import Plan
    from gateway.store.bill import BillLine, By
    from gateway.store.protocol import RunFilter

Selected = str | Sequence[str]


class Reading:
    """The half of AsyncGateway that only looks."""

    _engine: Engine

    async def get(self, run_id: str) -> Run:
        """Return a run as it is stored. Raises RunNotFound."""
        await self._engine.start()
        return await self._engine.store.get(run_id)

    async def list_runs(self, which: RunFilter | None = None) -> list[Run]:
        """Return stored runs, newest first."""
        from gateway.store.protocol import RunFilter

        await self._engine.start()
        return await self._engine.store.list_runs(which or RunFilter())

    async def plan(self, task: Task, backend: Selected = "auto", *, api_key: str | None = None) -> Plan:
        """Say where a task would go, and why not elsewhere. Nothing is submitted, nothing is stored.

        `api_key` is whose run it would be: its budgets count.
        """
        await self._engine.start(to_work=False)
        return await self._engine.reception.plan(task, backend, api_key)

    async def replan(
        self, run: Run | str, *, backend: Selected | None = None, limits: Limits | None = None
    ) -> Plan:
        """Play a past run's plan again under other limits, or another way to sort: the same facts as then.

        Args:
            run: the past run, or its id.
            backend: instead of the run's own.
            limits: instead of the run's own; those of its model and of the gateway lie under them.

        Raises:
            RunNotFound: the store has no such run.
            TaskError: it has kept no plan, or the limits can't be kept.
        """
        from gateway.policy.replay import replay_plan

        if isinstance(run, str):
            run = await self.get(run)
        task = run.task if limits is None else replace(run.task, limits=limits)
        laid = self._engine.reception.lay_limits(task)
        return replay_plan(run, backend or run.backend, laid, self._engine.rates)

    async def costs(
        self, since: datetime, *, by: Sequence[By] = ("backend", "model", "day"), api_key: str | None = None
    ) -> list[BillLine]:
        """Sum up what was quoted, is reserved and was settled; what is unknown is counted, and never 0.

        Args:
            since: attempts that began since then; aware.
            by: what the lines are told apart by: "backend", "model", "day", "key".
            api_key: only of runs of the API key of this name.

        Raises:
            InvalidInput: a time without a zone, or another word in `by`.
        """
        from gateway.store.bill import ALL_BY, make_bill

        if since.tzinfo is None:
            raise InvalidInput(f"since={since.isoformat()} has no time zone")
        for word in by:
            if word not in ALL_BY:
                raise InvalidInput(f"by: {word!r} is not known; known: {', '.join(ALL_BY)}")
        await self._engine.start()
        ledger = self._engine.store.ledger
        entries = await ledger.list_entries(since, api_key)
        return make_bill(entries, by, await ledger.list_pruned(since, api_key))

    async def quote(self, task: Task, backend: Selected = "auto") -> dict[str, Quote]:
        """Return what a task would cost, by backend. Raises NoBackend if nobody could run it."""
        plan = await self.plan(task, backend)
        plan.require_best()
        return {c.backend: c.quote for c in plan.ranked if c.quote is not None}

    async def backends(self) -> dict[str, Capabilities]:
        """Ask every backend what it is and can; one that is down says so in its `reason`."""
        await self._engine.start(to_work=False)
        names = list(self._engine.adapters)
        found = await asyncio.gather(*(self._engine.planner.fetch_capabilities(name) for name in names))
        return dict(zip(names, found, strict=True))

    async def health(self) -> dict[str, BackendHealth]:
        """Return what this process knows of every backend without asking: breakers, load, what was learnt."""
        await self._engine.start(to_work=False)
        return {name: self._engine.planner.get_health(name) for name in self._engine.adapters}
