"""The errors that are this backend's own, beside those of the seam.

    Rejected
    ├── KeyRefused              401: the API key is missing, wrong or withdrawn
    ├── InsufficientScope       403: the key may not do this; `required_scope` says what it lacks
    ├── PaymentRequired         402: balance, payment method or a plan's limit
    ├── RequirementsNotMet      412: `missing` lists what is to be set up
    └── SessionError            about a session
        ├── SessionNotFound     404
        ├── SessionExpired      410: nobody called for too long
        ├── SessionEnded        410
        ├── SessionMismatch     409: it belongs to another app or version
        └── WorkerLeased        409: another session has the worker

Each carries `job_id`, `code`, `http_status`, `retry_after` and, in `detail`, what else the backend said.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from gateway.errors import BackendError, InDoubt, Misbehaved, Rejected, Throttled, Unavailable
from gateway.http import Answer, parse_retry_after
from gateway.types import JSON
from gateway_inferencesh.wire import (
    Missing,
    Problem,
    encode_missing,
    parse_http_date,
    parse_missing,
    parse_problem,
)


class KeyRefused(Rejected):
    """The API key is refused."""


class InsufficientScope(Rejected):
    """The API key may not do this."""

    @property
    def required_scope(self) -> str | None:
        """Return the scope that the key lacks, if the backend named it."""
        scope = self.detail.get("required_scope") if isinstance(self.detail, dict) else None
        return scope if isinstance(scope, str) else None


class PaymentRequired(Rejected):
    """The balance, the payment method or the plan does not allow it; `detail` has the figures."""


class RequirementsNotMet(Rejected):
    """Something is to be set up before the app can run."""

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Return each missing item."""
        return tuple(map(parse_missing, self.detail)) if isinstance(self.detail, list) else ()


class SessionError(Rejected):
    """A session can't be used."""


class SessionNotFound(SessionError):
    """There is no such session."""


class SessionExpired(SessionError):
    """Nobody called for longer than its idle time."""


class SessionEnded(SessionError):
    """It was ended."""


class SessionMismatch(SessionError):
    """It belongs to another app, or to another version of it."""


class WorkerLeased(SessionError):
    """The worker belongs to another session now."""


_BY_CODE: Mapping[str, type[Rejected]] = {
    "SESSION_NOT_FOUND": SessionNotFound,
    "SESSION_EXPIRED": SessionExpired,
    "SESSION_ENDED": SessionEnded,
    "WORKER_LEASED": WorkerLeased,
    "APP_MISMATCH": SessionMismatch,
    "VERSION_MISMATCH": SessionMismatch,
    "insufficient_scope": InsufficientScope,
    "requirements_not_met": RequirementsNotMet,
}
_BY_STATUS: Mapping[int, type[Rejected]] = {
    401: KeyRefused,
    402: PaymentRequired,
    412: RequirementsNotMet,
}


def make_error(
    answer: Answer,
    what: str,
    *,
    backend: str,
    lands: bool,
    job_id: str | None = None,
    problem: Problem | None = None,
) -> BackendError:
    """Make the error for an answer that is no success.

    429 is Throttled, 503 Unavailable, another 4xx or 3xx Rejected. The other 5xx, and 408, don't say whether
    the request had its effect: InDoubt if it `lands`, else Unavailable. So is a 2xx whose V1 body says
    failure without a status.
    """
    problem = problem or parse_problem(answer)
    status = answer.status if answer.status >= 300 else problem.status or 0
    message = problem.message or f"HTTP {status or answer.status}"
    detail: JSON = [encode_missing(item) for item in problem.missing] or dict(problem.meta) or None
    return _choose(status, problem.code, lands=lands)(
        f"{what}: {message}" + (f" ({problem.code})" if problem.code else ""),
        backend=backend,
        job_id=job_id,
        code=problem.code or None,
        http_status=answer.status,
        retry_after=read_retry_after(answer),
        detail=detail,
    )


def _choose(status: int, code: str, *, lands: bool) -> type[BackendError]:
    if status == 429:
        return Throttled
    if status == 503:
        return Unavailable
    if status == 408 or status >= 500 or status < 300:
        return InDoubt if lands else Misbehaved if status < 300 else Unavailable
    return _BY_CODE.get(code) or _BY_STATUS.get(status, Rejected)


def read_retry_after(answer: Answer) -> timedelta | None:
    """Read how long to wait: Retry-After as seconds or date, of a 429 also X-RateLimit-Reset (epoch).

    Times are taken against the server's own clock, its Date header, where it sends one.
    """
    now = parse_http_date(answer.headers.get("date")) or datetime.now(UTC)
    wait = parse_retry_after(answer.headers.get("retry-after"), now=now)
    if wait is not None or answer.status != 429:
        return wait
    try:
        reset_at = datetime.fromtimestamp(float(answer.headers.get("x-ratelimit-reset", "")), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return max(timedelta(0), reset_at - now)
