"""Gathers what the routing policy looks at: capabilities, quotes and what was learnt; then plans."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from gateway.adapter import Adapter, Capabilities, Feature
from gateway.catalogue import Catalogue, Target
from gateway.clock import Clock
from gateway.engine.gates import Gates
from gateway.engine.health import BackendHealth, Health
from gateway.engine.learnt import Learnt
from gateway.engine.purse import fetch_purse
from gateway.engine.quotes import Quotes
from gateway.engine.seam import ask
from gateway.engine.waits import listen
from gateway.errors import BackendError, GatewayError, InvalidInput
from gateway.limits import Limits
from gateway.policy.budget import Accounting, Spender
from gateway.policy.health import Operation
from gateway.policy.learning import Observed
from gateway.policy.routing import Candidate, Plan, Selector
from gateway.policy.stages import Setting, make_plan
from gateway.store.ledger import Ledger
from gateway.task import Task

_ASK_SECONDS = 5.0
_HEALTHY_FOR_SECONDS = 30.0
_ILL_FOR_SECONDS = 1.0
_SUM_UP_EVERY = timedelta(seconds=1)
_SUM_UP_NEWS_EVERY = timedelta(milliseconds=20)
_PLAN_KEPT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Seen:
    capabilities: Capabilities
    at: float
    until: float


@dataclass(frozen=True, slots=True)
class _Alone:
    """A plan with one candidate, and what it was made from: while that holds, it is the plan of others."""

    plan: Plan
    target: Target
    selector: Selector
    limits: Limits
    stream: bool
    capabilities: Capabilities
    until: float


class Planner:
    """Knows the backends' health and prices as of lately, and plans with it."""

    def __init__(
        self,
        adapters: Mapping[str, Adapter[Any]],
        catalogue: Catalogue,
        clock: Clock,
        accounting: Accounting | None = None,
        health: Health | None = None,
        gates: Gates | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self._adapters = adapters
        self._catalogue = catalogue
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._asking: dict[str, asyncio.Task[Capabilities]] = {}
        self.accounting, self._ledger = accounting or Accounting(), ledger
        self._health = health or Health(clock)
        self._gates = gates or Gates({}, clock)
        self.quotes = Quotes(adapters, clock, self._health)
        self.learnt = Learnt(clock)
        self._alone: dict[tuple[str, str], _Alone] = {}

    async def plan(
        self,
        task: Task,
        selector: Selector,
        limits: Limits,
        *,
        quotes: bool = False,
        spender: Spender | None = None,
    ) -> Plan:
        """Make the plan for a task. Quotes are fetched if they can matter, or if asked for.

        With a `spender` (whatever its backend), candidates that a budget refuses now are out of it.

        Raises:
            UnknownModel, UnknownBackend, InvalidInput: the task can't be planned at all.
        """
        targets = self._catalogue.find_targets(task, selector.backends)
        money_matters = limits.max_cost is not None or bool(self.accounting.budgets)
        is_simple = len(targets) == 1 and not quotes and not money_matters
        known = self._recall(targets[0], task, selector, limits) if is_simple else None
        if known is not None:
            return known
        began = self._clock.monotonic()
        setting = Setting(limits, selector, self._clock.now().date(), self.accounting.rates)
        if spender is not None and self._ledger is not None:
            names = [target.backend for target in targets]
            setting = replace(setting, purse=await fetch_purse(self._ledger, self.accounting, spender, names))
        quotes = quotes or money_matters or len(targets) > 1
        candidates = await asyncio.gather(*(self._make_candidate(t, task, quotes) for t in targets))
        known = self._recall(targets[0], task, selector, limits) if is_simple else None
        if known is not None:  # another task's, that was made beside this one
            return known
        plan = make_plan(candidates, task, setting)
        if is_simple:
            self._keep(plan, targets[0], task, selector, limits)
        ill = [c.backend for c in plan.removed if c.removed_by == "unhealthy"]
        if ill and not plan.ranked and self._forget_old_looks(ill, began):
            candidates = await asyncio.gather(*(self._make_candidate(t, task, quotes) for t in targets))
            plan = make_plan(candidates, task, setting)
        return plan

    def _recall(self, target: Target, task: Task, selector: Selector, limits: Limits) -> Plan | None:
        """Return the plan of an earlier task if this one's would be the same.

        Only what it tells of the past is up to a second old: the only candidate is taken all the same.
        """
        known = self._alone.get((target.backend, task.model or ""))
        if (
            known is None
            or known.limits is not limits
            or known.selector != selector
            or known.stream is not task.stream
            or (known.target is not target and known.target != target)
            or self.get_capabilities(target.backend) is not known.capabilities
            or self._clock.monotonic() >= known.until
            or self._tell_blocked(target.backend) is not None
        ):
            return None
        try:
            target.reshape_task(task)
        except InvalidInput:
            return None
        return known.plan

    def _keep(self, plan: Plan, target: Target, task: Task, selector: Selector, limits: Limits) -> None:
        key, facts = (target.backend, task.model or ""), self.get_capabilities(target.backend)
        is_open = facts is not None and bool(plan.ranked) and not plan.ranked[0].blocked
        if facts is None or not is_open or not _tells_one_price(plan, facts):
            self._alone.pop(key, None)
        else:
            until = self._clock.monotonic() + _PLAN_KEPT_SECONDS
            self._alone[key] = _Alone(plan, target, selector, limits, task.stream, facts, until)

    def get_capabilities(self, backend: str) -> Capabilities | None:
        """Return a backend's capabilities if they are known as of lately."""
        seen = self._seen.get(backend)
        return seen.capabilities if seen is not None and self._clock.monotonic() < seen.until else None

    async def fetch_capabilities(self, backend: str) -> Capabilities:
        """Return a backend's capabilities, at most half a minute old (a second, if it was ill)."""
        known = self.get_capabilities(backend)
        if known is not None:
            return known
        if backend not in self._asking:
            self._asking[backend] = asyncio.create_task(self._ask(backend))
        return await asyncio.shield(self._asking[backend])

    def mark_ill(self, backend: str, reason: str) -> None:
        """Note that a backend just failed to answer, so that the next run does not wait for it."""
        self._note(backend, Capabilities(healthy=False, reason=reason))

    def _tell_blocked(self, backend: str) -> tuple[str, str] | None:
        return self._health.tell_blocked(backend) or self._gates.get(backend).tell_held()

    def get_observed(self, backend: str, model: str | None) -> Observed:
        """Return what is known of a backend and a model now."""
        return self.learnt.sum_up(backend, model).replace(running=self._gates.get(backend).running)

    def get_health(self, backend: str) -> BackendHealth:
        """Return what this process knows of a backend, without asking it."""
        return BackendHealth(
            breakers={operation: self._health.get_state(backend, operation) for operation in Operation},
            running=self._gates.get(backend).running,
            waiting=self._gates.get(backend).waiting,
            models={model: self.get_observed(backend, model) for model in self.learnt.list_models(backend)},
        )

    def _forget_old_looks(self, backends: Sequence[str], since: float) -> bool:
        """Forget looks from before, and say whether there were any: "nobody can" needs a fresh one."""
        old = [name for name in backends if name in self._seen and self._seen[name].at < since]
        for name in old:
            del self._seen[name]
        return bool(old)

    async def _make_candidate(self, target: Target, task: Task, quotes: bool) -> Candidate:  # noqa: FBT001
        capabilities = await self.fetch_capabilities(target.backend)
        quote, quote_error = None, None
        known = target.cost is not None or capabilities.free  # at hand; and free backends may have paid tasks
        if capabilities.healthy and (quotes or known):
            quote, quote_error = await self.quotes.fetch(target, task, capabilities)
        return self._check_target(
            Candidate(
                backend=target.backend,
                target=target.words,
                capabilities=capabilities,
                quote=quote,
                quote_error=quote_error,
                observed=self.get_observed(target.backend, task.model),
                blocked=self._tell_blocked(target.backend),
            ),
            target,
            task,
        )

    def _check_target(self, candidate: Candidate, target: Target, task: Task) -> Candidate:
        try:
            target.reshape_task(task)
        except InvalidInput as error:
            return candidate.remove("input", str(error))
        return candidate

    async def _ask(self, backend: str) -> Capabilities:
        try:
            capabilities = await listen(ask(Capabilities, self._adapters[backend].capabilities), _ASK_SECONDS)
        except TimeoutError:
            capabilities = Capabilities(healthy=False, reason=f"it did not answer within {_ASK_SECONDS:g} s")
        except GatewayError as error:
            why = error.message if isinstance(error, BackendError) else str(error)
            capabilities = Capabilities(healthy=False, reason=why)
        except Exception as error:  # noqa: BLE001  a stranger's adapter may raise anything; that is its health
            capabilities = Capabilities(
                healthy=False, reason=f"its adapter is broken: {type(error).__name__}: {error}"
            )
        finally:
            self._asking.pop(backend, None)
        self._note(backend, capabilities)
        return capabilities

    def _note(self, backend: str, capabilities: Capabilities) -> None:
        now = self._clock.monotonic()
        seconds = _HEALTHY_FOR_SECONDS if capabilities.healthy else _ILL_FOR_SECONDS
        self._seen[backend] = _Seen(capabilities, now, now + seconds)


def _tells_one_price(plan: Plan, facts: Capabilities) -> bool:
    """Say whether the plan of one candidate holds for other inputs as well, as far as its quote goes."""
    (candidate,) = plan.ranked
    quote = candidate.quote
    if Feature.QUOTE not in facts.features or quote is None:
        return candidate.quote_error is None
    return quote.confidence in ("configured", "free")
