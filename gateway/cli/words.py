"""How runs, times and money are written for a person."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.lifecycle import AttemptStatus
from gateway.types import JSON

if TYPE_CHECKING:
    from gateway.task import Attempt, Cost, Quote, Run

SHORT_ID = 20  # "run_", the millisecond, and four digits of chance: enough to tell runs apart


def clean(text: str) -> str:
    """Return the text on one line and without control characters: a backend's words stay words."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def format_json(value: JSON) -> str:
    """Return JSON for a person; NaN and Infinity are bare words."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def format_answer(output: JSON) -> str:
    """Return an answer as it is printed: a text as it stands, all else as JSON."""
    return output if isinstance(output, str) else format_json(output)


def format_seconds(seconds: float) -> str:
    """Return "34 ms", "2.1 s", "3 m 20 s" or "2 h 5 m"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest} s"
    return f"{minutes // 60} h {minutes % 60} m"


def get_seconds(run: Run, now: datetime | None = None) -> float:
    """Return how long a run took, or has taken by now."""
    end = run.ended_at or now or datetime.now(UTC)
    return max(0.0, (end - run.created_at).total_seconds())


def format_backends(run: Run) -> str:
    """Return where a run has been, in order; a run with copies has been where these are."""
    names = [*run.children_at, *(attempt.backend for attempt in run.attempts)]
    return (
        ", ".join(name for place, name in enumerate(names) if place == 0 or names[place - 1] != name) or "-"
    )


def format_passed(run: Run) -> str:
    """Return the statuses that a run went through."""
    return " ".join(status.name for status, _ in run.passed)


def format_cost(run: Run) -> str:
    """Return what is known of the money of all attempts that may have cost something."""
    if run.children and not run.costs_of_children:
        return "unknown, its copies are under way"
    told = [format_attempt_cost(attempt) for attempt in run.attempts]
    told += [_format_cost(cost, "free") for cost in run.costs_of_children]
    paid = [text for text in told if text not in ("free", "nothing")]
    return ", ".join(paid) or (told[-1] if told else "nothing")


def format_attempt_cost(attempt: Attempt) -> str:
    """Return "free", "nothing", "0.002 USD", or what it may have been."""
    landed = attempt.status in (AttemptStatus.SUBMITTED, AttemptStatus.SUCCEEDED)
    return _format_cost(attempt.cost, "free" if landed else "nothing")


def _format_cost(cost: Cost, if_none: str) -> str:
    if cost.settled is not None:
        return str(cost.settled)
    if cost.outcome.value == "not_charged":
        return if_none
    if cost.outcome.value == "charged":
        return f"charged (quoted {cost.quoted})" if cost.quoted else "charged, amount unknown"
    return f"unknown (quoted {cost.quoted})" if cost.quoted else "unknown"


def format_quote(quote: Quote | None) -> str:
    """Return a quote in a few words."""
    if quote is None or quote.confidence == "unknown":
        return "unknown"
    if quote.confidence == "free":
        return "free"
    if quote.expected is not None and quote.upper is not None and quote.expected != quote.upper:
        return f"{quote.expected} to {quote.upper}"
    return f"{quote.expected or quote.upper} ({quote.confidence})"


def format_summary(run: Run) -> str:
    """Return one line on how a run ended."""
    tries, copies = len(run.attempts), len(run.children)
    where = f" at {run.attempt.backend}" if run.attempt else ""
    attempts = f"{tries} attempt{'' if tries == 1 else 's'}"
    if copies:
        where, attempts = f" by {format_backends(run)}", f"{copies} cop{'y' if copies == 1 else 'ies'}"
    took = format_seconds(get_seconds(run))
    return f"{run.status.name}{where} in {took}, {attempts}, cost: {format_cost(run)}"
