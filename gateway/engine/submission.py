"""One submission: sent once, and when its answer is lost, asked after until it is known whether it landed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gateway.adapter import Adapter, Feature, Landed, NotLanded, Recovery, Unknown
from gateway.clock import Clock
from gateway.engine.gates import Gates
from gateway.engine.health import Health
from gateway.engine.journal import Journal, get_attempt, is_over
from gateway.engine.live import Live
from gateway.engine.parking import Lot, Why
from gateway.engine.planner import Planner
from gateway.engine.seam import ask, tell_rate_limit
from gateway.engine.time_limit import TimeLimit
from gateway.engine.waits import throw_retry_delay
from gateway.errors import BackendError, CostOutcome, InDoubt, Misbehaved, Throttled, Unavailable
from gateway.lifecycle import AttemptStatus, Status
from gateway.observe.observer import calling
from gateway.policy.health import Operation
from gateway.policy.retry import make_failure
from gateway.task import Attempt, Cost, Envelope, Failure, FailureKind, Handle

DEFAULT_DOUBT_WAIT = timedelta(minutes=2)
_SUBMIT_SECONDS = 120.0
_LOOK_SECONDS = 60.0


@dataclass(slots=True)
class Sender:
    """Sends stored envelopes, and knows or finds out what became of them."""

    adapters: Mapping[str, Adapter[Any]]
    planner: Planner
    journal: Journal
    clock: Clock
    health: Health
    gates: Gates
    lot: Lot
    _limit: TimeLimit = field(default_factory=lambda: TimeLimit(_SUBMIT_SECONDS))
    _look_limit: TimeLimit = field(default_factory=lambda: TimeLimit(_LOOK_SECONDS))

    async def send(self, live: Live, envelope: Envelope) -> BackendError | None:
        """Submit a stored envelope, once."""
        await self.journal.confirm(live)
        self.health.begin(envelope.backend, Operation.SUBMIT)
        end_call = self.journal.observer.begin_call(envelope.backend, Operation.SUBMIT, (live.run,))
        live.watch.leave()
        found = await self._submit(envelope)
        error = found if isinstance(found, BackendError) else None
        end_call(error)
        self.health.note(envelope.backend, Operation.SUBMIT, error)
        told = tell_rate_limit(self.adapters[envelope.backend])
        self.gates.get(envelope.backend).hear(envelope.attempt_id, error, told)
        if live.resends and (error is None or error.landed is False):
            live.end_doubt()
        if isinstance(found, BackendError):
            live.watch.come_back()
            return await self._note_not_sent(live, found)
        self._note_landed(live, found)
        return None

    async def _submit(self, envelope: Envelope) -> Handle | BackendError:
        try:
            with self._limit():
                return await ask(Handle, self.adapters[envelope.backend].submit, envelope)
        except BackendError as error:
            return error
        except TimeoutError:
            return InDoubt(f"no answer within {_SUBMIT_SECONDS:g} s", backend=envelope.backend)
        except Exception as error:  # noqa: BLE001  a broken adapter may have sent it all the same
            return InDoubt(
                f"its adapter broke while submitting: {type(error).__name__}: {error}",
                backend=envelope.backend,
            )

    def _note_landed(self, live: Live, handle: Handle) -> None:
        """Note where a job lives; its envelope is in the store, so that a crash here is no loss."""
        live.watch.leave()
        facts = self.planner.get_capabilities(handle.backend)
        can_wait = facts is not None and Feature.RECALL in facts.features
        self.journal.note_landed(live, handle, soon=not can_wait)

    async def _note_not_sent(self, live: Live, error: BackendError) -> BackendError | None:
        if error.landed is False:
            handle = await self._look_after_refusal(live, error)
            if handle is not None:
                self._note_landed(live, handle)
                return None
            await self._note_refused(live, error)
            return error
        await self.journal.move_attempt(live, AttemptStatus.IN_DOUBT, failure=make_failure(error))
        if live.resends:  # as before: the next one comes no sooner than the next question would
            self._ask_later(live, error)
            return None
        return await self.settle_doubt(live)

    async def _look_after_refusal(self, live: Live, error: BackendError) -> Handle | None:
        """Return the job if a backend took a submission and answered "later" all the same.

        A 429 or 503 that a proxy in front of it makes says nothing of what happened behind; one look does.
        """
        if not isinstance(error, Unavailable) or error.http_status is None:
            return None
        attempt = get_attempt(live)
        try:
            found = await self._look_for(live, get_envelope(attempt))
        except BackendError:
            return None
        return found.handle if isinstance(found, Landed) else None

    async def _look_for(self, live: Live, envelope: Envelope) -> Recovery:
        """Ask whether a submission landed; what is found may be another attempt's job.

        Raises BackendError, whatever the adapter does.
        """
        found = await self._recover(live, envelope)
        if not isinstance(found, Landed) or found.handle.job_id == envelope.attempt_id:
            return found
        other = await self.journal.fetch_other_holder(live, found.handle)
        return found if other is None else Unknown(f"job {found.handle.job_id} is that of attempt {other}")

    async def _recover(self, live: Live, envelope: Envelope) -> Recovery:
        name = envelope.backend
        try:
            with calling(self.journal.observer, name, "recover", (live.run,)), self._look_limit():
                return await ask(Recovery, self.adapters[name].recover, envelope)
        except BackendError:
            raise
        except TimeoutError:
            raise Unavailable(f"no answer within {_LOOK_SECONDS:g} s", backend=name) from None
        except Exception as error:
            why = f"its adapter broke while looking: {type(error).__name__}: {error}"
            raise Misbehaved(why, backend=name) from error

    async def _note_refused(self, live: Live, error: BackendError) -> None:
        if isinstance(error, Unavailable) and not isinstance(error, Throttled):
            self.planner.mark_ill(get_attempt(live).backend, error.message)
        cost = get_attempt(live).cost
        await self.journal.move_attempt(
            live,
            AttemptStatus.REFUSED,
            run_status=Status.QUEUED,
            failure=make_failure(error),
            cost=Cost(quoted=cost.quoted, outcome=CostOutcome.NOT_CHARGED),
        )

    async def settle_doubt(self, live: Live) -> BackendError | None:
        """Find out whether the newest attempt landed, and send it (again) if not.

        Returns None if it landed, the run has ended, or it waits to ask again; else why it did not land.
        """
        attempt = get_attempt(live)
        envelope = get_envelope(attempt)
        if attempt.status is AttemptStatus.PREPARED:
            await self.journal.move_attempt(live, AttemptStatus.IN_DOUBT)
        live.doubt_until = live.doubt_until or self._get_doubt_end(live)
        error: BackendError | None = None
        try:
            with live.rest():
                found = await self._look_for(live, envelope)
        except BackendError as unanswered:
            found, error = Unknown(str(unanswered)), unanswered
        is_time_up = self.clock.now() >= live.doubt_until
        if isinstance(found, Unknown) and not is_time_up:
            self._ask_later(live, error)
            return None
        if isinstance(found, NotLanded) and not found.final:
            return await self._send_again(live, envelope, lingers=found.lingers, is_time_up=is_time_up)
        live.end_doubt()
        if isinstance(found, Landed):
            self._note_landed(live, found.handle)
            return None
        if isinstance(found, NotLanded):
            error = Unavailable(
                "the submission never arrived and can't arrive any more", backend=attempt.backend
            )
            await self._note_refused(live, error)
            return error
        return await self._leave_unresolved(live, attempt, found.reason)

    async def _send_again(
        self, live: Live, envelope: Envelope, *, lingers: bool, is_time_up: bool
    ) -> BackendError | None:
        """Send what is not at its backend, unless nobody wants that any more, or it was tried long enough."""
        attempt = get_attempt(live)
        if live.resends and is_time_up:
            reason = f"it was sent {live.resends + 1} times, and each time its answer was lost"
            live.end_doubt()
            return await self._leave_unresolved(live, attempt, reason)
        is_unwanted = live.cancel.is_set() or is_over(live.run, self.clock.now())
        if is_unwanted and not lingers:
            live.end_doubt()
            await self._call_off(live, attempt)
            return None
        live.resends += 1
        await self.journal.move_attempt(live, AttemptStatus.PREPARED)
        return await self.send(live, envelope)

    def _ask_later(self, live: Live, error: BackendError | None) -> None:
        live.doubt_until = live.doubt_until or self._get_doubt_end(live)
        live.paused_seconds = throw_retry_delay(live.paused_seconds, error)
        self.lot.pause(live, live.paused_seconds, Why.DOUBT)

    async def _call_off(self, live: Live, attempt: Attempt) -> None:
        """End a run that nobody wants sent any more, and that is not at its backend.

        That the same envelope may be sent again is no proof that it can't arrive: its cost stays unknown.
        """
        status, kind, why = Status.FAILED, FailureKind.DEADLINE, "the deadline passed"
        if live.cancel.is_set():
            status, kind, why = Status.CANCELLED, FailureKind.CANCELLED, "cancelled"
        message = f"{why}; {attempt.backend} does not have attempt {attempt.id}, and it is not sent again"
        failure = Failure(kind=kind, message=message, backend=attempt.backend)
        ends = self.journal.make_end(status, failure=failure)
        await self.journal.move_attempt(
            live, AttemptStatus.UNRESOLVED, run_status=status, failure=failure, ends=ends
        )

    async def _leave_unresolved(self, live: Live, attempt: Attempt, reason: str) -> BackendError | None:
        message = (
            f"nobody knows whether {attempt.backend} took the submission of attempt {attempt.id} ({reason});"
            f" it may have cost {attempt.cost.quoted or 'something'}: look there before you try again"
        )
        failure = Failure(
            kind=FailureKind.UNRESOLVED,
            message=message,
            backend=attempt.backend,
            detail={"attempt_id": attempt.id},
        )
        if live.limits.on_doubt == "resubmit":
            ended = await self.journal.move_attempt(
                live, AttemptStatus.UNRESOLVED, run_status=Status.QUEUED, failure=failure
            )
            self.planner.learnt.add_attempt(ended, live.run.task.model)
            return InDoubt(message, backend=attempt.backend)
        ended = await self.journal.move_attempt(
            live,
            AttemptStatus.UNRESOLVED,
            run_status=Status.FAILED,
            failure=failure,
            ends=self.journal.make_end(Status.FAILED, failure=failure),
        )
        self.planner.learnt.add_attempt(ended, live.run.task.model)
        return None

    def _get_doubt_end(self, live: Live) -> datetime:
        """Return until when a backend is asked; once it is in any case."""
        if live.limits.on_doubt in ("fail", "resubmit"):
            return self.clock.now()
        wait = DEFAULT_DOUBT_WAIT if live.limits.doubt_wait is None else live.limits.doubt_wait
        return live.run.deadline_at or (self.clock.now() + wait)


def get_envelope(attempt: Attempt) -> Envelope:
    """Return the envelope of an attempt that was prepared."""
    if attempt.envelope is None:
        raise RuntimeError(f"attempt {attempt.id} has no envelope")
    return attempt.envelope
