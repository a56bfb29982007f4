"""Errors as RFC 9457 problems: one table over the error tree, and the refusals that only a server has."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway import errors
from gateway.errors import GatewayError
from gateway.types import JSON

_log = logging.getLogger("gateway.server")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: its word in the `type`, its HTTP status, its title."""

    slug: str
    status: int
    title: str


KINDS: Mapping[type[GatewayError], Kind] = {
    errors.GatewayError: Kind("error", 500, "Something went wrong in the gateway"),
    errors.ConfigError: Kind("configuration", 500, "The gateway's configuration is wrong"),
    errors.SecretMissing: Kind("secret-missing", 500, "A secret of the gateway's configuration is not set"),
    errors.BudgetExceeded: Kind("budget-exceeded", 402, "A budget has not enough left"),
    errors.NoRate: Kind("no-rate", 409, "The price can't be told in the reporting currency"),
    errors.TaskError: Kind("task", 422, "The task can't be run as it stands"),
    errors.UnknownModel: Kind("unknown-model", 404, "There is no such model"),
    errors.UnknownBackend: Kind("unknown-backend", 404, "There is no such backend"),
    errors.IdempotencyConflict: Kind("idempotency-conflict", 422, "The idempotency key has another task"),
    errors.InvalidInput: Kind("invalid-input", 422, "The input can't be taken"),
    errors.NoBackend: Kind("no-backend", 503, "No backend can run this task now"),
    errors.RunError: Kind("run", 500, "Something went wrong with this run"),
    errors.RunNotFound: Kind("run-not-found", 404, "There is no such run"),
    errors.RunExists: Kind("run-exists", 409, "There is a run with this idempotency key"),
    errors.RunFailed: Kind("run-failed", 409, "The run has ended without success"),
    errors.RunTakenOver: Kind("run-taken-over", 503, "Another process works on this run now"),
    errors.WaitTimeout: Kind("wait-timeout", 504, "The waiting has ended, the run goes on"),
    errors.StoreError: Kind("store", 503, "The store does not take what must be written down"),
    errors.StoreTooNew: Kind("store-too-new", 503, "A newer program wrote the store"),
    errors.Unusable: Kind("closing", 503, "The server is closing, the run goes on"),
    errors.AdapterBroken: Kind("adapter-broken", 500, "An adapter is broken"),
    errors.NotSupported: Kind("not-supported", 409, "The backend has no such operation"),
    errors.BackendError: Kind("backend", 502, "The backend failed"),
    errors.Rejected: Kind("rejected", 422, "The backend refuses this"),
    errors.Unavailable: Kind("unavailable", 503, "The backend can't be reached"),
    errors.Throttled: Kind("throttled", 429, "The backend wants us to wait"),
    errors.InDoubt: Kind("in-doubt", 502, "Nobody knows whether the submission has landed"),
    errors.Misbehaved: Kind("misbehaved", 502, "The backend answered what it must not"),
}
"""The nearest class upwards counts. A test holds that each leaf of the tree has its place on purpose."""

NO_BACKEND_EVER = Kind("no-backend-can", 422, "No configured backend can run this task")
_PASSING_RULES = frozenset({"unhealthy", "breaker"})  # of gateway.policy.stages: another time it may work

BAD_REQUEST = Kind("bad-request", 400, "The request is wrong")
BAD_JSON = Kind("bad-json", 400, "The body is not JSON")
BAD_FIELDS = Kind("bad-fields", 400, "Fields of the request are wrong")
NO_KEY = Kind("no-key", 401, "An API key is needed")
FORBIDDEN = Kind("forbidden", 403, "The API key does not allow this")
CROSS_SITE = Kind("cross-site", 403, "Another site's page may not do this")
LOCAL_FILE = Kind("local-file", 422, "A file of the gateway's machine can't be used")
NO_ROUTE = Kind("no-route", 404, "There is nothing at this address")
NO_METHOD = Kind("no-method", 405, "This address does not take this method")
TOO_SLOW = Kind("too-slow", 408, "The request came too slowly")
IN_FLIGHT = Kind("in-flight", 409, "A request with this idempotency key is under way")
TOO_LARGE = Kind("too-large", 413, "The request is too large")
WRONG_TYPE = Kind("wrong-type", 415, "The body has the wrong type")
WRONG_HOST = Kind("wrong-host", 421, "The server does not answer for this host")
TOO_MANY = Kind("too-many", 429, "The API key's rate is used up")
DEFECT = Kind("defect", 500, "This is a defect of the gateway")
STOPPING = Kind("stopping", 503, "The server is shutting down")

REFUSALS = (
    NO_BACKEND_EVER,
    *(BAD_REQUEST, BAD_JSON, BAD_FIELDS, NO_KEY, FORBIDDEN, CROSS_SITE, LOCAL_FILE, NO_ROUTE, NO_METHOD),
    *(TOO_SLOW, IN_FLIGHT, TOO_LARGE, WRONG_TYPE, WRONG_HOST, TOO_MANY, DEFECT, STOPPING),
)


class Refusal(GatewayError):
    """The server itself refuses a request.

    Attributes:
        kind: which problem it is.
        more: further members of the problem.
        headers: to answer with.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        more: Mapping[str, JSON] | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.more = dict(more or {})
        self.headers = tuple(headers)


@dataclass(frozen=True, slots=True)
class Problem:
    """What an error tells over HTTP. Each face writes it in its own words; the native one as RFC 9457 has it.

    Attributes:
        kind: type, status and title.
        detail: one sentence for a person.
        more: further members.
        headers: to answer with.
    """

    kind: Kind
    detail: str
    more: Mapping[str, JSON]
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def make_body(self, instance: str) -> dict[str, JSON]:
        """Return the members of an RFC 9457 problem."""
        return {
            "type": f"/problems/{self.kind.slug}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": instance,
            **self.more,
        }


def find_kind(error: BaseException) -> Kind:
    """Return the kind of an error: that of the nearest class upwards."""
    if isinstance(error, errors.NoBackend):
        rules = {rule for _, rule, _ in error.removed}
        if not _PASSING_RULES & rules:
            return KINDS[errors.BudgetExceeded] if "budget" in rules else NO_BACKEND_EVER
    for cls in type(error).__mro__:
        if cls in KINDS:
            return KINDS[cls]
    return DEFECT


def make_problem(error: GatewayError) -> Problem:
    """Return what an error tells over HTTP."""
    if isinstance(error, Refusal):
        return Problem(error.kind, str(error), error.more, error.headers)
    more: dict[str, JSON] = {"cost_outcome": error.cost_outcome.value}
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, errors.RunError) and error.run_id:
        more["run_id"] = error.run_id
    if isinstance(error, errors.NoBackend):
        more["reasons"] = [
            {"backend": backend, "rule": rule, "reason": why} for backend, rule, why in error.removed
        ]
    if isinstance(error, errors.BackendError):
        more |= {"backend": error.backend, "code": error.code}
        if error.retry_after is not None:
            seconds = max(0, round(error.retry_after.total_seconds()))
            headers.append((b"retry-after", str(seconds).encode()))
    if isinstance(error, errors.StoreError):  # it says where the store is: that is for the log
        _log.error("a request failed: %s", error)
        return Problem(find_kind(error), "the store can't be used now; the server's log says why", more)
    return Problem(find_kind(error), str(error), more, tuple(headers))


def refuse_fields(found: Sequence[Mapping[str, Any]], place: str) -> Refusal:
    """Return the refusal of a request whose fields are wrong, from pydantic's list of errors."""
    fields = [
        {"field": ".".join(str(part) for part in one["loc"]), "reason": _clean(str(one["msg"]))}
        for one in found
    ]
    told = "; ".join(f"{one['field'] or place}: {one['reason']}" for one in fields[:5])
    return Refusal(BAD_FIELDS, f"{place}: {told}", more={"fields": fields})


def _clean(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"
