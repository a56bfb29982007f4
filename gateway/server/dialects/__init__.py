"""Protocols of others that the server speaks, so that their clients come as they are.

Each is a face of its own (see gateway.server): it reads and writes a protocol's words and knows no backend.
"""

from __future__ import annotations

from gateway.server.routes import Face


def make_faces() -> list[Face]:
    """Return every dialect's face."""
    from gateway.server.dialects import inferencesh, infernet, openai

    return [infernet.make_face(), inferencesh.make_face(), openai.make_face()]
