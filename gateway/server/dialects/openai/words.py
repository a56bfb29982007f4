"""What the operations share: errors, the model that is asked for, and the gateway's own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, ValidationError

from gateway.catalogue import Model, Shape
from gateway.config import LimitsConfig, Strict
from gateway.errors import InvalidInput
from gateway.limits import Limits
from gateway.server.problems import BAD_REQUEST, NO_KEY, TOO_MANY, Kind, Problem, Refusal, refuse_fields
from gateway.server.wire import Header, Request, Response, answer_json
from gateway.task import FailureKind, Run
from gateway.types import JSON

NO_MODEL = Kind("model_not_found", 404, "There is no such model")
RUN_FAILED = Kind("run_failed", 502, "The run has failed")
RUN_REFUSED = Kind("run_refused", 400, "The backend refuses this")
RUN_OPEN = Kind("run_open", 504, "The run goes on")
DONT_RETRY: Header = (b"x-should-retry", b"false")
"""The SDK obeys: what a backend has taken is never sent again because of an HTTP status."""

_CODES = {NO_KEY: "invalid_api_key", TOO_MANY: "rate_limit_exceeded"}
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}
_TYPES |= {402: "insufficient_quota", 404: "invalid_request_error", 422: "invalid_request_error"}
_TYPES |= {429: "rate_limit_error"}


class _OwnWords(Strict):
    """A request's `gateway`."""

    backend: str | tuple[str, ...] = "auto"
    limits: LimitsConfig = LimitsConfig()
    labels: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Own:
    """What a request says to the gateway itself."""

    backend: str | tuple[str, ...] = "auto"
    limits: Limits = field(default_factory=Limits)
    labels: Mapping[str, str] = field(default_factory=dict)


_NOTHING = Own()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read: the model with its shape for the operation, the body without our words."""

    model: Model
    shape: Shape
    body: Mapping[str, JSON]
    own: Own


async def read_asked(request: Request, operation: str) -> Asked:
    """Read a request for an operation. Raises Refusal."""
    body = await request.read_json()
    if not isinstance(body, dict):
        raise Refusal(BAD_REQUEST, "the body must be a JSON object")
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise Refusal(BAD_REQUEST, "model must be the name of a model", more={"param": "model"})
    model = find_model(request, name)
    shape = model.shapes.get(operation)
    if shape is None:
        raise Refusal(
            NO_MODEL, f"the model {name!r} has no models.{name}.openai.{operation}", more={"param": "model"}
        )
    own = _read_own(body.pop("gateway")) if "gateway" in body else _NOTHING
    return Asked(model, shape, body, own)


def find_model(request: Request, name: str) -> Model:
    """Return a model that speaks this API. Raises Refusal."""
    model = request.service.gateway.models.get(name)
    if model is None or not model.shapes:
        raise Refusal(NO_MODEL, f"the model {name[:100]!r} does not exist here", more={"param": "model"})
    return model


def _read_own(words: JSON) -> Own:
    try:
        read = _OwnWords.model_validate(words)
        return Own(read.backend, read.limits.make_limits(), read.labels)
    except ValidationError as error:
        raise refuse_fields(error.errors(include_url=False, include_input=False), "gateway") from None


def read_count(body: Mapping[str, JSON], name: str) -> int | None:
    """Return a positive number of the body, or None. Raises Refusal."""
    value = body.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise Refusal(BAD_REQUEST, f"{name} must be a positive number", more={"param": name})


def read_flag(body: Mapping[str, JSON], name: str) -> bool:
    """Return a flag of the body. Raises Refusal."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refusal(BAD_REQUEST, f"{name} must be true or false", more={"param": name})
    return bool(value)


def read_usage(run: Run, asked: Asked) -> JSON:
    """Return what was used; None if that is not known."""
    try:
        return asked.shape.usage.apply(run.output) if asked.shape.usage is not None else None
    except InvalidInput:  # an answer is not lost because its usage is not told
        return None


def refuse_failed(run: Run) -> Refusal:
    """Return what a run that has ended without success answers: never to be sent again as it is."""
    failure = run.failure
    kind = RUN_REFUSED if failure and failure.kind is FailureKind.REJECTED else RUN_FAILED
    message = failure.message if failure else f"the run has ended {run.status.name}"
    more: dict[str, JSON] = {"run_id": run.id, "cost_outcome": run.cost_outcome.value}
    return Refusal(kind, message, more=more, headers=(DONT_RETRY, make_run_header(run)))


def refuse_open(run: Run) -> Refusal:
    """Return what is answered when the waiting is over before the run is: sent again, it waits on."""
    message = f"run {run.id} goes on; the same request with x-stainless-retry-count: 1 waits on"
    return Refusal(RUN_OPEN, message, more={"run_id": run.id}, headers=(make_run_header(run),))


def make_run_header(run: Run) -> Header:
    """Return the header that names the run."""
    return (b"x-run-id", run.id.encode())


def tell_error(problem: Problem) -> dict[str, JSON]:
    """Return a problem as OpenAI's error object."""
    more = dict(problem.more)
    code: Any = _CODES.get(problem.kind, problem.kind.slug)
    error: dict[str, JSON] = {
        "message": problem.detail,
        "type": _TYPES.get(problem.kind.status, "server_error"),
        "param": more.pop("param", None),
        "code": code,
    }
    return {"error": error | ({"gateway": more} if more else {})}


def tell(problem: Problem, _: str) -> Response:
    """Write a problem as OpenAI's API writes errors."""
    return answer_json(tell_error(problem), problem.kind.status, problem.headers)
