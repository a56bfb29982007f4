"""Whose spans and numbers they are, to OpenTelemetry."""

from __future__ import annotations

from opentelemetry.sdk.resources import OTELResourceDetector, Resource


def make_resource() -> Resource:
    """Return the resource; the environment's name for the service wins."""
    resource = Resource.create({"service.name": "inference-gateway"})
    return resource.merge(OTELResourceDetector().detect())
