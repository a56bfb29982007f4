"""The account behind the keys: what they may do, what is in the purse, how much is allowed at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Literal

from gateway.devnet.inferencesh.clock import Clock
from gateway.devnet.inferencesh.envelopes import Problem
from gateway.types import JSON

MICROCENTS_PER_DOLLAR = 100_000_000
WINDOW_SECONDS = 60


@dataclass(slots=True)
class RateLimit:
    """How many runs a minute are let through, and how a 429 says when to come back.

    `per_minute` None: no limit (a fault can still answer 429). Whether the real API sends `Retry-After` with
    a 429 is not established, hence "none".
    """

    per_minute: int | None = None
    retry_after_seconds: int = 1
    retry_after_as: Literal["seconds", "date", "none"] = "seconds"


@dataclass(slots=True)
class Account:
    """One team. Change it freely between requests.

    `keys` maps each API key to its scopes, None for all. `secrets` are the names of those that are set up.
    `max_concurrency` tasks run at once, the others wait in the queue; None for no limit.
    """

    keys: dict[str, frozenset[str] | None]
    balance_microcents: int = 100 * MICROCENTS_PER_DOLLAR
    secrets: set[str] = field(default_factory=set)
    max_concurrency: int | None = None

    def add_key(self, key: str, scopes: Iterable[str]) -> None:
        """Make a key that may do only what `scopes` say."""
        self.keys[key] = frozenset(scopes)

    def check(self, authorization: str | None, scope: str | None) -> None:
        """Let a request pass, or raise Problem 401 or 403."""
        kind, _, key = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or key not in self.keys:
            raise Problem(401, "unauthorized", "the API key is missing or wrong")
        scopes = self.keys[key]
        if scope and scopes is not None and scope not in scopes:
            raise Problem(
                403,
                "insufficient_scope",
                f"the API key does not hold the scope {scope}",
                meta={"required_scope": scope},
            )


class Throttle:
    """Counts runs in windows of one minute, and writes the refusals."""

    def __init__(self, limit: RateLimit, clock: Clock) -> None:
        self.limit = limit
        self._clock = clock
        self._window = 0
        self._used = 0

    def admit(self) -> dict[str, str]:
        """Count one run and return the `X-RateLimit-` headers of its answer. Raises Problem 429."""
        if self.limit.per_minute is None:
            return {}
        window = int(self._clock.now() // WINDOW_SECONDS)
        if window != self._window:
            self._window, self._used = window, 0
        if self._used >= self.limit.per_minute:
            raise self.make_problem(self._describe())
        self._used += 1
        return self._describe()

    def make_problem(self, headers: Mapping[str, str] | None = None) -> Problem:
        """Return the 429, with `Retry-After` as the limit says."""
        headers = dict(headers or {})
        seconds = self.limit.retry_after_seconds
        if self.limit.retry_after_as == "seconds":
            headers["Retry-After"] = str(seconds)
        elif self.limit.retry_after_as == "date":
            headers["Retry-After"] = formatdate(self._clock.now() + seconds, usegmt=True)
        return Problem(429, "rate_limited", "too many requests", headers=headers)

    def _describe(self) -> dict[str, str]:
        left = (self.limit.per_minute or 0) - self._used
        reset = (self._window + 1) * WINDOW_SECONDS
        return {"X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": str(reset)}


def encode_usage(account: Account, running: int) -> list[JSON]:
    """Return what `GET /entitlements/usage` says about concurrency."""
    return [
        {
            "resource": "concurrency",
            "resource_label": "Tasks at once",
            "unlimited": account.max_concurrency is None,
            "limit": account.max_concurrency,
            "current": running,
        }
    ]
