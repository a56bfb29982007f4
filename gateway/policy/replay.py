"""A past plan played again: the same facts, another policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.errors import InvalidInput
from gateway.limits import Limits
from gateway.policy.rates import Rates
from gateway.policy.routing import Plan, Selector
from gateway.policy.stages import Setting, make_plan
from gateway.task import Run

_OF_THE_TASK = ("input",)  # a candidate that could not take the input can't under any policy


def replay_plan(run: Run, backend: str | Sequence[str], limits: Limits, rates: Rates) -> Plan:
    """Plan a past run's task with what was known then. Raises InvalidInput if its plan was not kept."""
    if run.plan is None:
        raise InvalidInput(f"run {run.id} has kept no plan")
    candidates = [
        candidate
        if candidate.removed_by in _OF_THE_TASK
        else replace(
            candidate, rank=0, score=None, parts={}, stage="capability", removed_by=None, reason=None
        )
        for candidate in Plan.model_validate(run.plan).candidates
    ]
    selector = Selector.parse(backend)
    if selector.backends is not None:
        candidates = [c for c in candidates if c.backend in selector.backends]
    return make_plan(candidates, run.task, Setting(limits, selector, run.created_at.date(), rates))
