"""How the gateway's values look in the native API: statuses by name, money and times as in gateway.toml.

{"status": "COMPLETED", "max_cost": "0.002 USD", "deadline": "30s", ...}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from enum import Enum, IntEnum
from typing import Any

from gateway.task import Attempt, Event, Run, Task
from gateway.types import JSON, Money

HIDDEN: Mapping[type, frozenset[str]] = {
    Attempt: frozenset({"envelope", "accept", "holds"}),
    Run: frozenset({"plan"}),
}
"""What stays inside: acts as they are sent (they repeat the input), and the plan, which has its own place."""

ONLY_WHOLE: Mapping[type, tuple[str, ...]] = {
    Run: ("output", "evidence"),
    Task: ("input", "target"),
    Attempt: ("target", "snapshot"),
}
"""What a summary leaves out."""

_AS_THEY_ARE = frozenset({"JSON", "Mapping[str, JSON]", "Mapping[str, JSON] | None", "Mapping[str, str]"})
_shapes: dict[type, tuple[tuple[str, bool], ...]] = {}


def view(value: Any) -> JSON:  # noqa: PLR0911  a case each
    """Return a value as JSON data. Inputs and outputs are passed on as they are, unread."""
    if value is None or (isinstance(value, str | bool | float) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.name if isinstance(value, IntEnum) else value.value
    if isinstance(value, Money):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():f}".rstrip("0").rstrip(".") + "s"  # as it is read again
    if is_dataclass(value):
        return {
            name: getattr(value, name) if plain else view(getattr(value, name))
            for name, plain in _get_shape(type(value))
        }
    if isinstance(value, Mapping):
        return {str(name): view(item) for name, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(view(item) for item in value)
    return [view(item) for item in value] if isinstance(value, list | tuple) else value


def _get_shape(cls: type) -> tuple[tuple[str, bool], ...]:
    if cls not in _shapes:
        hidden = HIDDEN.get(cls, frozenset())
        _shapes[cls] = tuple((f.name, f.type in _AS_THEY_ARE) for f in fields(cls) if f.name not in hidden)
    return _shapes[cls]


def view_run(run: Run) -> dict[str, JSON]:
    """Return a run as the API shows it."""
    shown: dict[str, JSON] = view(run)
    shown["phase"] = run.status.phase.value
    shown["cost_outcome"] = run.cost_outcome.value
    shown["idempotency_key"] = split_key(run)
    shown["passed"] = [{"status": status.name, "at": view(at)} for status, at in run.passed]
    return shown


def summarise_run(run: Run) -> dict[str, JSON]:
    """Return a run as a list shows it: without what may be large."""
    shown = view_run(run)
    for cls, part in ((Run, shown), (Task, shown["task"]), *((Attempt, one) for one in shown["attempts"])):
        for name in ONLY_WHOLE[cls]:
            part.pop(name)
    return shown


def view_event(event: Event) -> dict[str, JSON]:
    """Return an event as the API shows it, without what it leaves open."""
    return {name: item for name, item in view(event).items() if item is not None}


def join_key(caller_key: str | None, key: str | None) -> str | None:
    """Return the idempotency key that the store knows: each caller has its own."""
    return key if key is None or caller_key is None else f"{caller_key}/{key}"


def split_key(run: Run) -> str | None:
    """Return a run's idempotency key as its caller gave it."""
    if run.idempotency_key is None or run.api_key is None:
        return run.idempotency_key
    return run.idempotency_key.removeprefix(f"{run.api_key}/")
