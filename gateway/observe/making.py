"""Makes the observer of traces that a configuration asks for."""

from __future__ import annotations

import sys

from gateway.config import ObservabilitySettings
from gateway.errors import ConfigError
from gateway.observe.observer import Observer


def make_traces(settings: ObservabilitySettings) -> Observer | None:
    """Return what writes traces, or None if nobody wants them. Raises ConfigError: it is not installed."""
    if settings.traces in (None, "off"):
        return None
    try:
        from gateway.observe.tracing import Traces

        if settings.traces == "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            return Traces(ConsoleSpanExporter(out=sys.stderr), at_once=True, propagate=settings.propagate)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return Traces(OTLPSpanExporter(), propagate=settings.propagate)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"observability.traces needs {error.name}: pip install 'inference-gateway[otel]'"
        ) from error
