"""Taking tasks in: their limits are laid, a plan is made, and the run is written down and begun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import get_args

from gateway.catalogue import Catalogue
from gateway.clock import Clock
from gateway.engine.accepting import Chooser
from gateway.engine.ids import make_run_id
from gateway.engine.journal import Journal
from gateway.engine.leading import choose_children
from gateway.engine.live import Live
from gateway.engine.planner import Planner
from gateway.errors import IdempotencyConflict, InvalidInput, RunExists, RunNotFound
from gateway.files import encode_files
from gateway.lifecycle import Status
from gateway.limits import Limits
from gateway.observe.context import INCOMING
from gateway.observe.stopwatch import Stopwatch
from gateway.policy.budget import Spender
from gateway.policy.quorum import Agreement
from gateway.policy.routing import Plan, Selector
from gateway.policy.settings import check_names, merge_limits, read_limits
from gateway.policy.stages import is_worth_waiting
from gateway.store.protocol import FIRST_FENCE, RunFilter, Store
from gateway.task import Accept, Run, Task
from gateway.types import JSON

_ACCEPTS: tuple[str, ...] = get_args(Accept)


class Reception:
    """Takes tasks in. `take` is given each run as it begins."""

    def __init__(
        self,
        catalogue: Catalogue,
        limits: Limits,
        store: Store,
        clock: Clock,
        planner: Planner,
        journal: Journal,
        take: Callable[[Live], None],
    ) -> None:
        self._catalogue, self._limits = catalogue, limits
        self._store, self._clock = store, clock
        self._planner, self._journal, self._take = planner, journal, take
        self._laid: dict[str | None, tuple[Limits, Limits]] = {}
        self._dumped: tuple[Plan | None, JSON] = (None, None)

    async def plan(self, task: Task, backend: str | Sequence[str], api_key: str | None = None) -> Plan:
        """Return the plan for a task, with every quote."""
        task = _read_task(task)
        selector, limits = Selector.parse(backend), self.lay_limits(task)
        spender = self._make_spender(_make_run(task, backend, limits, self._clock.now(), None, api_key))
        return await self._planner.plan(task, selector, limits, quotes=True, spender=spender)

    async def submit(
        self,
        task: Task,
        backend: str | Sequence[str],
        choose: Chooser | None = None,
        key: str | None = None,
        agree: Agreement | None = None,
        api_key: str | None = None,
    ) -> Run:
        """Take a task in: planned and stored when this returns. With a key that was used, its run returns.

        Raises:
            TaskError, NoBackend: nothing could run it, or no budget lets it; nothing was stored.
            StoreError: it could not be written down; nothing was submitted.
        """
        if key is not None and not (isinstance(key, str) and key.strip()):
            what = "this one is empty" if isinstance(key, str) else f"{key!r} is no text"
            raise InvalidInput(f"an idempotency key has to say something: {what}")
        task = _read_task(task)
        selector, limits = Selector.parse(backend), self.lay_limits(task)
        watch = Stopwatch()
        run = _make_run(task, backend, limits, self._clock.now(), key, api_key)
        if key is not None:
            for known in await self._store.list_runs(RunFilter(idempotency_key=key, limit=1)):
                return _require_same(known, run)
        plan = await self._planner.plan(task, selector, limits, spender=self._make_spender(run))
        if not is_worth_waiting(plan, limits):
            plan.require_best()
        children = choose_children(plan, limits, run.created_at) if plan.ranked else ()
        run = run.replace(
            plan=self._dump(plan),
            children=tuple(child for child, _ in children),
            children_at=tuple(place for _, place in children),
        )
        live = Live(run=run, fence=FIRST_FENCE, selector=selector, limits=limits, plan=plan, watch=watch)
        live.choose, live.agree = choose, agree
        try:
            await self._begin(live)
        except RunExists as taken:  # by another process, just now
            return await _get_same(self._store, taken.run_id, run)
        return run

    def _make_spender(self, run: Run) -> Spender | None:
        """Return who would spend, or None where no budget asks for it."""
        if not self._planner.accounting.budgets:
            return None
        day = run.created_at.date()
        return Spender(run_id=run.id, backend="", model=run.task.model, key=run.api_key, day=day)

    def _dump(self, plan: Plan) -> JSON:
        """Return a plan as data; tasks in a row often have the same."""
        if plan is not self._dumped[0]:
            self._dumped = (plan, plan.model_dump())
        return self._dumped[1]

    async def _begin(self, live: Live) -> None:
        """Begin to work on a new run and write it down.

        Its first step prepares what is to be sent, which spends nothing, so that both are one commit. It is
        taken first: its step then comes before the store's hand-over.
        """
        if live.run.children:  # they must not be there before it
            await self._journal.create(live)
            self._take(live)
        else:
            self._take(live)
            await self._journal.create(live)

    async def begin_child(self, run: Run, limits: Limits) -> None:
        """Begin a run that does the task of another one."""
        selector = Selector.parse(run.backend)
        live = Live(run=run, fence=FIRST_FENCE, selector=selector, limits=limits)
        if run.cancel_requested_at is not None:
            live.cancel.set()
        await self._begin(live)

    def lay_limits(self, task: Task, *, is_new: bool = True) -> Limits:
        """Lay a task's limits over its model's and the gateway's.

        Raises:
            InvalidInput: they contradict each other, or one is of a wrong type.
            UnknownBackend: a new task's name a backend that there is none of; an old run's may be gone since.
        """
        model = self._catalogue.models.get(task.model) if task.model is not None else None
        known = self._laid.get(task.model)  # most tasks of a model set the same limits, or none
        if known is not None and is_new and (known[0] is task.limits or known[0] == task.limits):
            return known[1]
        own = read_limits(task.limits) if is_new else task.limits
        limits = merge_limits(own, model.limits, self._limits) if model else merge_limits(own, self._limits)
        if is_new:
            check_names(limits, self._catalogue.backends)
            if model is not None or task.model is None:  # others are as many as callers think of
                self._laid[task.model] = (task.limits, limits)
        return limits


def _read_task(task: Task) -> Task:
    """Return a task as it is stored. Raises InvalidInput."""
    if not isinstance(task, Task):
        raise InvalidInput(f"a task is a gateway.Task, this is of type {type(task).__name__}")
    named = task.model is None or isinstance(task.model, str)
    if not named or task.accept not in _ACCEPTS or not isinstance(task.stream, bool):
        raise InvalidInput(
            f"model={task.model!r}, accept={task.accept!r}, stream={task.stream!r}: a model is a text,"
            f" accept is one of {', '.join(_ACCEPTS)}, and stream is true or false"
        )
    if not all(isinstance(word, str) for label in task.labels.items() for word in label):
        raise InvalidInput(f"labels={task.labels!r}: names and values are texts")
    return task.replace(input=encode_files(task.input))


def _make_run(
    task: Task,
    backend: str | Sequence[str],
    limits: Limits,
    now: datetime,
    key: str | None,
    api_key: str | None,
) -> Run:
    return Run(
        id=make_run_id(now),
        task=task,
        backend=backend if isinstance(backend, str) else tuple(backend),
        status=Status.RECEIVED,
        created_at=now,
        updated_at=now,
        passed=((Status.RECEIVED, now),),
        deadline_at=now + limits.deadline if limits.deadline is not None else None,
        idempotency_key=key,
        api_key=api_key,
        traceparent=INCOMING.get(),
    )


async def _get_same(store: Store, run_id: str, asked: Run) -> Run:
    try:
        return _require_same(await store.get(run_id), asked)
    except RunNotFound:
        raise IdempotencyConflict(
            f"the idempotency key {asked.idempotency_key!r} had run {run_id}, which has ended and was"
            " pruned: its answer is gone, and the task is not run twice; use another key"
        ) from None


def _require_same(known: Run, asked: Run) -> Run:
    """Return the run that an idempotency key has. Raises IdempotencyConflict if that is of another task."""
    if known.api_key != asked.api_key:
        raise IdempotencyConflict(f"the idempotency key {asked.idempotency_key!r} is another caller's")
    if known.task.model_dump_json() != asked.task.model_dump_json() or known.backend != asked.backend:
        raise IdempotencyConflict(
            f"the idempotency key {asked.idempotency_key!r} has run {known.id}, which is of another task"
        )
    return known
