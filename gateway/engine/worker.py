"""Works on runs: brings each to its backend, hands it to that backend's watcher, carries out cancels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from gateway.adapter import Adapter, Feature
from gateway.catalogue import Catalogue
from gateway.clock import Clock
from gateway.engine.accepting import Accepting
from gateway.engine.dispatch import Dispatcher
from gateway.engine.ending import Ending
from gateway.engine.gates import Gates
from gateway.engine.health import Health
from gateway.engine.journal import Journal
from gateway.engine.live import NOBODYS, Live
from gateway.engine.parking import Lot, Rousing, Why
from gateway.engine.planner import Planner
from gateway.engine.submission import Sender
from gateway.engine.waits import keep_writing, repeat, throw_retry_delay
from gateway.engine.watch import Watcher
from gateway.errors import NotSupported, RunTakenOver, StoreError
from gateway.lifecycle import AttemptStatus, Status
from gateway.observe.context import WORKING_ON
from gateway.policy.budget import Accounting
from gateway.task import Failure, FailureKind

_log = logging.getLogger("gateway")
_FINISH_SENDING_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.05


class Worker:
    """Has the runs of this process in its hands."""

    def __init__(
        self,
        adapters: Mapping[str, Adapter[Any]],
        catalogue: Catalogue,
        planner: Planner,
        journal: Journal,
        clock: Clock,
        accounting: Accounting,
        health: Health,
        gates: Gates,
    ) -> None:
        self.live: dict[str, Live] = {}
        self.lead: Callable[[Live], Awaitable[float | None]] | None = None
        self._adapters, self._planner, self._journal, self._clock = adapters, planner, journal, clock
        self._rousing = Rousing(clock, self._drive_now)
        self._lot = Lot(clock, self._rousing.add)
        self._ending = Ending(catalogue, planner, journal, clock, self._rousing.add)
        self._health, self._gates = health, gates
        self._sender = Sender(adapters, planner, journal, clock, health, gates, self._lot)
        self._dispatcher = Dispatcher(
            self._sender, adapters, catalogue, planner, journal, clock, accounting, health, gates, self._lot
        )
        self._accepting = Accepting(journal, clock)
        self._watchers: dict[str, Watcher] = {}
        self._driving: dict[asyncio.Task[None], Live] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self._cancelling: dict[Live, asyncio.Task[None]] = {}
        journal.on_unwritten = self._insist

    def take(self, live: Live) -> None:
        """Begin to work on a new run, at once."""
        self.live[live.run.id] = live
        live.on_end = self._forget
        self._drive_now(live)

    def take_up(self, live: Live) -> None:
        """Go on to work on a run. If another process had it meanwhile, what we knew of it is over."""
        before, self.live[live.run.id] = self.live.get(live.run.id), live
        if before is not None:
            before.drop()
        live.on_end = self._forget
        attempt = live.run.attempt
        if attempt is not None and not attempt.status.is_final:
            self._gates.get(attempt.backend).put_in(attempt.id)
        if attempt is not None and live.has_landed and not live.cancel.is_set():
            self._get_watcher(attempt.backend).adopt(live)
        else:
            self._rousing.add(live)

    async def cancel(self, live: Live) -> None:
        """Carry out a wish to cancel, as far as it can be done now; it goes on if nobody waits any more."""
        cancelling = self._cancelling.get(live)
        if cancelling is None:
            cancelling = self._cancelling[live] = asyncio.create_task(self._cancel(live))
            cancelling.add_done_callback(lambda _: self._cancelling.pop(live))
        try:
            await asyncio.shield(cancelling)
        except asyncio.CancelledError:
            if not cancelling.cancelled():  # it is at the close, and the wish is in the store
                raise

    async def _cancel(self, live: Live) -> None:
        live.cancel.set()
        self._lot.wake(live)
        attempt = live.run.attempt
        if attempt is None or attempt.status is not AttemptStatus.SUBMITTED:
            return  # its driver sees the wish before its next step
        facts = await self._planner.fetch_capabilities(attempt.backend)
        try:
            if Feature.CANCEL in facts.features:
                await self._ending.cancel(live, self._adapters[attempt.backend])
                self._get_watcher(attempt.backend).look_soon(live, 0.0)
            elif facts.healthy:
                await self._ending.abandon(live)
        except (NotSupported, RunTakenOver):
            _log.warning("run %s could not be cancelled here", live.run.id)

    async def aclose(self) -> None:
        """Let submissions under way finish, bounded; then stop. What goes on is in the store."""
        await self._lot.aclose()
        await self._rousing.aclose()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_SENDING_SECONDS):
                while moving := [task for task, live in self._driving.items() if not live.resting]:
                    await asyncio.wait(moving, timeout=_LOOK_AGAIN_SECONDS)
        tasks = [*self._driving, *self._watching, *self._cancelling.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watcher in self._watchers.values():
            await watcher.aclose()
        self._gates.stop()

    def _forget(self, live: Live) -> None:
        self._lot.forget(live)
        if self.live.get(live.run.id) is not live:
            return  # it has come back already
        del self.live[live.run.id]
        leader = None if live.run.parent is None else self.live.get(live.run.parent)
        if leader is not None:
            self._lot.wake(leader)
        attempt = live.run.attempt
        if live.dropped and attempt is not None:  # whoever has it now counts its job
            self._gates.get(attempt.backend).leave(attempt.id)

    def _drive_now(self, live: Live) -> asyncio.Task[None]:
        task = asyncio.create_task(self._drive(live))
        self._driving[task] = live
        task.add_done_callback(self._driving.pop)
        return task

    async def _drive(self, live: Live) -> None:
        WORKING_ON.set(live)
        try:
            await self._bring(live)
        except StoreError as error:
            # Nothing was sent that is not in the store: go on from there when it is back.
            live.paused_seconds = throw_retry_delay(live.paused_seconds, error)
            self._lot.pause(live, live.paused_seconds, Why.STORE)
        except RunTakenOver:
            if live.fence != NOBODYS:
                _log.warning("run %s was taken over by another process", live.run.id)
        except Exception as error:  # noqa: BLE001  it is logged, and becomes the run's failure
            if live.fence == NOBODYS:
                return  # it could not be written down: its caller was told why
            _log.exception("run %s met a defect of the gateway", live.run.id)
            attempt = live.run.attempt
            if attempt is not None and not attempt.status.is_final:
                live.drop()  # there may be a paid job: it is left as stored, for the next start
                return
            failure = Failure(kind=FailureKind.INTERNAL, message=f"{type(error).__name__}: {error}")
            await self._journal.end(live, Status.FAILED, failure)

    async def _bring(self, live: Live) -> None:
        """Bring a run to its backend, from wherever it is, and hand it to that backend's watcher."""
        stay = self._lot.take_out(live)
        if live.run.children and self.lead is not None:
            seconds = await self.lead(live)
            if seconds is not None:
                self._lot.pause(live, seconds, Why.CHILDREN)
            return
        attempt = live.run.attempt
        landed = live.has_landed
        if attempt is not None and attempt.status in (AttemptStatus.PREPARED, AttemptStatus.IN_DOUBT):
            error = await self._sender.settle_doubt(live)
            landed = live.has_landed if error is None else await self._dispatcher.drive(live, error)
        elif not landed:
            landed = await self._dispatcher.drive(live, stay=stay)
        if landed and live.run.attempt is not None:
            live.plan, live.paused_seconds = None, 0.0  # what follows its job is planned then
            await self._get_watcher(live.run.attempt.backend).add(live)
            if live.cancel.is_set():
                await self.cancel(live)

    def _insist(self, live: Live) -> None:
        """Write down what has happened already, as soon as the store takes it."""

        async def write() -> None:
            async with live.changing:
                if live.unwritten and not live.dropped:
                    await self._journal.save(live)

        async def insist() -> None:
            with suppress(RunTakenOver):  # whoever has it now finds out by himself
                await keep_writing(write, self._clock)

        insisting = asyncio.create_task(insist())
        self._watching.add(insisting)
        insisting.add_done_callback(self._watching.discard)

    def _get_watcher(self, backend: str) -> Watcher:
        if backend not in self._watchers:

            async def fetch_features() -> tuple[frozenset[Feature], int]:
                facts = await self._planner.fetch_capabilities(backend)
                return facts.features, max(1, facts.poll_many)

            watcher = Watcher(
                self._adapters[backend],
                self._journal,
                self._clock,
                self._ending,
                self._accepting,
                self._health,
                fetch_features,
            )
            self._watchers[backend] = watcher
            what = f"watching the jobs of {backend}"
            watching = asyncio.create_task(repeat(what, watcher.look_next, self._clock))
            self._watching.add(watching)
            watching.add_done_callback(self._watching.discard)
        return self._watchers[backend]
