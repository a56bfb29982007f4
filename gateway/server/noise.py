"""Keeps callers from filling the log: what uvicorn warns of at each request that is no HTTP is summed up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

TOLD_EVERY_SECONDS = 60.0
_SOURCE = "uvicorn.error"
_log = logging.getLogger("gateway.server")


class SumUp(logging.Filter):
    """Tells of warnings with one line a minute, of the gateway's own; the first at once. Errors pass."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """Make it; `now` tells seconds."""
        super().__init__()
        self._now = now
        self._count, self._next_at = 0, now()

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is written as it is."""
        if record.levelno != logging.WARNING:
            return True
        self._count += 1
        if self._now() >= self._next_at:
            _log.warning("warnings about callers' requests: %d, now: %s", self._count, record.getMessage())
            self._count, self._next_at = 0, self._now() + TOLD_EVERY_SECONDS
        return False


_sum_up = SumUp()


def sum_up_warnings() -> None:
    """Let what uvicorn warns of be summed up from now on; once is enough."""
    logging.getLogger(_SOURCE).addFilter(_sum_up)
