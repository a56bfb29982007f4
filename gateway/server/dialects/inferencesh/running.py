"""Running an app: the model of its name, with the words that only some backends know laid over its target."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from contextlib import aclosing

from pydantic import ValidationError

from gateway.catalogue import Model
from gateway.lifecycle import AttemptStatus
from gateway.server.bodies import WebhookBody
from gateway.server.dialects.inferencesh.files import replace_uris
from gateway.server.dialects.inferencesh.sessions import find_sessions
from gateway.server.dialects.inferencesh.tasks import view_result, view_task
from gateway.server.dialects.inferencesh.words import INVALID, NOT_FOUND, REQUIREMENTS, answer
from gateway.server.events import read_events
from gateway.server.problems import Kind, Refusal
from gateway.server.runs import wait_for
from gateway.server.tapes import Place
from gateway.server.wire import Answer, Request
from gateway.task import Run, Task
from gateway.types import JSON

TAKEN_SECONDS = 10.0
"""How long a run's answer waits for a backend to take the job: what it refuses is then told at once."""

_WORDS = ("function", "session", "session_timeout", "setup", "infra", "workers", "run_at")
_REF = re.compile(r"(?:app/)?(?P<path>[^@:]+)(?P<version>@[^:]+)?(?::(?P<function>.+))?")


async def run_app(request: Request) -> Answer:
    """Take a task in; the slim task is answered once a backend has it, or after a while."""
    return answer(request, view_result(await _run(request)))


async def run_and_wait(request: Request) -> Answer:
    """Take a task in and answer with the whole task when it has ended, unless told not to wait."""
    run = await _run(request)
    if request.query.get("wait", ["true"])[-1].lower() not in ("false", "0"):
        run = await wait_for(request, run, math.inf)
    return answer(request, view_task(run))


async def _run(request: Request) -> Run:
    body = await request.read_json()
    if not isinstance(body, dict):
        raise Refusal(INVALID, "the body must be a JSON object")
    webhook = _read_webhook(body.get("webhook"))
    if webhook is not None:
        request.service.webhooks.check(webhook.url)
    model, words = _find_model(request, body)
    task = Task(
        model=model.name,
        input=await replace_uris(request, body.get("input")),
        target=words or None,
        stream=body.get("stream") is True,
        labels=_read_labels(body.get("metadata")),
    )
    backend = await _choose_backend(request, model, words) if words else "auto"
    service = request.service
    run = await service.submit(request.caller, task, backend)
    if webhook is not None:
        await service.webhooks.note(run, webhook.url)
    service.tapes.begin(run.id, service.find_gateway(run.id))
    return _require_taken(await _wait_until_taken(request, run))


def _read_webhook(url: JSON) -> WebhookBody | None:
    if url is None:
        return None
    try:
        return WebhookBody.model_validate({"url": url})
    except ValidationError:
        raise Refusal(INVALID, "webhook must be a web address") from None


def _read_labels(metadata: JSON) -> dict[str, str]:
    if not isinstance(metadata, dict):
        return {}
    return {name: text for name, text in metadata.items() if isinstance(text, str)}


def _find_model(request: Request, body: Mapping[str, JSON]) -> tuple[Model, dict[str, JSON]]:
    """Return the model that an app is, and the words for its backend. Raises Refusal."""
    ref = body.get("app") or body.get("app_id")
    match = _REF.fullmatch(ref) if isinstance(ref, str) else None
    if match is None:
        raise Refusal(INVALID, 'app must be "namespace/name", with @version and :function as wanted')
    words = {name: body[name] for name in _WORDS if body.get(name) is not None}
    path, version = match["path"], match["version"] or ""
    function = words.pop("function", None) or match["function"]
    names = [path + version, path, path.rpartition("/")[2]]
    whole = [f"{name}:{function}" for name in names] if function else []
    models = request.service.gateway.models
    for name in (*whole, *names):
        if name in models:
            return models[name], words if not function or name in whole else {**words, "function": function}
    raise Refusal(NOT_FOUND, f"the app {ref!r} is no model here; known: {', '.join(sorted(models))[:500]}")


async def _choose_backend(request: Request, model: Model, words: Mapping[str, JSON]) -> tuple[str, ...]:
    """Return the backend that knows these words, or has the session. Raises Refusal."""
    gateway = request.service.gateway
    session = words.get("session")
    if session is not None and session != "new":
        known = await find_sessions(request)
        if session not in known:
            raise Refusal(
                Kind("SESSION_NOT_FOUND", 404, "No such session"), f"there is no session {session!r}"
            )
        return (known[str(session)],)
    for backend in model.targets:
        if words.keys() <= gateway.adapters[backend].target_type.model_fields.keys():
            return (backend,)
    raise Refusal(INVALID, f"no backend of {model.name!r} takes {', '.join(sorted(words))}")


async def _wait_until_taken(request: Request, run: Run) -> Run:
    """Return the run once a backend has its job, or it has ended, or the time is over."""
    try:
        async with (
            asyncio.timeout(TAKEN_SECONDS),
            aclosing(read_events(request.service, run.id, Place(0))) as events,  # type: ignore[type-var]
        ):
            async for _, event in events:
                if event.kind in ("snapshot", "piece", "end"):
                    break
                if event.kind == "attempt" and event.message == AttemptStatus.SUBMITTED.value:
                    break
    except TimeoutError:
        return run
    return await request.service.get_run(request.caller, run.id)


def _require_taken(run: Run) -> Run:
    """Return a run that some backend has taken. Raises Refusal in the backend's words."""
    failure = run.failure
    if failure is None or not failure.http_status or any(attempt.handle for attempt in run.attempts):
        return run
    more: dict[str, JSON] = {"run_id": run.id, "cost_outcome": run.cost_outcome.value}
    if failure.http_status == REQUIREMENTS.status:
        raise Refusal(REQUIREMENTS, failure.message, more={"errors": failure.detail, **more})
    if isinstance(failure.detail, dict):
        more = {**failure.detail, **more}
    kind = Kind(failure.code or failure.kind.value, failure.http_status, "The backend refuses this")
    raise Refusal(kind, failure.message, more=more)
