"""What can be asked of a gateway without changing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.adapter import Capabilities
from gateway.limits import Limits
from gateway.task import Quote, Run, Task

if TYPE_CHECKING:
    from gateway.engine.engine import Engine
    from gateway.policy.routing import Plan
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

    async def plan(self, task: Task, backend: Selected = "auto") -> Plan:
        """Say where a task would go, and why not elsewhere. Nothing is submitted, nothing is stored."""
        return await self._engine.plan(task, backend)

    async def replan(
        self, run_id: str, *, backend: Selected | None = None, limits: Limits | None = None
    ) -> Plan:
        """Play a past run's plan again under other limits, or another way to sort: the same facts as then.

        Raises RunNotFound, InvalidInput for a run that has no plan.
        """
        from gateway.policy.replay import replay_plan

        await self._engine.start()
        run = await self._engine.store.get(run_id)
        return replay_plan(run, backend or run.backend, limits or run.task.limits, self._engine.rates)

    async def quote(self, task: Task, backend: Selected = "auto") -> dict[str, Quote]:
        """Return what a task would cost, by backend. Raises NoBackend if nobody could run it."""
        plan = await self._engine.plan(task, backend)
        plan.require_best()
        return {c.backend: c.quote for c in plan.ranked if c.quote is not None}

    async def backends(self) -> dict[str, Capabilities]:
        """Ask every backend what it is and can; one that is down says so in its `reason`."""
        names = list(self._engine.adapters)
        found = await asyncio.gather(*(self._engine.planner.fetch_capabilities(name) for name in names))
        return dict(zip(names, found, strict=True))
