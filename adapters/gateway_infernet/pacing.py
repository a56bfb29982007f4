"""The node's rate limits, respected before they bite. No I/O.

A node counts per endpoint (60 in 60 s by default) and says with each answer what is left. Its Retry-After is
cut down to whole seconds, which makes it 0 at the default limits (measured), so the waits here are our own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import timedelta

from gateway.clock import Clock
from gateway.errors import Throttled
from gateway.http import Answer, StreamAnswer

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


class RateLimits:
    """The budgets of all of a node's endpoints."""

    def __init__(self, backend: str, clock: Clock, *, doors: Collection[tuple[str, str]] = ()) -> None:
        """Make them full. `doors` lead to the same room: who is refused at one does not try the next."""
        self._backend = backend
        self._clock = clock
        self._doors = doors
        self._budgets: defaultdict[tuple[str, str], Budget] = defaultdict(Budget)

    def check(self, method: str, path: str) -> None:
        """Raise Throttled if a request should not be made now."""
        wait = self._budgets[method, path].get_wait(self._clock.monotonic())
        if wait:
            raise Throttled(
                f"the limit for {method} {path} is nearly used up; {wait.total_seconds():.1f} s to wait",
                backend=self._backend,
                retry_after=wait,
                unsent=True,
            )

    def note(self, method: str, path: str, answer: Answer | StreamAnswer) -> None:
        """Take an answer's headers in. Raises Throttled if it is a 429."""
        now = self._clock.monotonic()
        self._budgets[method, path].note(answer.headers, answer.status, now)
        if answer.status == 429:
            for door in self._doors if (method, path) in self._doors else ():
                self._budgets[door].note(answer.headers, answer.status, now)
            raise Throttled(
                f"{method} {path}: too many requests from our address",
                backend=self._backend,
                http_status=429,
                retry_after=parse_wait(answer.headers),
            )

    def has_less(self, endpoint: tuple[str, str], *, than: tuple[str, str]) -> bool:
        """Say whether the one endpoint has to wait longer than the other."""
        now = self._clock.monotonic()
        return self._budgets[endpoint].get_wait(now) > self._budgets[than].get_wait(now)
