"""How a run is cut into rows: a task is written once, the rest with each change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.errors import InvalidInput
from gateway.policy.learning import make_outcome
from gateway.store.ledger import Entry
from gateway.task import Attempt, Envelope, Run, Task

_EMPTY = Task()


def encode_task(task: Task) -> bytes:
    """Return the part of a run that is written once. Raises InvalidInput if the task is not JSON."""
    from pydantic_core import PydanticSerializationError

    try:
        return task.model_dump_json()
    except PydanticSerializationError as error:
        raise InvalidInput(f"the task is not JSON: {error}") from error


def encode_run(run: Run) -> bytes:
    """Return the part of a run that changes, without its task, plan and attempts."""
    return replace(run, task=_EMPTY, attempts=(), plan=None).model_dump_json()


def encode_plan(run: Run) -> bytes | None:
    """Return the plan of a run, which is written once."""
    from pydantic_core import to_json

    return None if run.plan is None else to_json(run.plan, inf_nan_mode="constants")


def decode_entry(run_id: str, model: str | None, state: bytes) -> Entry:
    """Return the line on the bill of an attempt's row."""
    return make_entry(run_id, model, Attempt.model_validate_json(state))


def make_entry(run_id: str, model: str | None, attempt: Attempt) -> Entry:
    """Return the line that an attempt has on the bill."""
    return Entry(
        at=attempt.created_at,
        run_id=run_id,
        backend=attempt.backend,
        model=model,
        ended=attempt.status.is_final,
        cost=attempt.cost,
    )


def encode_attempt(run: Run, attempt: Attempt) -> tuple[object, ...]:
    """Return the row of an attempt."""
    outcome = make_outcome(attempt)
    learnt: tuple[object, ...] = (None,) * 4
    if outcome is not None:
        learnt = (outcome.at.timestamp(), outcome.succeeded, outcome.doubted, outcome.seconds)
    return (
        run.id,
        attempt.number,
        attempt.backend,
        run.task.model,
        attempt.created_at.timestamp(),
        *learnt,
        attempt.envelope.model_dump_json() if attempt.envelope else None,
        replace(attempt, envelope=None).model_dump_json(),
    )


def decode_run(
    task: bytes, plan: bytes | None, state: bytes, attempts: Sequence[tuple[bytes | None, bytes]]
) -> Run:
    """Put a run together again."""
    from pydantic_core import from_json

    return replace(
        Run.model_validate_json(state),
        task=Task.model_validate_json(task),
        plan=None if plan is None else from_json(plan),
        attempts=tuple(_decode_attempt(envelope, doc) for envelope, doc in attempts),
    )


def _decode_attempt(envelope: bytes | None, state: bytes) -> Attempt:
    attempt = Attempt.model_validate_json(state)
    return attempt if envelope is None else replace(attempt, envelope=Envelope.model_validate_json(envelope))
