"""What an HTTP backend said, and what a status means in the gateway's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from pydantic_core import PydanticSerializationError, from_json, to_json

from gateway.errors import BackendError, InDoubt, InvalidInput, Rejected, Throttled, Unavailable
from gateway.types import JSON


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_json(self) -> bool:
        """Say whether the answer claims to be JSON (application/json, or anything +json)."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind == "application/json" or kind.endswith("+json")


def parse_json(body: bytes | str) -> JSON:
    """Read JSON as lenient as Python's own: bare NaN and Infinity, integers of any size.

    Raises:
        ValueError: if it is not JSON.
    """
    return from_json(body)


def encode_json(value: JSON) -> bytes:
    """Write JSON. Raises InvalidInput for what JSON can't hold."""
    try:
        return to_json(value, inf_nan_mode="constants")
    except PydanticSerializationError as error:
        raise InvalidInput(f"this is not JSON: {error}") from error


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> timedelta | None:
    """Read a Retry-After header: seconds or an HTTP date. None if there is none or it can't be read."""
    if value is None:
        return None
    try:
        return timedelta(seconds=max(0.0, float(value)))
    except (ValueError, OverflowError):
        pass
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(timedelta(0), at - (now or datetime.now(UTC)))


def make_status_error(
    answer: Answer,
    what: str,
    *,
    backend: str,
    lands: bool,
    message: str | None = None,
    code: str | None = None,
    detail: JSON = None,
    job_id: str | None = None,
) -> BackendError:
    """Make the error for an answer whose status is not 2xx.

    429 is Throttled; 408, 425 and 503 are Unavailable; other 4xx (and 3xx) Rejected; other 5xx are InDoubt
    where the request may have had an effect and Unavailable where not.
    """
    kind: type[BackendError]
    if answer.status == 429:
        kind = Throttled
    elif answer.status in (408, 425, 503) or (answer.status >= 500 and not lands):
        kind = Unavailable
    elif answer.status >= 500:
        kind = InDoubt
    else:
        kind = Rejected
    return kind(
        message or f"{what}: HTTP {answer.status}",
        backend=backend,
        http_status=answer.status,
        retry_after=parse_retry_after(answer.headers.get("retry-after")),
        code=code,
        detail=detail,
        job_id=job_id,
    )
