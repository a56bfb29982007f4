"""Makes the observers that a configuration asks for."""

from __future__ import annotations

import sys

from gateway.config import ObservabilitySettings
from gateway.errors import ConfigError
from gateway.observe.observer import Observer, Observers


def make_observer(settings: ObservabilitySettings) -> Observer | None:
    """Return what tells OpenTelemetry, or None if nobody wants that. Raises ConfigError: it is missing."""
    try:
        made = [one for one in (make_traces(settings), make_metrics(settings)) if one is not None]
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"observability needs {error.name}: pip install 'inference-gateway[otel]'"
        ) from error
    return None if not made else made[0] if len(made) == 1 else Observers(made)


def make_metrics(settings: ObservabilitySettings) -> Observer | None:
    """Return what sends numbers, if anybody wants them."""
    if settings.metrics == "off":
        return None
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    from gateway.observe.otel_metrics import OtelMetrics

    return OtelMetrics(PeriodicExportingMetricReader(OTLPMetricExporter()))


def make_traces(settings: ObservabilitySettings) -> Observer | None:
    """Return what writes traces, if anybody wants them."""
    if settings.traces in (None, "off"):
        return None
    from gateway.observe.tracing import Traces

    if settings.traces == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return Traces(ConsoleSpanExporter(out=sys.stderr), at_once=True, propagate=settings.propagate)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Traces(OTLPSpanExporter(), propagate=settings.propagate)
