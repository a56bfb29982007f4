"""The native face: the API under /v1, what it says about itself, its health, and the page."""

from __future__ import annotations

from gateway.server import events, health, looks, observing, openapi, pages, runs
from gateway.server.routes import Face


def make_face() -> Face:
    """Return the native face."""
    groups = (health, observing, looks, runs, events, openapi, pages)
    return Face("", [route for group in groups for route in group.ROUTES])
