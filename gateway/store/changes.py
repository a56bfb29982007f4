"""A pile made ready for a database: rows of plain types, alike for all of them."""

from __future__ import annotations

from typing import Any

from gateway.errors import InvalidInput, StoreError
from gateway.policy.budget import Spend
from gateway.store.archive import get_end
from gateway.store.intake import Pile
from gateway.store.rows import encode_attempt, encode_events, encode_plan, encode_run, encode_task, get_time
from gateway.task import Run

Row = tuple[Any, ...]
"""Plain types only: what sqlite3 has to adapt, enums and bools among them, costs it a microsecond each."""


class Change:
    """One run's newest state, what happened, and what is spent: all of it or nothing.

    Only attempts that changed are written; their envelopes only if they are not in the store already.

    Attributes:
        state: status, backend, address, state, cancel_requested_at, and what its end alone changes: phase,
            ended_at, unresolved.
        beginning: of a new run: created_at, model, owner, parent, idempotency_key, api_key, task, plan.
        attempts: rows as of `encode_attempt`.
        events: run_id, the last one's seq, all of them; None if nothing happened.
        error: why it can't be written as a whole.
    """

    __slots__ = ("attempts", "beginning", "error", "events", "fence", "key", "pile", "run_id", "state")

    def __init__(self, pile: Pile) -> None:
        """Encode it."""
        writes = pile.writes
        run, owner = writes[-1].run, writes[0].owner
        self.pile, self.run_id, self.fence = pile, run.id, writes[0].fence
        self.error: InvalidInput | StoreError | None = None
        self.key = run.idempotency_key if owner is not None else None
        if len(writes) == 1:
            attempts, events = run.attempts[-1:], writes[0].events
        else:
            attempts, events = pile.attempts, pile.events
        try:
            self.state: Row = _make_state(run)
            self.beginning = None if owner is None else _make_beginning(run, owner)
            self.attempts = [encode_attempt(run, attempt, pile.kept) for attempt in attempts]
            self.events = (run.id, events[-1].seq, encode_events(events)) if events else None
        except ValueError as error:
            self.error = InvalidInput(f"the new state of run {run.id} is not JSON: {error}")
            self.error.__cause__ = error
        except InvalidInput as error:
            self.error = error
        except Exception as error:  # noqa: BLE001  a defect: the others in the batch must not wait for ever
            self.error = StoreError(f"the new state of run {run.id} could not be encoded: {error!r}")
            self.error.__cause__ = error

    @property
    def has_ended(self) -> bool:
        """Say whether the run has come to its end."""
        return self.state[-1] is not None

    @property
    def size(self) -> int:
        """Return how many bytes of JSON it has."""
        rows = [self.state, *self.attempts]
        rows += [row for row in (self.beginning, self.events) if row is not None]
        return sum(len(value) for row in rows for value in row if isinstance(value, bytes))

    @property
    def spends(self) -> list[Spend]:
        """Return all that is spent."""
        return self.pile.spends


def _make_state(run: Run) -> Row:
    attempt, status = run.attempt, run.status
    backend, address = (attempt.backend, attempt.address) if attempt else (None, None)
    ended_at, unresolved = get_end(run)
    unknown = None if unresolved is None else int(unresolved)
    cancel = get_time(run.cancel_requested_at)
    return (int(status), backend, address, encode_run(run), cancel, status.phase.value, ended_at, unknown)


def _make_beginning(run: Run, owner: str) -> Row:
    task, plan, at = encode_task(run.task), encode_plan(run), run.created_at.timestamp()
    return (at, run.task.model, owner, run.parent, run.idempotency_key, run.api_key, task, plan)
