"""The node's rate limit: GCRA, per endpoint and per address, forgotten at a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_MICROSECONDS = 1_000_000


class Limiter:
    """Lets `count` requests per `period_seconds` through, after that one at a time as slots come free."""

    def __init__(self, count: int, period_seconds: float, now: Callable[[], float]) -> None:
        self._count = count
        self._period = round(period_seconds * _MICROSECONDS)
        self._slot = self._period // count
        self._now = now
        self._arrivals: dict[tuple[str, str], int] = {}

    def take(self, endpoint: str, address: str) -> int | None:
        """Use up one request: None if it may pass, else Retry-After in seconds (a refusal is free).

        The number is cut to an integer as the node does it: always 0 at the default of 60 per 60 seconds.
        """
        ahead = self._measure_ahead(endpoint, address)
        allowed = self._period - self._slot
        if ahead > allowed:
            return (ahead - allowed) // _MICROSECONDS
        self._arrivals[endpoint, address] = self._read_clock() + ahead + self._slot
        return None

    def make_headers(self, endpoint: str, address: str) -> Mapping[str, str]:
        """Return the three headers that every answer of a limited endpoint bears."""
        ahead = self._measure_ahead(endpoint, address)
        return {
            "ratelimit-limit": str(self._count),
            "ratelimit-remaining": str((self._period - ahead) // self._slot),
            "ratelimit-reset": str(ahead // _MICROSECONDS),
        }

    def clear(self) -> None:
        """Forget all requests."""
        self._arrivals.clear()

    def _measure_ahead(self, endpoint: str, address: str) -> int:
        """Return by how many microseconds the requests so far are ahead of their even pace."""
        now = self._read_clock()
        return max(self._arrivals.get((endpoint, address), now), now) - now

    def _read_clock(self) -> int:
        return round(self._now() * _MICROSECONDS)
