"""Hedging and quorum: a run that has its task done by several others, each at a backend of its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.engine.ids import make_run_id
from gateway.engine.journal import Journal
from gateway.engine.live import Live
from gateway.engine.speaking import Speaking
from gateway.errors import CostOutcome, NoBackend, RunNotFound
from gateway.lifecycle import Status
from gateway.limits import Limits
from gateway.policy.quorum import Agreement, get_agreement, judge
from gateway.policy.routing import Plan
from gateway.task import Cost, Failure, FailureKind, Run
from gateway.types import JSON, Money, RunId

_LOOK_ELSEWHERE_SECONDS = 0.5


@dataclass(slots=True)
class Leading:
    """Leads runs that have children.

    Attributes:
        begin: stores a run as ours and lets it be worked on.
        fetch: returns a run as it is stored.
        wait: returns a run once it has ended, wherever it is worked on.
        cancel: wishes for a run's end, and waits a little for it.
    """

    journal: Journal
    begin: Callable[[Run, Limits], Awaitable[None]]
    fetch: Callable[[str], Awaitable[Run]]
    wait: Callable[[str], Awaitable[Run]]
    cancel: Callable[[str], Awaitable[None]]
    find: Callable[[str], Live | None]

    async def lead(self, live: Live) -> float | None:
        """Bring a run to its end through its children, as far as that can be done now.

        Returns None if it has ended, else how long to wait at most: the end of a child here comes before.
        """
        if live.run.task.stream:
            await self._lead_aloud(live)
            return None
        await self._begin_all(live)
        while True:
            here = {child for child in live.run.children if self.find(child) is not None}
            others = [await self.fetch(child) for child in live.run.children if child not in here]
            if await self._decide(live, [run for run in others if run.status.is_final], None):
                return None
            if all(self.find(child) is not None for child in here):
                is_all_here = all(run.status.is_final for run in others)
                return math.inf if is_all_here else _LOOK_ELSEWHERE_SECONDS

    async def _begin_all(self, live: Live, speaking: Speaking | None = None) -> None:
        is_new = live.run.status is Status.RECEIVED
        for child in self._make_children(live):
            if is_new:
                is_called_off = live.cancel.is_set() or (
                    speaking is not None and speaking.has_silenced(child.id)
                )
                called_off_at = self.journal.now() if is_called_off else None
                await self._begin_once(replace(child, cancel_requested_at=called_off_at), live.limits)
            if speaking is not None:
                speaking.listen(child.id)
        if is_new:
            await self.journal.save(live, status=Status.DISPATCHED)

    async def _lead_aloud(self, live: Live) -> None:
        """Bring a run to its end whose children's pieces of output are passed on, which takes tasks."""
        speaking = Speaking(live, self.find, self.cancel)
        waiting: set[asyncio.Future[Run]] = set()
        ended: list[Run] = []
        try:
            await self._begin_all(live, speaking)
            waiting = {asyncio.ensure_future(self.wait(child)) for child in live.run.children}
            while waiting:
                with live.rest():
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                ended += [task.result() for task in done]
                ended.sort(key=lambda run: live.run.children.index(run.id))
                for run in ended:
                    await speaking.finish(run.id)
                if await self._decide(live, ended, speaking.first):
                    return
        finally:
            speaking.stop()
            for task in waiting:
                task.cancel()

    async def _decide(self, live: Live, ended: Sequence[Run], first: str | None) -> bool:
        """End the run if its children's answers, or that of the `first` to speak, allow it; says whether."""
        counting = live.run.children if first is None else (first,)
        counted = [run for run in ended if run.id in counting]
        still_to_come = len(counting) - len(counted)
        good = [(run.id, run.output) for run in counted if run.status is Status.COMPLETED]
        quorum = live.limits.quorum
        wanted = quorum[0] if quorum else 1
        agrees: Agreement = live.agree or get_agreement(live.limits.agree)
        verdict = judge(good, wanted, still_to_come, agrees)
        if verdict.agreed is not None:
            output = next(output for name, output in good if name == verdict.agreed[0])
            await self._end(live, ended, Status.COMPLETED, verdict.groups, output=output)
        elif verdict.is_open and not (live.cancel.is_set() and not still_to_come):
            return False
        elif live.cancel.is_set():
            failure = Failure(kind=FailureKind.CANCELLED, message="cancelled, with all runs of it")
            await self._end(live, ended, Status.CANCELLED, verdict.groups, failure=failure)
        else:
            await self._end(live, ended, Status.FAILED, verdict.groups, failure=_tell(live, ended, wanted))
        return True

    async def _end(
        self,
        live: Live,
        ended: Sequence[Run],
        status: Status,
        groups: Sequence[Sequence[str]],
        *,
        output: JSON = None,
        failure: Failure | None = None,
    ) -> None:
        known = {run.id for run in ended}
        for child in live.run.children:
            if child not in known:
                await self.cancel(child)  # its cost stays on the bill
        runs = {child: await self.fetch(child) for child in live.run.children}
        evidence = {
            "groups": [list(group) for group in groups],
            "runs": {name: _tell_child(run) for name, run in runs.items()},
        }
        costs = tuple(cost for run in runs.values() for cost in _list_costs(run))
        await self.journal.save(
            live,
            status=status,
            output=output,
            evidence=evidence,
            costs_of_children=costs,
            failure=failure,
            ended_at=self.journal.now(),
        )

    async def _begin_once(self, child: Run, limits: Limits) -> None:
        try:
            await self.fetch(child.id)  # after a restart it may be there
        except RunNotFound:
            await self.begin(child, _limit_child(limits))

    def _make_children(self, live: Live) -> list[Run]:
        run = live.run
        # Also where the configuration said it, and says more later:
        share = _limit_child(live.limits).max_cost
        alone = replace(_limit_child(run.task.limits), max_cost=share)
        return [
            replace(
                run,
                id=child,
                task=replace(run.task, limits=alone),
                backend=backend,
                parent=run.id,
                children=(),
                children_at=(),
                idempotency_key=None,
                status=Status.RECEIVED,
                passed=((Status.RECEIVED, run.created_at),),
            )
            for child, backend in zip(run.children, run.children_at, strict=True)
        ]


def choose_children(plan: Plan, limits: Limits, now: datetime) -> tuple[tuple[RunId, str], ...]:
    """Return (id, backend) for each child that a task needs; none for an ordinary run.

    Raises:
        NoBackend: a quorum has not enough different backends.
    """
    wanted = limits.quorum[1] if limits.quorum else limits.hedge or 1
    if wanted == 1 and limits.quorum is None:
        return ()
    backends = [candidate.backend for candidate in plan.ranked][:wanted]
    if limits.quorum and len(backends) < wanted:
        removed = [(c.backend, c.removed_by or "", c.reason or "") for c in plan.removed]
        raise NoBackend(
            f"a quorum of {limits.quorum} needs {wanted} backends, {len(backends)} are left", removed
        )
    return tuple((make_run_id(now), backend) for backend in backends)


def _limit_child(limits: Limits) -> Limits:
    """Return the limits of a copy: where several may be paid for, each has its share of max_cost."""
    most, copies = limits.max_cost, 1 if limits.idempotent else limits.hedge or 1
    share = most if most is None else Money(most.amount // copies, most.asset)
    return replace(limits, hedge=1, quorum=None, agree=None, max_cost=share)


def _list_costs(run: Run) -> list[Cost]:
    """Return what is known of a copy's money now: not all while it goes on; that it is free without a try."""
    costs = [attempt.cost for attempt in run.attempts]
    if run.status.is_final:
        return costs or [Cost(outcome=CostOutcome.NOT_CHARGED)]
    return costs if run.cost_outcome is CostOutcome.UNKNOWN else [*costs, Cost()]


def _tell_child(run: Run) -> JSON:
    return {
        "backend": run.backend,
        "status": run.status.name,
        "output": run.output,
        "failure": run.failure.message if run.failure else None,
        "cost_outcome": run.cost_outcome.value,
    }


def _tell(live: Live, ended: Sequence[Run], wanted: int) -> Failure:
    failures = "; ".join(f"{run.backend}: {run.failure.message}" for run in ended if run.failure)
    if live.limits.quorum is None:
        last = next((run.failure for run in ended if run.failure), None)
        kind = last.kind if last else FailureKind.INTERNAL
        return Failure(kind=kind, message=f"none of {len(ended)} backends succeeded: {failures}")
    answers = sum(run.status is Status.COMPLETED for run in ended)
    message = f"no {wanted} of {answers} answers agree" + (f"; {failures}" if failures else "")
    return Failure(kind=FailureKind.NO_QUORUM, message=message)
