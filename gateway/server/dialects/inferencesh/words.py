"""How answers and errors are written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gateway.server import problems
from gateway.server.problems import Kind, Problem
from gateway.server.wire import Request, Response, answer_json, encode
from gateway.types import JSON

PREFIX = "/inferencesh"
REQUIREMENTS = Kind("requirements_not_met", 412, "Something is to be set up first")
NOT_FOUND = Kind("not_found", 404, "There is no such thing")
CONFLICT = Kind("invalid_transition", 409, "The task has ended")
INVALID = Kind("validation_error", 400, "The request is wrong")

_ERRORS = "https://api.inference.sh/errors/"
_CODES: Mapping[str, tuple[str, int]] = {
    problems.NO_KEY.slug: ("unauthorized", 401),
    problems.FORBIDDEN.slug: ("insufficient_scope", 403),
    problems.NO_ROUTE.slug: ("not_found", 404),
    problems.BAD_JSON.slug: ("invalid_request", 400),
    problems.BAD_REQUEST.slug: ("invalid_request", 400),
    problems.BAD_FIELDS.slug: ("validation_error", 400),
    problems.LOCAL_FILE.slug: ("validation_error", 400),
    problems.TOO_MANY.slug: ("rate_limited", 429),
    "throttled": ("rate_limited", 429),
    "unknown-model": ("not_found", 404),
    "run-not-found": ("not_found", 404),
    "invalid-input": ("validation_error", 400),
    "budget-exceeded": ("limit_exceeded", 402),
    "no-backend": ("app_maintenance", 503),
    "defect": ("internal_error", 500),
}
"""The API's codes for our kinds of problems; others keep their own word."""


def answer(request: Request, data: JSON, status: int = 200) -> Response:
    """Answer with data: bare in the API's second version, else in an envelope for older and newer clients."""
    if request.get_header(b"x-api-version") == "2":
        return answer_json(data, status)
    return answer_json({"success": True, "status": status, "data": data, "messages": []}, status)


def tell(problem: Problem, _: str) -> Response:
    """Write a problem: RFC 9457 with the API's code, and beside it what its first version's clients read."""
    more: dict[str, Any] = dict(problem.more)
    code, status = _CODES.get(problem.kind.slug, (problem.kind.slug.replace("-", "_"), problem.kind.status))
    if problem.kind is REQUIREMENTS:
        return answer_json({"satisfied": False, "errors": more.get("errors", [])}, status)
    body = {
        "type": _ERRORS + code,
        "title": problem.kind.title,
        "status": status,
        "detail": problem.detail,
        "success": False,
        "error": {"code": code, "message": problem.detail},
        **({"meta": more} if more else {}),
    }
    headers = ((b"content-type", b"application/problem+json"), *problem.headers)
    return Response(status, encode(body), headers)


def write_time(at: datetime | None) -> str | None:
    """Write a time as the API does."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")
