"""A pile made ready for a database: rows of plain types, alike for all of them."""

from __future__ import annotations

from typing import Any

from gateway.errors import InvalidInput
from gateway.policy.budget import Spend
from gateway.store.archive import get_end
from gateway.store.intake import Pile
from gateway.store.rows import encode_attempt, encode_plan, encode_run, encode_task, get_time, refuse
from gateway.task import Run

Row = tuple[Any, ...]
"""Plain types only: what sqlite3 has to adapt, enums and bools among them, costs it a microsecond each."""


class Change:
    """One run's newest state, what happened, and what is spent: all of it or nothing.

    Only attempts that changed are written; their envelopes only if they are not in the store already.

    Attributes:
        state: status, phase, backend, address, state, ended_at, unresolved, cancel_requested_at.
        beginning: of a new run: created_at, model, owner, parent, idempotency_key, api_key, task, plan.
        attempts: rows as of `encode_attempt`.
        events: run_id, seq, event.
        error: why it can't be written as a whole.
    """

    __slots__ = ("attempts", "beginning", "error", "events", "fence", "key", "pile", "run_id", "state")

    def __init__(self, pile: Pile) -> None:
        """Encode it."""
        run = pile.run
        self.pile, self.run_id, self.fence = pile, run.id, pile.fence
        self.error: InvalidInput | None = None
        self.key = run.idempotency_key if pile.owner is not None else None
        try:
            with refuse(f"the new state of run {run.id}"):
                self.state: Row = _make_state(run)
                self.beginning = None if pile.owner is None else _make_beginning(run, pile.owner)
                self.attempts = [encode_attempt(run, attempt, pile.kept) for attempt in pile.attempts]
                self.events: list[Row] = [(run.id, e.seq, e.model_dump_json()) for e in pile.events]
        except InvalidInput as error:
            self.error = error

    @property
    def spends(self) -> list[Spend]:
        """Return all that is spent."""
        return self.pile.spends


def _make_state(run: Run) -> Row:
    place = (run.attempt.backend, run.attempt.address) if run.attempt else (None, None)
    ended_at, unresolved = get_end(run)
    return (
        *(run.status.value, run.status.phase.value, *place, encode_run(run), ended_at),
        *(None if unresolved is None else int(unresolved), get_time(run.cancel_requested_at)),
    )


def _make_beginning(run: Run, owner: str) -> Row:
    return (
        *(run.created_at.timestamp(), run.task.model, owner, run.parent),
        *(run.idempotency_key, run.api_key, encode_task(run.task), encode_plan(run)),
    )
