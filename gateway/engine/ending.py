"""How an attempt, and with it the run, comes to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.adapter import Adapter, CancelOutcome
from gateway.catalogue import Catalogue
from gateway.clock import Clock
from gateway.engine.journal import Journal, get_attempt, get_attempt_end, settle
from gateway.engine.live import Live
from gateway.engine.planner import Planner
from gateway.engine.seam import ask, drop_unreadable_cost
from gateway.errors import BackendError, InvalidInput, NotSupported
from gateway.lifecycle import AttemptStatus, Status, can_follow
from gateway.observe.observer import calling
from gateway.policy.health import Operation
from gateway.task import Attempt, Cost, Failure, FailureKind, Snapshot

_log = logging.getLogger("gateway")
_BROKEN_PAUSE_SECONDS = 1.0
_LAST_LOOK_SECONDS = 10.0
_CANCEL_SECONDS = 120.0


@dataclass(slots=True)
class Ending:
    """Settles what a final look means: the cost, the answer, and whether the run goes on elsewhere.

    `drive_on` brings a run whose attempt failed to the next backend.
    """

    catalogue: Catalogue
    planner: Planner
    journal: Journal
    clock: Clock
    drive_on: Callable[[Live], None]
    _reported: set[str] = field(default_factory=set)

    async def end_attempt(self, live: Live, snapshot: Snapshot) -> None:
        """Write the end of a job down, and what follows from it, in one change."""
        async with live.changing:
            if not live.has_landed:
                return  # somebody else saw its end before
            live.watch.come_back()
            attempt, snapshot = get_attempt(live), drop_unreadable_cost(snapshot)
            status = get_attempt_end(snapshot)
            cost = settle(attempt.cost, snapshot)
            try:
                if snapshot.status is Status.COMPLETED:
                    await self._complete(live, snapshot, cost)
                else:
                    await self._fail(live, status, snapshot, cost)
            except InvalidInput as error:
                await self._end_without_answer(live, status, snapshot, cost, error)
            self.planner.learnt.add_attempt(get_attempt(live), live.run.task.model)

    async def end_overdue(self, live: Live, adapter: Adapter[Any]) -> None:
        """End a run whose deadline has passed while its job goes on; cancel that where it is possible."""
        outcome = await self._try_cancel(live, adapter)
        stopped = outcome is CancelOutcome.CANCELLED
        left = "was cancelled" if stopped else "may go on there, and may still be charged"
        attempt = get_attempt(live)
        message = f"the deadline passed; job {_get_job_id(attempt)} at {attempt.backend} {left}"
        end = AttemptStatus.CANCELLED if stopped else AttemptStatus.UNRESOLVED
        last = await self._look_last(live, adapter) if stopped else None
        failure = _make_failure(FailureKind.DEADLINE, message, attempt)
        await self._stop(live, end, Status.FAILED, failure, last)

    async def cancel(self, live: Live, adapter: Adapter[Any]) -> None:
        """Carry out a wish to cancel a job that has landed, as far as its backend can be asked now."""
        outcome = await self._try_cancel(live, adapter)
        last = await self._look_last(live, adapter) if outcome is CancelOutcome.CANCELLED else None
        if last is not None and last.status.is_final:
            await self.end_attempt(live, last)
        elif outcome is CancelOutcome.REQUESTED or last is not None:
            async with live.changing:
                if live.has_landed and can_follow(live.run.status, Status.CANCELLING):
                    await self.journal.save(live, status=Status.CANCELLING)
        elif outcome is CancelOutcome.CANCELLED:
            attempt = get_attempt(live)
            failure = _make_failure(FailureKind.CANCELLED, f"cancelled at {attempt.backend}", attempt)
            await self._stop(live, AttemptStatus.CANCELLED, Status.CANCELLED, failure)

    async def abandon(self, live: Live) -> None:
        """End a run as cancelled whose backend can't cancel: its job goes on there, unwatched."""
        attempt = get_attempt(live)
        where, job_id = attempt.backend, _get_job_id(attempt)
        message = f"cancelled; {where} can't stop jobs, so its job {job_id} may go on there"
        failure = _make_failure(FailureKind.CANCELLED, message, attempt)
        await self._stop(live, AttemptStatus.CANCELLED, Status.CANCELLED, failure)

    def report_broken(self, backend: str, error: Exception) -> float:
        """Log an adapter's defect (once each kind); returns the seconds to leave it alone."""
        kind = f"{backend}: {type(error).__name__}: {error}"
        if kind not in self._reported:
            self._reported.add(kind)
            _log.error("the adapter of %s is broken, its jobs bring no news", backend, exc_info=error)
        return _BROKEN_PAUSE_SECONDS

    async def _try_cancel(self, live: Live, adapter: Adapter[Any]) -> CancelOutcome | None:
        handle = get_attempt(live).handle
        if handle is None:
            return None
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                with calling(self.journal.observer, handle.backend, "cancel", (live.run,)):
                    return await ask(CancelOutcome, adapter.cancel, handle)
        except (BackendError, NotSupported, TimeoutError):
            return None
        except Exception as error:  # noqa: BLE001  it must not keep the run from its end
            self.report_broken(adapter.name, error)
            return None

    async def _look_last(self, live: Live, adapter: Adapter[Any]) -> Snapshot | None:
        """Return a look at a job that was just cancelled, which tells its cost; None if it can't be had."""
        handle = get_attempt(live).handle
        if handle is None or not live.has_landed:
            return None
        try:
            with calling(self.journal.observer, handle.backend, Operation.POLL, (live.run,)):
                async with asyncio.timeout(_LAST_LOOK_SECONDS):
                    return (await ask(Mapping, adapter.poll, [handle])).get(handle)
        except (BackendError, TimeoutError):
            return None
        except Exception as error:  # noqa: BLE001  a broken adapter has cancelled it all the same
            self.report_broken(handle.backend, error)
            return None

    async def _complete(self, live: Live, snapshot: Snapshot, cost: Cost) -> None:
        attempt = get_attempt(live)
        target = self.catalogue.get_target(live.run.task, attempt.backend, attempt.target)
        status, output, failure = Status.COMPLETED, snapshot.output, None
        try:
            output = target.reshape_output(snapshot.output)
        except InvalidInput as error:
            status, output = Status.FAILED, None
            failure = Failure(
                kind=FailureKind.OUTPUT_ERROR,
                message=f"the job succeeded, but its output does not fit the model's mapping: {error}",
                backend=attempt.backend,
                detail={"output": snapshot.output},
            )
        await self.journal.move_attempt(
            live,
            AttemptStatus.SUCCEEDED,
            run_status=status,
            snapshot=snapshot.replace(output=None) if target.output is None else snapshot,  # not twice
            ends=self.journal.make_end(status, output, failure),
            cost=cost,
        )

    async def _end_without_answer(
        self, live: Live, status: AttemptStatus, snapshot: Snapshot, cost: Cost, error: InvalidInput
    ) -> None:
        """Write the end of a job down whose last words no store can keep: nested too deep, for one."""
        attempt, told = get_attempt(live), snapshot.failure
        message = f"job {_get_job_id(attempt)} at {attempt.backend} ended, but what it said can't be stored"
        failure = _make_failure(FailureKind.OUTPUT_ERROR, f"{message}: {error}", attempt)
        await self.journal.move_attempt(
            live,
            status,
            run_status=Status.FAILED,
            snapshot=Snapshot(status=snapshot.status, failure=told and failure),
            ends=self.journal.make_end(Status.FAILED, failure=failure),
            failure=told and failure,
            cost=cost.replace(evidence=None),
        )

    async def _fail(self, live: Live, status: AttemptStatus, snapshot: Snapshot, cost: Cost) -> None:
        goes_on = (
            live.limits.on_failed == "next"
            and status in (AttemptStatus.FAILED, AttemptStatus.LOST)
            and not live.pieces_out
            and not live.cancel.is_set()
            and can_follow(live.run.status, Status.QUEUED)  # not if it is CANCELLING, whoever wished for that
        )
        run_status = Status.QUEUED if goes_on else snapshot.status
        await self.journal.move_attempt(
            live,
            status,
            run_status=run_status,
            snapshot=snapshot,
            ends=self.journal.make_end(run_status, failure=snapshot.failure),
            failure=snapshot.failure,
            cost=cost,
        )
        if goes_on:
            self.drive_on(live)

    async def _stop(
        self,
        live: Live,
        attempt: AttemptStatus,
        run: Status,
        failure: Failure,
        last: Snapshot | None = None,
    ) -> None:
        """End a run whose job has not ended by itself, as far as we know; `last` tells what it has cost."""
        async with live.changing:
            if live.has_landed:
                ends, cost = self.journal.make_end(run, failure=failure), get_attempt(live).cost
                if last is not None and last.status.is_final:
                    cost = settle(cost, last)
                await self.journal.move_attempt(
                    live, attempt, run_status=run, ends=ends, failure=failure, cost=cost
                )


def _get_job_id(attempt: Attempt) -> str | None:
    return attempt.handle.job_id if attempt.handle else None


def _make_failure(kind: FailureKind, message: str, attempt: Attempt) -> Failure:
    return Failure(kind=kind, message=message, backend=attempt.backend, job_id=_get_job_id(attempt))
