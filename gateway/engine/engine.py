"""The engine: takes runs in, has them worked on, and picks up those that another process left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from gateway.adapter import Adapter
from gateway.catalogue import Catalogue
from gateway.clock import Clock
from gateway.engine.cleaning import Cleaner
from gateway.engine.gates import Gates
from gateway.engine.health import Health
from gateway.engine.journal import Journal
from gateway.engine.keeper import Keeper
from gateway.engine.key_budgets import KeyBudgets
from gateway.engine.leading import Leading
from gateway.engine.lifetime import Lifetime
from gateway.engine.live import Live
from gateway.engine.owner import make_owner
from gateway.engine.planner import Planner
from gateway.engine.reception import Reception
from gateway.engine.recovery import Recovered
from gateway.engine.seam import guarding
from gateway.engine.waits import try_for
from gateway.engine.worker import Worker
from gateway.errors import InvalidInput, RunNotFound, StoreError
from gateway.lifecycle import Status
from gateway.limits import Limits
from gateway.observe.observer import Observer
from gateway.policy.budget import Accounting
from gateway.policy.capacity import Capacity
from gateway.policy.routing import Selector
from gateway.store.protocol import Claimed, Scope, Store, Wish
from gateway.store.shelf import ShelfNotebook
from gateway.task import Event, Failure, FailureKind, Run

_log = logging.getLogger("gateway")
_CLAIM_AT_ONCE = 500
_CLOSE_SECONDS = 10.0
_LEARN_FROM = timedelta(days=1)
_CALL_OFF_SECONDS = 2.0
_PATIENCE = timedelta(minutes=10)  # a machine that starts anew may start its backends after the gateway


class Engine:
    """Runs over one store, one catalogue and a set of backends. Made without I/O; `start` opens the store."""

    def __init__(
        self,
        adapters: Mapping[str, Adapter[Any]],
        catalogue: Catalogue,
        store: Store,
        clock: Clock,
        limits: Limits,
        accounting: Accounting | None = None,
        capacities: Mapping[str, Capacity] | None = None,
    ) -> None:
        self.adapters, self.catalogue, self.store, self.clock = adapters, catalogue, store, clock
        accounting = accounting or Accounting()
        self.key_budgets = KeyBudgets(store, clock, accounting.rates.currency)
        self.accounting = accounting = replace(accounting, get_more=self.key_budgets.get)
        health = Health(clock)
        self.rates = accounting.rates
        gates = Gates(capacities or {}, clock)
        self.planner = Planner(adapters, catalogue, clock, accounting, health, gates, store.ledger)
        self.cleaner = Cleaner(store, clock)
        self._owner = make_owner()
        self._journal = Journal(store, clock, self._owner, accounting)
        self._journal.on_attempt_end = lambda attempt: gates.get(attempt.backend).leave(attempt.id)
        self._worker = Worker(
            adapters, catalogue, self.planner, self._journal, clock, accounting, health, gates
        )
        self.reception = Reception(
            catalogue, limits, store, clock, self.planner, self._journal, self._worker.take
        )
        begin, wait_for = self.reception.begin_child, partial(_wait_for, self)
        self._worker.lead = Leading(
            self._journal, begin, store.get, wait_for, self._call_off, self.get_live
        ).lead
        scope = Scope(
            frozenset((name, adapter.address) for name, adapter in adapters.items()),
            frozenset(catalogue.models),
        )
        self._keeper = Keeper(store, clock, self._owner, scope, self._take_over, self._hear)
        self._journal.is_believed = lambda: self._keeper.is_believed
        self._journal.count_silences = lambda: self._keeper.silences
        self._starting = asyncio.Lock()
        self.lifetime = Lifetime()
        self._is_open = self._is_ready = False

    async def start(self, *, to_work: bool = True) -> None:
        """Open the store, learn from it, and begin to work: pick up the runs that nobody looks after.

        To plan, it is enough to learn: `to_work=False`. Raises Unusable if it is closed, or another loop's.
        """
        self.lifetime.require_use()
        async with self._starting:
            if not self._is_ready:
                await self.store.open()
                self._is_open = True
                await self.key_budgets.start()
                for adapter in self.adapters.values():
                    adapter.lend(ShelfNotebook(self.store.shelf, "adapters"))
                since = self.clock.now() - _LEARN_FROM
                for backend, model, outcome in await self.store.list_outcomes(since):
                    self.planner.learnt.add(backend, model, outcome)
                self._is_ready = True  # what failed on the way here is done again by the next call
            if to_work and not self._keeper.is_working:
                await self._keeper.start()
                self.cleaner.start()

    def observe(self, observer: Observer) -> None:
        """Tell somebody what happens from now on."""
        self._journal.observer = self.planner.quotes.observer = observer

    async def stop_claiming(self) -> None:
        """Take over no more runs of other processes, and forget none that have ended."""
        self._keeper.claims = False
        await self.cleaner.stop()

    @property
    def is_believed(self) -> bool:
        """Say whether the store took the last sign of life of this process not too long ago."""
        return self._keeper.is_believed

    def count_live(self) -> int:
        """Return how many runs this process works on."""
        return len(self._worker.live)

    def get_live(self, run_id: str) -> Live | None:
        """Return a run that this process works on."""
        return self._worker.live.get(run_id)

    async def cancel(self, run_id: str) -> Run:
        """Wish that a run ends; whoever works on it sees to it. Raises RunNotFound."""
        run = await self.store.wish(Wish(run_id, cancel_at=self.clock.now()))
        live = self.get_live(run_id)
        if live is None:
            return run
        live.cancel.set()
        for child in live.run.children:
            with suppress(RunNotFound):  # it is not begun yet, and will be called off then
                await self.cancel(child)
        await self._worker.cancel(live)
        return live.run

    async def _call_off(self, run_id: str) -> None:
        """Cancel a copy of a run. Where that takes long, the keeper, who hears the wish, goes on with it."""
        await try_for(self.cancel(run_id), self.clock, _CALL_OFF_SECONDS)

    async def accept(self, run_id: str, answer_id: str) -> Run:
        """Wish that an answer is accepted; whoever works on the run sees to it. Raises RunNotFound."""
        run = await self.store.wish(Wish(run_id, accept_answer=answer_id))
        live = self.get_live(run_id)
        if live is not None:
            live.run = replace(live.run, accept_answer=run.accept_answer)
        return run

    async def recover(self) -> list[Recovered]:
        """Take over every open run that nobody looks after; tells of all since the start, once."""
        await self._keeper.claim()
        return await self._keeper.tell()

    async def events(self, live: Live, after: int = 0) -> AsyncIterator[Event]:
        """Yield a run's events, those after the stored one of that number, to its end; pieces as they come.

        Pieces may be lost to a slow reader, stored events never are.
        """
        queue = live.listen()
        try:
            told = live.get_told(after)
            for stored in await self.store.list_events(live.run.id, after=after) if told is None else told:
                after = stored.seq
                yield stored
            while (event := await queue.get()) is not None:
                if 0 < event.seq <= after:
                    continue
                if event.seq <= after + 1:
                    after = max(after, event.seq)
                    yield event
                    continue
                for missed in await self.store.list_events(live.run.id, after=after):
                    after = missed.seq
                    yield missed
        finally:
            live.unlisten(queue)

    async def aclose(self) -> None:
        """Let submissions under way finish (bounded), give the open runs back, and close everything."""
        self.lifetime.refuse_calls()
        has_worked = await self._keeper.stop()
        await self.cleaner.stop()
        await self.key_budgets.stop()
        await self._worker.aclose()
        self.lifetime.end()
        for live in [*self._worker.live.values()]:
            live.drop()  # whoever waits for it hears of the close
        await asyncio.gather(*(_close(adapter) for adapter in self.adapters.values()))
        try:
            if has_worked:
                await self.store.release(self._owner)
        except StoreError as error:
            _log.warning("the open runs could not be given back, others take them over soon: %s", error)
        finally:
            if self._is_open:
                self._is_open = False
                await self.store.aclose()

    async def _take_over(self, claim: Claimed) -> None:
        """Go on where a run was left.

        Where its limits contradict those that the configuration has got since, nothing new is begun for it: a
        job that may be there is followed to its end, and without one the run fails, alone.
        """
        run, wrong = claim.run, None
        try:
            limits = self.reception.lay_limits(run.task, is_new=False)
        except InvalidInput as error:
            limits, wrong = Limits(max_attempts=max(1, len(run.attempts))), error
        live = Live(run=run, fence=claim.fence, selector=Selector.parse(run.backend), limits=limits)
        live.seq = claim.seq
        live.patient_until = run.deadline_at or self.clock.now() + _PATIENCE
        if run.cancel_requested_at is not None:
            live.cancel.set()
        if wrong is not None and (run.attempt is None or run.attempt.status.is_final):
            for child in run.children:
                with suppress(RunNotFound):  # it was never begun
                    await self.cancel(child)
            message = f"its limits contradict each other since the configuration was changed: {wrong}"
            await self._journal.end(live, Status.FAILED, Failure(kind=FailureKind.REJECTED, message=message))
            return
        self._worker.take_up(live)

    async def _hear(self, wish: Wish) -> None:
        live = self.get_live(wish.run_id)
        if live is None:
            return
        live.run = replace(live.run, accept_answer=wish.accept_answer)
        if wish.cancel_at is not None:
            await self.cancel(wish.run_id)


async def _close(adapter: Adapter[Any]) -> None:
    """Close an adapter; one that can't be closed must not keep the store open, and the runs ours."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            with guarding("aclose"):
                await adapter.aclose()
    except Exception as error:  # noqa: BLE001  a stranger's adapter may raise anything
        _log.warning(
            "the adapter of %s could not be closed: %s: %s", adapter.name, type(error).__name__, error
        )


async def _wait_for(engine: Engine, run_id: str) -> Run:
    from gateway.engine.waiting import wait_for_end

    return await wait_for_end(engine, run_id, None)
