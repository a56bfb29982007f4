"""How answers and problems are written: three generations of envelopes, and RFC 9457 problems.

Which generation an answer has: V2 whenever the request says `X-API-Version: 2`; otherwise the one that the
server was made with. V1 is `{success, status, data}`, V2 the bare object, V3 `{data, messages}`. Sources
differ on whether today's answer without a version header is V3 or V3 with V1's keys beside it, so that
superset can be chosen too: a client that takes `data` reads both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus

from aiohttp import web

from gateway.types import JSON

ERROR_TYPES = "https://api.inference.sh/errors/"


class Envelope(StrEnum):
    """A generation of answers."""

    V1 = "v1"
    V2 = "v2"
    V3 = "v3"
    SUPERSET = "superset"


DEFAULT_ENVELOPE = web.AppKey("default_envelope", Envelope)


class Problem(Exception):
    """An answer that is not a success. `code` is one of the API's, upper case for those of sessions."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        meta: Mapping[str, JSON] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.meta = dict(meta or {})
        self.headers = dict(headers or {})

    def encode(self, envelope: Envelope) -> JSON:
        """Return the body: V1's error object, or problem+json whose `type` ends in the code."""
        meta = {"meta": self.meta} if self.meta else {}
        if envelope is Envelope.V1:
            error = {"code": self.code, "message": self.detail, **meta}
            return {"success": False, "status": self.status, "error": error}
        return {
            "type": ERROR_TYPES + self.code,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **meta,
        }


class RequirementsNotMet(Problem):
    """412: what the caller has to set up before the app can run. Never wrapped in an envelope."""

    def __init__(self, errors: Sequence[JSON]) -> None:
        super().__init__(412, "requirements_not_met", "requirements not met")
        self.errors = list(errors)

    def encode(self, envelope: Envelope) -> JSON:  # noqa: ARG002 - the same in every generation
        """Return `{satisfied, errors}`."""
        return {"satisfied": False, "errors": self.errors}


def choose_envelope(request: web.BaseRequest, default: Envelope) -> Envelope:
    """Say which generation answers this request."""
    return Envelope.V2 if request.headers.get("X-API-Version") == "2" else default


def make_answer(
    request: web.Request,
    data: JSON,
    *,
    status: int = 200,
    messages: Sequence[JSON] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Wrap `data` as this request wants it. `messages`, `{level, code, message}` each, go with V3 only."""
    envelope = choose_envelope(request, request.app[DEFAULT_ENVELOPE])
    body: JSON = data
    if envelope is Envelope.V1:
        body = {"success": True, "status": status, "data": data}
    elif envelope is Envelope.V3:
        body = {"data": data, "messages": list(messages)}
    elif envelope is Envelope.SUPERSET:
        body = {"success": True, "status": status, "data": data, "messages": list(messages)}
    return web.json_response(body, status=status, headers=headers)


def make_problem_answer(problem: Problem, envelope: Envelope) -> web.Response:
    """Write a problem: `application/problem+json`, but plain JSON in V1 and for missing requirements."""
    plain = envelope is Envelope.V1 or isinstance(problem, RequirementsNotMet)
    return web.json_response(
        problem.encode(envelope),
        status=problem.status,
        headers=problem.headers,
        content_type="application/json" if plain else "application/problem+json",
    )


async def read_object(request: web.Request) -> dict[str, JSON]:
    """Read the body, which has to be a JSON object; no body at all counts as an empty one.

    Raises Problem 400.
    """
    text = await request.text()
    if not text.strip():
        return {}
    try:
        body = json.loads(text)
    except ValueError as error:
        raise Problem(400, "invalid_request", f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Problem(400, "invalid_request", "the body has to be a JSON object")
    return body
