"""The node's rate limit, respected before it bites. Pure: the time is an argument.

A node counts per endpoint (60 in 60 s by default) and says with each answer what is left. Its Retry-After is
cut down to whole seconds, which makes it 0 at the default limits (measured), so the waits here are our own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta

_SHORTEST_WAIT_SECONDS = 1.0


def parse_wait(headers: Mapping[str, str]) -> timedelta:
    """Return how long to stay away after a 429: at least a second, and a second more than it asked for.

    The header appears twice when it is not 0, and then reads "7, 7".
    """
    asked = [int(part) for part in headers.get("retry-after", "").split(",") if part.strip().isdecimal()]
    return timedelta(seconds=max(_SHORTEST_WAIT_SECONDS, max(asked, default=0) + 1))


class Budget:
    """What is left of one endpoint's limit.

    While there is plenty, nothing is held back. From the last tenth on, requests are spaced by the time in
    which the node hands out one new slot, so that something is left for whoever else is behind our address.
    """

    def __init__(self) -> None:
        self._not_before = -math.inf

    def note(self, headers: Mapping[str, str], status: int, now: float) -> None:
        """Take in an answer that came at `now` (monotonic seconds)."""
        if status == 429:
            self._not_before = now + parse_wait(headers).total_seconds()
            return
        try:
            limit, remaining, reset = (
                int(headers[f"ratelimit-{name}"]) for name in ("limit", "remaining", "reset")
            )
        except (KeyError, ValueError):
            return  # nodes before 1.0 have no limit and no headers
        if remaining <= limit // 10:
            # `reset` is when all slots are back, cut to a whole second; the used ones come back evenly.
            self._not_before = now + (reset + 1) / max(1, limit - remaining)

    def get_wait(self, now: float) -> timedelta:
        """Return how long the next request must still wait; zero if it may go."""
        return timedelta(seconds=max(0.0, self._not_before - now))
