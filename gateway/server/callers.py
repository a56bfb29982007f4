"""Who calls: the key that a request came with, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.server.problems import FORBIDDEN, Refusal


class KeyScope(StrEnum):
    """What an API key may do."""

    READ = "read"  # look: its own runs and costs, plans, quotes, backends, models
    RUN = "run"  # give tasks, cancel, accept: spend
    ADMIN = "admin"  # everybody's runs and costs, metrics


@dataclass(frozen=True, slots=True)
class Caller:
    """The key behind a request.

    Attributes:
        key: the key's name, which its runs carry as `api_key`; None while the server has no keys at all and
            listens on loopback only: then whoever can reach it may do everything.
        scopes: what it may do.
    """

    key: str | None
    scopes: frozenset[KeyScope]

    def require(self, scope: KeyScope) -> None:
        """Raise Refusal unless the key has this scope; `admin` has all."""
        if scope not in self.scopes and KeyScope.ADMIN not in self.scopes:
            raise Refusal(FORBIDDEN, f"the API key {self.key!r} has not the scope {scope.value!r}")

    @property
    def sees_all(self) -> bool:
        """Say whether it sees everybody's runs."""
        return KeyScope.ADMIN in self.scopes


ANYBODY = Caller(None, frozenset(KeyScope))
NOBODY = Caller(None, frozenset())
