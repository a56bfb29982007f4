"""Where a step stands in a trace, and whose ids its log lines have: read by what runs inside it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.task import Run

INCOMING: ContextVar[str | None] = ContextVar("gateway_traceparent_in", default=None)
"""The W3C `traceparent` of the request that is answered, for runs that it begins."""


@dataclass(slots=True)
class Outgoing:
    """What a backend is told of the trace while a call lasts; None once it is over.

    A call may leave tasks behind that have copied its context: they must not go on telling of it.
    """

    traceparent: str | None


class HasRun(Protocol):
    """What is worked on."""

    run: Run


WORKING_ON: ContextVar[HasRun | None] = ContextVar("gateway_working_on", default=None)
"""Whose ids the lines of the log have."""

OUTGOING: ContextVar[Outgoing | None] = ContextVar("gateway_traceparent_out", default=None)
"""Set around calls to backends that shall be told."""


def get_trace_headers() -> dict[str, str] | None:
    """Return the headers that tell a backend of the trace, or None: mostly there are none."""
    outgoing = OUTGOING.get()
    if outgoing is None or outgoing.traceparent is None:
        return None
    return {"traceparent": outgoing.traceparent}
