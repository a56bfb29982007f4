"""From a stored run to a job at a backend: choose, prepare, store, submit; and decide when that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.adapter import Adapter
from gateway.catalogue import Catalogue
from gateway.clock import Clock
from gateway.engine.gates import Gates
from gateway.engine.health import Health
from gateway.engine.ids import make_attempt_id
from gateway.engine.journal import Journal, get_attempt, is_over
from gateway.engine.live import Live
from gateway.engine.parking import Lot, Place, Stay, Why
from gateway.engine.planner import Planner
from gateway.engine.prices import get_limits, is_price_old, renew_price
from gateway.engine.seam import ask
from gateway.engine.submission import Sender
from gateway.engine.time_limit import TimeLimit
from gateway.engine.waits import throw_retry_delay
from gateway.errors import (
    BackendError,
    BudgetExceeded,
    CostOutcome,
    GatewayError,
    NoRate,
    Rejected,
    StoreError,
    Unavailable,
)
from gateway.lifecycle import AttemptStatus, Status
from gateway.observe.observer import NOBODY, calling
from gateway.policy.budget import Accounting, Spend, Spender, make_holds
from gateway.policy.health import is_breaking
from gateway.policy.retry import GoElsewhere, Stop, TryAgain, decide, make_error, make_failure
from gateway.policy.routing import Candidate, Plan
from gateway.policy.stages import ILL, is_worth_waiting
from gateway.task import Attempt, Cost, Envelope, Failure, FailureKind

_PREPARE_SECONDS = 600.0


@dataclass(slots=True)
class Dispatcher:
    """Brings runs to backends."""

    sender: Sender
    adapters: Mapping[str, Adapter[Any]]
    catalogue: Catalogue
    planner: Planner
    journal: Journal
    clock: Clock
    accounting: Accounting
    health: Health
    gates: Gates
    lot: Lot
    _limit: TimeLimit = field(default_factory=lambda: TimeLimit(_PREPARE_SECONDS))

    async def drive(self, live: Live, error: BackendError | None = None, stay: Stay | None = None) -> bool:
        """Bring a run to a backend; True if it landed there, False if the run has ended, or waits.

        `error` is why the newest attempt did not land, for a run that comes back from one; `stay`, how it has
        waited, for one that comes back from that.
        """
        place = stay.place if stay is not None and stay.is_in else None
        try:
            if not await self._is_to_go_on(live, error, stay):
                self._give_back(live, place)
                return False
            while place := place or await self._find_place(live):
                error = await self._try(live, place)
                if error is None:
                    attempt = live.run.attempt
                    return attempt is not None and attempt.status is AttemptStatus.SUBMITTED
                place = None
                if not await self._is_to_go_on(live, error, None):
                    return False
        except Exception:
            self._give_back(live, place)
            raise
        return False

    async def _is_to_go_on(self, live: Live, error: BackendError | None, stay: Stay | None) -> bool:
        """Say whether there is to be another attempt now; if not, the run has ended, or pauses before it."""
        if await self._is_called_off(live):
            return False
        if stay is not None and stay.why is Why.RETRY:
            await self._plan_again(live)
            return not await self._is_called_off(live)
        if stay is not None and stay.why is not Why.STORE:
            return True
        if live.run.attempt is None or not live.run.attempt.status.is_final:
            return True
        error = error or make_error(live.run.attempt)  # a restart knows it from the store
        decision = await self._decide(live, error)
        if isinstance(decision, Stop):
            await self._give_up(live, decision)
        elif isinstance(decision, TryAgain):
            live.paused_seconds = throw_retry_delay(live.paused_seconds, error)
            self.lot.pause(live, live.paused_seconds, Why.RETRY)
        return isinstance(decision, GoElsewhere)

    async def _decide(self, live: Live, error: BackendError | None) -> Stop | GoElsewhere | TryAgain:
        tried = {attempt.backend for attempt in live.run.attempts}
        doubted = live.run.attempts[-1].status is AttemptStatus.UNRESOLVED
        if live.plan is None or doubted:
            limits = get_limits(live, self.planner, self.clock)
            live.plan = await self.planner.plan(live.run.task, live.selector, limits)
        untried = [c.backend for c in live.plan.ranked if c.backend not in tried]
        decision = decide(
            live.run.attempts, live.limits, error=error, untried=untried, pieces_out=live.pieces_out
        )
        if doubted and isinstance(decision, TryAgain) and not _has_prospects(live.plan):
            return Stop(f"another attempt is out of the question: {_list_reasons(live.plan)}")
        backend = live.run.attempts[-1].backend
        if isinstance(decision, TryAgain) and is_breaking(error) and not self.health.take_retry(backend):
            return Stop(f"the retries that {backend} may get for now are used up")
        return decision

    async def _plan_again(self, live: Live) -> None:
        """Plan with what is known now; where nothing is left, the submission itself is the next look."""
        limits = get_limits(live, self.planner, self.clock)
        plan = await self.planner.plan(live.run.task, live.selector, limits)
        if plan.ranked:
            live.plan = plan

    async def _find_place(self, live: Live) -> Place | None:
        """Return a place at the best backend; None if the run has ended, or waits for one."""
        candidate = await self._choose(live)
        if candidate is None:
            return None
        place = Place(self.gates.get(candidate.backend), make_attempt_id(), candidate)
        if place.gate.try_enter(place.attempt_id):
            return place
        if live.run.status is not Status.QUEUED:
            await self.journal.save(live, status=Status.QUEUED)
        live.plan = None  # it will be an old one
        return place if self.lot.wait_for_room(live, place) else None

    async def _choose(self, live: Live) -> Candidate | None:
        """Return the best candidate; if there is none, the run waits for one, or is ended."""
        if live.plan is None:
            limits = get_limits(live, self.planner, self.clock)
            live.plan = await self.planner.plan(live.run.task, live.selector, limits)
        tried = [attempt.backend for attempt in live.run.attempts]
        plan, best = live.plan, _get_best(live.plan, tried, self.gates)
        if best is not None:
            return best
        if is_worth_waiting(plan, live.limits, is_promised=live.is_patient(self.clock.now())):
            live.plan = None
            ill = frozenset(c.backend for c in plan.removed if c.removed_by in ILL)
            self.lot.wait_for_health(live, ill, self.health.get_shortest_wait(ill))
        else:
            await self._fail(live, FailureKind.NO_BACKEND, f"no backend is left: {_list_reasons(plan)}")
        return None

    async def _try(self, live: Live, place: Place) -> BackendError | None:
        """Make one attempt; None if it landed (or the run has ended), else why not."""
        candidate = place.candidate
        adapter = self.adapters[candidate.backend]
        attempt = Attempt(
            id=place.attempt_id,
            number=len(live.run.attempts) + 1,
            backend=candidate.backend,
            address=adapter.address,
            target=candidate.target,
            status=AttemptStatus.PREPARED,
            created_at=self.clock.now(),
            cost=_make_cost(candidate),
        )
        if attempt.backend not in [earlier.backend for earlier in live.run.attempts]:
            self.health.note_first_try(attempt.backend)
        try:
            if is_price_old(candidate, live.limits, self.planner):
                candidate = await renew_price(live, candidate, self.planner, self.catalogue, self.clock)
                attempt = attempt.replace(cost=_make_cost(candidate))
            reservation = self._reserve(live, candidate)
            envelope = await self._prepare(live, attempt, adapter)
            held = attempt.replace(envelope=envelope, holds=make_holds(reservation))
            await self.journal.save(live, status=Status.DISPATCHED, attempt=held, spends=reservation)
        except BudgetExceeded as error:
            refusal = Rejected(str(error), backend=candidate.backend, code="budget")
            await self._note_unprepared(live, attempt, refusal)
            return refusal
        except BackendError as error:
            await self._note_unprepared(live, attempt, error)
            return error
        if live.cancel.is_set():
            free = attempt.cost.replace(outcome=CostOutcome.NOT_CHARGED)
            await self.journal.move_attempt(live, AttemptStatus.CANCELLED, cost=free)
            await self._is_called_off(live)
            return None
        return await self.sender.send(live, envelope)

    def _give_back(self, live: Live, place: Place | None) -> None:
        """Leave a place that no attempt of the run has: its end would leave it."""
        attempt = live.run.attempt
        if place is not None and (attempt is None or attempt.id != place.attempt_id):
            place.gate.leave(place.attempt_id)

    def _reserve(self, live: Live, candidate: Candidate) -> list[Spend]:
        """Return what must be set aside for an attempt there.

        Raises Rejected if that can't be told, Unavailable if its backend did not tell the price just now.
        """
        run, quote = live.run, candidate.quote
        if candidate.is_free:
            return []
        spender = Spender(
            run_id=run.id,
            backend=candidate.backend,
            model=run.task.model,
            key=run.api_key,
            day=self.clock.now().date(),
        )
        try:
            return self.accounting.make_reservation(spender, quote.upper if quote is not None else None)
        except NoRate as error:
            if candidate.quote_error is not None:
                why = f"{error} ({candidate.quote_error})"
                raise Unavailable(why, backend=candidate.backend, code="budget") from error
            raise Rejected(str(error), backend=candidate.backend, code="budget") from error

    async def _prepare(self, live: Live, attempt: Attempt, adapter: Adapter[Any]) -> Envelope:
        task = live.run.task
        target = self.catalogue.get_target(task, attempt.backend, attempt.target)
        observer = self.journal.observer
        runs = () if observer is NOBODY else (live.run.with_attempt(attempt),)
        try:
            with calling(observer, attempt.backend, "prepare", runs), self._limit():
                words = target.reshape_task(task)
                envelope = await ask(Envelope, adapter.prepare, words, attempt.target, attempt_id=attempt.id)
        except (BackendError, StoreError):  # the store: of an adapter that writes in its notebook
            raise
        except TimeoutError:
            raise Unavailable(
                f"preparing took over {_PREPARE_SECONDS:g} s", backend=attempt.backend
            ) from None
        except GatewayError as error:
            raise Rejected(str(error), backend=attempt.backend) from error
        except Exception as error:
            raise Rejected(
                f"its adapter broke while preparing: {type(error).__name__}: {error}", backend=attempt.backend
            ) from error
        if (envelope.attempt_id, envelope.backend) != (attempt.id, attempt.backend):
            whose = f"attempt {envelope.attempt_id} at {envelope.backend}"
            raise Rejected(f"its adapter broke the seam: an envelope of {whose}", backend=attempt.backend)
        return envelope

    async def _note_unprepared(self, live: Live, attempt: Attempt, error: BackendError) -> None:
        refused = attempt.replace(
            status=AttemptStatus.REFUSED,
            failure=make_failure(error),
            ended_at=self.clock.now(),
            cost=Cost(quoted=attempt.cost.quoted, outcome=CostOutcome.NOT_CHARGED),
        )
        await self.journal.save(live, status=Status.QUEUED, attempt=refused)

    async def _is_called_off(self, live: Live) -> bool:
        """End the run if somebody cancelled it or its time is up; only between attempts."""
        if live.run.status.is_final:
            return True
        if live.cancel.is_set():
            failure = Failure(kind=FailureKind.CANCELLED, message="cancelled before a backend had it")
            await self.journal.end(live, Status.CANCELLED, failure)
            return True
        if is_over(live.run, self.clock.now()):
            await self._fail(live, FailureKind.DEADLINE, "the deadline passed before a backend had it")
            return True
        return False

    async def _give_up(self, live: Live, decision: Stop) -> None:
        last = get_attempt(live).failure
        message = f"{last.message} ({decision.why})" if last else decision.why
        kind = last.kind if last else FailureKind.INTERNAL
        fields = (
            {}
            if last is None
            else {
                "code": last.code,
                "http_status": last.http_status,
                "job_id": last.job_id,
                "detail": last.detail,
            }
        )
        failure = Failure(kind=kind, message=message, backend=get_attempt(live).backend, **fields)
        await self.journal.end(live, Status.FAILED, failure)

    async def _fail(self, live: Live, kind: FailureKind, message: str) -> None:
        await self.journal.end(live, Status.FAILED, Failure(kind=kind, message=message))


def _get_best(plan: Plan, tried: Sequence[str], gates: Gates) -> Candidate | None:
    """Return the best that was not tried and takes tasks now, else one that was not tried, else any.

    `tried` are the backends of the attempts so far, in order: one whose limit is used up for a moment is
    better than the last of them, which has just failed.
    """
    ranked = plan.ranked
    if len(ranked) == 1 and not tried:
        return ranked[0]
    full = [c.backend for c in ranked if gates.get(c.backend).tell_held() is not None]
    best = plan.get_best([*tried, *full]) or plan.get_best(tried) or plan.get_best()
    if best is not None and best.backend in tried[-1:]:
        return next((c for c in plan.removed if c.removed_by == "rate"), best)
    return best


def _has_prospects(plan: Plan) -> bool:
    """Say whether there is a backend now, or may be one once it is well."""
    return bool(plan.ranked) or any(c.removed_by in ILL for c in plan.removed)


def _list_reasons(plan: Plan) -> str:
    return "; ".join(f"{c.backend}: {c.reason}" for c in plan.removed)


def _make_cost(candidate: Candidate) -> Cost:
    if candidate.is_free:
        return Cost(outcome=CostOutcome.NOT_CHARGED, evidence={"from": "the backend is free"})
    quote = candidate.quote
    return Cost() if quote is None else Cost(quoted=quote.expected or quote.upper, reserved=quote.upper)
