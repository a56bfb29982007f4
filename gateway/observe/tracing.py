"""Traces over OpenTelemetry: a span for each run, attempt and call to a backend, written when it is over.

The ids of a run's and an attempt's span follow from their own ids, so a trace needs no memory: the process
that sees the end writes the span, whichever began it, and what is below knew its parent before that was
written. The caller's place in a trace is stored with the run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from time import time_ns

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from gateway.lifecycle import AttemptStatus
from gateway.observe.context import OUTGOING, Outgoing
from gateway.observe.observer import EndCall, Observer
from gateway.observe.resource import make_resource
from gateway.observe.stopwatch import Stopwatch
from gateway.task import Attempt, Failure, Run

Attributes = dict[str, str | int | bool | float]

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def parse_traceparent(text: str | None) -> SpanContext | None:
    """Return the place in a trace that a W3C `traceparent` names; None if it names none."""
    match = _TRACEPARENT.fullmatch(text) if text is not None else None
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    place = SpanContext(int(match[2], 16), int(match[3], 16), True, TraceFlags(int(match[4], 16) & 3))
    return place if place.is_valid else None


def encode_traceparent(place: SpanContext) -> str:
    """Return a place in a trace as the W3C's header has it."""
    return f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags & 3:02x}"


class _Ids(RandomIdGenerator):
    """Gives the next span the ids that it must have, and every other one ids by chance."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 0

    def generate_trace_id(self) -> int:
        taken, self.trace_id = self.trace_id, 0
        return taken or super().generate_trace_id()

    def generate_span_id(self) -> int:
        taken, self.span_id = self.span_id, 0
        return taken or super().generate_span_id()


class Traces(Observer):
    """Writes spans. What was asked and answered is not in them."""

    def __init__(
        self, exporter: SpanExporter, *, at_once: bool = False, propagate: Collection[str] = ()
    ) -> None:
        """Make it.

        Args:
            exporter: where the spans go.
            at_once: each as it ends, not many at a time from a thread.
            propagate: names of backends that are told of the trace, "*" for all.
        """
        self._ids = _Ids()
        self.provider = TracerProvider(resource=make_resource(), id_generator=self._ids)
        process = SimpleSpanProcessor if at_once else BatchSpanProcessor
        self.provider.add_span_processor(process(exporter))
        self._tracer = self.provider.get_tracer("gateway")
        self._propagate = frozenset(propagate)

    def note_change(self, before: Run | None, run: Run, _: Stopwatch | None) -> None:
        """Write the spans of what ended."""
        if before is None:
            return
        attempt = run.attempt
        if attempt is not None and attempt.status.is_final and attempt is not before.attempt:
            known = before.attempt
            if known is None or known.number != attempt.number or not known.status.is_final:
                self._write_attempt(run, attempt)
        if run.status.is_final and not before.status.is_final:
            self._write_run(run)

    def begin_call(self, backend: str, operation: str, runs: Sequence[Run]) -> EndCall:
        """Write a call's span at its end; below the attempt, or linked to all for which it is made."""
        began, single = time_ns(), len(runs) == 1
        places = [self._find_attempt(run) for run in runs]
        told = Outgoing(None)
        span_id = 0
        if single and ("*" in self._propagate or backend in self._propagate):
            span_id = self._ids.generate_span_id()
            told.traceparent = encode_traceparent(
                SpanContext(places[0].trace_id, span_id, False, places[0].trace_flags)
            )
            OUTGOING.set(told)

        def end(error: BaseException | None) -> None:
            told.traceparent = None
            if not places:
                return
            span = self._start(
                f"{operation} {backend}",
                SpanKind.CLIENT,
                _make_call_attributes(backend, operation, runs),
                began,
                places[0] if single else None,
                span_id,
                () if single else [Link(place) for place in places],
            )
            if error is not None:
                _set_error(span, type(error).__name__)
            span.end()

        return end

    def close(self) -> None:
        """Send what was not sent yet, and end."""
        self.provider.shutdown()

    def _write_attempt(self, run: Run, attempt: Attempt) -> None:
        attributes: Attributes = {
            **_make_attributes(run),
            "gen_ai.provider.name": attempt.backend,
            "gateway.backend": attempt.backend,
            "gateway.attempt.id": attempt.id,
            "gateway.attempt.number": attempt.number,
            "gateway.attempt.status": attempt.status.value,
            "gateway.attempt.in_doubt": attempt.doubted,
            "gateway.cost.outcome": attempt.cost.outcome.value,
        }
        if attempt.handle is not None:
            attributes["gen_ai.response.id"] = attempt.handle.job_id
        if attempt.cost.settled is not None:
            attributes["gateway.cost.settled"] = str(attempt.cost.settled)
        span = self._start(
            f"attempt {attempt.backend}",
            SpanKind.INTERNAL,
            attributes,
            _get_ns(attempt.created_at),
            self._find_run(run),
            _make_span_id(attempt.id),
        )
        if attempt.status is not AttemptStatus.SUCCEEDED:
            _set_failure(span, attempt.failure, attempt.status.value)
        span.end(_get_ns(attempt.ended_at or run.updated_at))

    def _write_run(self, run: Run) -> None:
        parent = self._find_parent(run)
        if parent is None:
            self._ids.trace_id = _make_trace_id(run)
        attributes = {**_make_attributes(run), "gateway.run.status": run.status.name.lower()}
        name = f"run {run.task.model}" if run.task.model else "run"
        begun = _get_ns(run.created_at)
        span = self._start(name, SpanKind.INTERNAL, attributes, begun, parent, _make_span_id(run.id))
        self._ids.trace_id = 0
        if run.failure is not None:
            _set_failure(span, run.failure, run.status.name.lower())
        span.end(_get_ns(run.ended_at or run.updated_at))

    def _start(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        begun: int,
        parent: SpanContext | None,
        span_id: int,
        links: Sequence[Link] = (),
    ) -> Span:
        self._ids.span_id = span_id
        context = set_span_in_context(NonRecordingSpan(parent)) if parent is not None else None
        return self._tracer.start_span(name, context, kind, attributes, links, begun)

    def _find_parent(self, run: Run) -> SpanContext | None:
        """Return what a run is a part of: the run whose task it does, or what its caller was doing."""
        caller = parse_traceparent(run.traceparent)
        if run.parent is None:
            return caller
        place = caller or self._begin_trace(run)
        return SpanContext(place.trace_id, _make_span_id(run.parent), True, place.trace_flags)

    def _find_run(self, run: Run) -> SpanContext:
        place = self._find_parent(run) or self._begin_trace(run)
        return SpanContext(place.trace_id, _make_span_id(run.id), True, place.trace_flags)

    def _find_attempt(self, run: Run) -> SpanContext:
        place = self._find_run(run)
        if run.attempt is None:
            return place
        return SpanContext(place.trace_id, _make_span_id(run.attempt.id), True, place.trace_flags)

    def _begin_trace(self, run: Run) -> SpanContext:
        """Return the place of a run that nobody's trace led to; whether it is sampled follows from its id."""
        trace_id = _make_trace_id(run)
        asked = self.provider.sampler.should_sample(None, trace_id, "run").decision
        sampled = asked is Decision.RECORD_AND_SAMPLE
        return SpanContext(trace_id, _make_span_id(run.id), True, TraceFlags(3 if sampled else 2))


def _make_trace_id(run: Run) -> int:
    return int.from_bytes(hashlib.blake2b((run.parent or run.id).encode(), digest_size=16).digest()) or 1


def _make_span_id(of: str) -> int:
    return int.from_bytes(hashlib.blake2b(of.encode(), digest_size=8).digest()) or 1


def _make_attributes(run: Run) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": "run",
        "gen_ai.request.stream": run.task.stream,
        "gateway.run.id": run.id,
    }
    if run.task.model is not None:
        attributes["gen_ai.request.model"] = run.task.model
    return attributes


def _make_call_attributes(backend: str, operation: str, runs: Sequence[Run]) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": str(operation),
        "gen_ai.provider.name": backend,
        "gateway.backend": backend,
        "gateway.call.runs": len(runs),
    }
    models = {run.task.model for run in runs}
    if len(models) == 1 and (model := models.pop()) is not None:
        attributes["gen_ai.request.model"] = model
    return attributes


def _set_failure(span: Span, failure: Failure | None, otherwise: str) -> None:
    _set_error(span, otherwise if failure is None else failure.kind.value)


def _set_error(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def _get_ns(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
