"""How a run is cut into rows: a task is written once, the rest with each change."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from typing import Any, TypeAlias, TypeVar

from gateway.errors import InvalidInput
from gateway.policy.learning import make_outcome
from gateway.store.ledger import Entry
from gateway.task import Attempt, Envelope, Event, Run, Snapshot, Task
from gateway.types import JSON, AttemptId
from gateway.value import Value

_APART = frozenset({"task", "plan", "attempts", "envelope"})  # what has a column or a row of its own
_LARGE_BYTES = 1 << 14
_SAMPLE_BYTES = 1 << 12
_TIMES_SHORTER = 4  # at least: plain text takes ten times as long as chunks, for half its length
_ZLIB = b"\x78"  # what zlib writes begins so, JSON never
_NOTHING: dict[str, object] = {}
_newest_plan: tuple[JSON, bytes] = (None, b"")
_NOTHING_LEARNT = (None,) * 4
_Dropper: TypeAlias = Callable[[Any], dict[str, object]]
ValueT = TypeVar("ValueT", bound=Value)
_droppers: dict[type, _Dropper] = {}  # by kind of value


@cache
def get_to_json() -> Callable[[object], bytes]:
    """Return what encodes all that is stored; pydantic is imported at the first call."""
    from pydantic_core import to_json

    return partial(to_json, inf_nan_mode="constants", bytes_mode="base64")


def drop_defaults(value: Value) -> dict[str, object]:
    """Return a value's fields without those that are None, False, 0 or empty as they are by default.

    `model_validate_json` reads them back. Most fields of most values are so: it is a third of the bytes.
    """
    drop = _droppers.get(type(value)) or _make_dropper(type(value))
    return drop(value)


def _make_dropper(kind: type[Value]) -> _Dropper:
    """Make a function for one kind of value, as `dataclasses` does: a loop takes four times as long.

    For fields a (without a default) and b it reads:

        def drop(value):
            found = {"a": value.a}
            if (here := value.b) is not default_b:
                found["b"] = here
            return found
    """
    defaults: dict[str, Any] = {}
    rows = [one for one in fields(kind) if one.name not in _APART]  # type: ignore[arg-type]
    always = ", ".join(f'"{one.name}": value.{one.name}' for one in rows if one.default is MISSING)
    lines = ["def drop(value):", f"    found = {{{always}}}"]
    for one in rows:
        if one.default is not MISSING:
            defaults[f"default_{one.name}"] = one.default
            lines.append(f"    if (here := value.{one.name}) is not default_{one.name}:")
            lines.append(f'        found["{one.name}"] = here')
    exec("\n".join([*lines, "    return found"]), defaults)  # noqa: S102  made of the names of our own fields
    dropper: _Dropper = defaults["drop"]
    _droppers[kind] = dropper
    return dropper


def encode_task(task: Task) -> bytes:
    """Return the part of a run that is written once. Raises InvalidInput if the task is not JSON."""
    state = drop_defaults(task)
    state["limits"] = drop_defaults(task.limits)
    try:
        return get_to_json()(state)
    except ValueError as error:
        raise InvalidInput(f"the task is not JSON: {error}") from error


def compress(data: bytes) -> bytes:
    """Return the JSON of something large compressed, if it repeats itself as a stream's chunks do."""
    if len(data) < _LARGE_BYTES:
        return data
    sample = zlib.compress(data[:_SAMPLE_BYTES], zlib.Z_BEST_SPEED)
    is_worth_it = len(sample) * _TIMES_SHORTER <= _SAMPLE_BYTES
    return zlib.compress(data, zlib.Z_BEST_SPEED) if is_worth_it else data


def decompress(data: bytes) -> bytes:
    """Return JSON that may have been compressed."""
    return zlib.decompress(data) if data.startswith(_ZLIB) else data


def encode_run(run: Run) -> bytes:
    """Return the part of a run that changes, without its task, plan and attempts."""
    state = drop_defaults(run)
    state["task"] = _NOTHING
    state["status"] = int(run.status)  # an enum takes as long as a whole value
    state["passed"] = [(int(status), at) for status, at in run.passed]
    return compress(get_to_json()(state))


def _thin_out_snapshot(snapshot: Snapshot) -> dict[str, object]:
    state = drop_defaults(snapshot)
    state["status"] = int(snapshot.status)
    return state


def encode_events(events: Iterable[Event]) -> bytes:
    """Return what happened at one time."""
    return get_to_json()([_thin_out(event) for event in events])


def _thin_out(event: Event) -> dict[str, object]:
    state = drop_defaults(event)
    if event.status is not None:
        state["status"] = int(event.status)
    if event.snapshot is not None:
        state["snapshot"] = _thin_out_snapshot(event.snapshot)
    return state


def decode_events(rows: Iterable[tuple[bytes]], after: int) -> list[Event]:
    """Return the events in some rows, in their order, that came after a number."""
    return [event for (row,) in rows for event in _decode_event_row(row) if event.seq > after]


def _decode_event_row(row: bytes) -> list[Event]:
    read, make = _get_event_readers()
    try:
        return read(row)
    except ValueError:
        return make(_parse_any(row))


@cache
def _get_event_readers() -> tuple[Callable[[bytes], list[Event]], Callable[[object], list[Event]]]:
    from pydantic import TypeAdapter

    adapter = TypeAdapter(list[Event])
    return adapter.validate_json, adapter.validate_python


def decode_value(kind: type[ValueT], text: bytes) -> ValueT:
    """Return a value from its JSON, however deep that is nested. Raises ValueError for what is none."""
    try:
        return kind.model_validate_json(text)
    except ValueError:
        return kind.model_validate(_parse_any(text))


def _parse_any(text: bytes) -> JSON:
    """Read whatever `get_to_json` writes: 255 levels of nesting, where pydantic reads 200, and any integer.

    A single row that can't be read would hide all runs from whoever lists or takes them over.
    """
    return json.loads(text, parse_int=lambda digits: int(Decimal(digits)))


def encode_plan(run: Run) -> bytes | None:
    """Return the plan of a run, which is written once; runs in a row often share it."""
    global _newest_plan  # noqa: PLW0603  of which one is enough
    if run.plan is None:
        return None
    if run.plan is not _newest_plan[0]:
        _newest_plan = run.plan, get_to_json()(run.plan)
    return _newest_plan[1]


def require_end(run: Run) -> Run:
    """Return a run that has ended. Raises InvalidInput while it goes on."""
    if not run.status.is_final:
        raise InvalidInput(f"run {run.id} is still {run.status.name}: its costs are settled when it ends")
    return run


def decode_entry(run_id: str, api_key: str | None, model: str | None, state: bytes) -> Entry:
    """Return the line on the bill of an attempt's row."""
    return make_entry(run_id, api_key, model, decode_value(Attempt, state))


def make_entry(run_id: str, api_key: str | None, model: str | None, attempt: Attempt) -> Entry:
    """Return the line that an attempt has on the bill."""
    return Entry(
        at=attempt.created_at,
        run_id=run_id,
        api_key=api_key,
        backend=attempt.backend,
        model=model,
        ended=attempt.status.is_final,
        cost=attempt.cost,
    )


def decode_holders(rows: Iterable[tuple[bytes]], backend: str, job_id: str) -> list[AttemptId]:
    """Return which of some attempts have a backend's job."""
    attempts = (decode_value(Attempt, state) for (state,) in rows)
    return [attempt.id for attempt in attempts if is_holder(attempt, backend, job_id)]


def is_holder(attempt: Attempt, backend: str, job_id: str) -> bool:
    """Say whether an attempt has a backend's job."""
    handle = attempt.handle
    return handle is not None and (attempt.backend, handle.job_id) == (backend, job_id)


def encode_attempt(run: Run, attempt: Attempt, kept: Envelope | None = None) -> tuple[object, ...]:
    """Return the row of an attempt, without its envelope if that is the one that is `kept` already."""
    outcome = make_outcome(attempt)
    learnt: tuple[object, ...] = _NOTHING_LEARNT
    if outcome is not None:
        learnt = (outcome.at.timestamp(), int(outcome.succeeded), int(outcome.doubted), outcome.seconds)
    envelope, at = attempt.envelope, attempt.created_at.timestamp()
    written = None if envelope is None or envelope is kept else envelope.model_dump_json()
    rest = _encode_rest(attempt)
    return (run.id, attempt.number, attempt.backend, run.task.model, at, *learnt, written, rest)


def _encode_rest(attempt: Attempt) -> bytes:
    state = drop_defaults(attempt)
    state["status"] = attempt.status.value
    state["cost"] = drop_defaults(attempt.cost)
    if attempt.snapshot is not None:
        state["snapshot"] = _thin_out_snapshot(attempt.snapshot)
    return get_to_json()(state)


def decode_run(
    task: bytes, plan: bytes | None, state: bytes, attempts: Sequence[tuple[bytes | None, bytes]]
) -> Run:
    """Put a run together again."""
    from pydantic_core import from_json

    return replace(
        decode_value(Run, decompress(state)),
        task=decode_value(Task, task),
        plan=None if plan is None else from_json(plan),
        attempts=tuple(_decode_attempt(envelope, doc) for envelope, doc in attempts),
    )


def _decode_attempt(envelope: bytes | None, state: bytes) -> Attempt:
    attempt = decode_value(Attempt, state)
    return attempt if envelope is None else replace(attempt, envelope=decode_value(Envelope, envelope))


def parse_time(seconds: float | None) -> datetime | None:
    """Return the time of a column."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def get_time(at: datetime | None) -> float | None:
    """Return a time as it stands in a column: seconds since 1970."""
    return None if at is None else at.timestamp()
