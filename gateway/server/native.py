"""The native face: the API under /v1, what it says about itself, and its health."""

from __future__ import annotations

from gateway.server import events, health, looks, openapi, runs
from gateway.server.routes import Face


def make_face() -> Face:
    """Return the native face."""
    return Face("", (*health.ROUTES, *looks.ROUTES, *runs.ROUTES, *events.ROUTES, *openapi.ROUTES))
