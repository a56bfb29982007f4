"""The ids of runs and attempts."""

from __future__ import annotations

import os
from datetime import datetime
from uuid import UUID

from gateway.types import AttemptId, RunId

_CHANCE_BYTES = 16
_drawn: list[bytes] = []


def make_run_id(now: datetime) -> RunId:
    """Return an id that nobody else has, later ones being greater: milliseconds, then 80 bits of chance.

    A store keeps rows in the order of their ids. With ids in no order each new run would change a page of its
    own in every index, and all of these pages would have to be on the disk before its submission.
    """
    return RunId(f"run_{int(now.timestamp() * 1000):012x}{_draw()[:10].hex()}")


def make_attempt_id() -> AttemptId:
    """Return a UUID that nobody else has, as some backends want it."""
    return AttemptId(str(UUID(bytes=_draw(), version=4)))


def _draw() -> bytes:
    """Return bytes of chance, each but once.

    They come from the system for many ids together: it is asked without Python's lock, which the store's
    thread takes meanwhile, and the event loop then waits for.
    """
    try:
        return _drawn.pop()
    except IndexError:
        many = os.urandom(256 * _CHANCE_BYTES)
        _drawn.extend(many[at : at + _CHANCE_BYTES] for at in range(_CHANCE_BYTES, len(many), _CHANCE_BYTES))
        return many[:_CHANCE_BYTES]


if hasattr(os, "register_at_fork"):  # or parent and child would make the same ids
    os.register_at_fork(after_in_child=_drawn.clear)
