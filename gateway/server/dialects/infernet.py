"""The REST API of an Infernet node, and the router's two lists: each model of the catalogue is a container.

What stands here is how nodes 1.4.0 answer, as measured, with these differences: what is malformed is a 400
that names the field (nodes say 500 and name none); a job sent again under its own id is the same run (nodes
run it again); a job is seen by the API key that sent it (nodes go by the address); a stream has no end after
60 seconds, and a model that no backend streams sends its whole output at the end. A chain of containers is
the model whose name is theirs joined by commas. The protocol has no place for a key: it comes in the URL
(`http://any:KEY@host/infernet`), or in the native API's headers.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from gateway.errors import GatewayError, IdempotencyConflict, NoBackend, RunNotFound
from gateway.lifecycle import Phase, Status
from gateway.limits import Limits
from gateway.server.callers import KeyScope
from gateway.server.dialects.pieces import read_pieces
from gateway.server.problems import BAD_REQUEST, Kind, Problem, Refusal, make_problem
from gateway.server.routes import Face, Route
from gateway.server.routes import read_key as read_native_key
from gateway.server.views import join_key, split_key
from gateway.server.wire import Answer, AsgiScope, Request, Response, Stream, answer_json, encode, find_header
from gateway.store.protocol import RunFilter
from gateway.task import Run, Task
from gateway.types import JSON

VERSION = "1.4.0"
"""Of the node whose protocol this is."""
PREFIX = "/infernet"

_OWN_ID = "infernet:"
_LISTED = 1000
_REFUSED = Kind("container-refused", 405, "The container can't be used")


async def get_health(_: Request) -> Answer:
    """Say that the server is there."""
    return answer_json({"status": "healthy"})


async def get_info(request: Request) -> Answer:
    """Describe the gateway as a node: its models as containers."""
    running = [1 async for _ in _iterate_runs(request, phase=Phase.RUNNING)]
    containers = [
        {"id": name, "description": model.description or "", "external": True, "image": ""}
        for name, model in request.service.gateway.models.items()
    ]
    return answer_json(
        {
            "chain": {"address": "", "enabled": False},
            "containers": containers,
            "pending": {"offchain": len(running), "onchain": 0},
            "version": VERSION,
        }
    )


async def get_resources(request: Request) -> Answer:
    """Describe what each container supports: the model of its own name."""
    wanted = request.query.get("model_id", [""])[-1]
    names = request.service.gateway.models
    if wanted:
        return answer_json({name: {"supported": name == wanted} for name in names})
    return answer_json(
        {name: {"compute_capability": [{"id": "ml", "cached_models": [name]}]} for name in names}
    )


async def create_job(request: Request) -> Answer:
    """Take one job in."""
    run = await _submit(request, await request.read_json())
    return answer_json({"id": _get_job_id(run)})


async def create_jobs(request: Request) -> Answer:
    """Take many in; each is accepted or refused by itself, in order. One malformed refuses them all."""
    body = await request.read_json()
    if not isinstance(body, list):
        raise Refusal(BAD_REQUEST, "Expected a list")
    tasks = [_parse_job(item, f"item {place}: ") for place, item in enumerate(body)]
    return answer_json(await asyncio.gather(*(_submit_or_tell(request, *task) for task in tasks)))


async def create_stream(request: Request) -> Answer:
    """Take one job in and send its id, a newline, and its output's bytes as they come.

    As with nodes, a failure ends the stream early and is told only by GET /api/jobs.
    """
    task, own_id = _parse_job(await request.read_json())
    try:
        run = await _submit_task(request, _with_stream(task), own_id)
    except (NoBackend, IdempotencyConflict):  # or the id's run is of a model that nobody streams
        run = await _submit_task(request, task, own_id)
    return Stream(_stream_run(request, run), headers=((b"content-type", b"application/octet-stream"),))


async def get_jobs(request: Request) -> Answer:
    """Show the jobs of the ids that are asked for, those that are unknown left out; or list the ids."""
    ids = request.query.get("id")
    if ids is None:
        wanted = {"true": Phase.RUNNING, "false": None}
        pending = request.query.get("pending", [""])[-1]
        listed = _iterate_runs(request, phase=wanted.get(pending))
        return answer_json(
            [_get_job_id(run) async for run in listed if pending != "false" or run.status.is_final]
        )
    found = await asyncio.gather(*(_find_run(request, job_id) for job_id in ids))
    runs = sorted((run for run in found if run is not None), key=lambda run: not run.status.is_final)
    intermediate = request.query.get("intermediate", [""])[-1] == "true"
    return answer_json([_view_job(run, intermediate=intermediate) for run in runs])


async def list_nodes(request: Request) -> Answer:
    """Answer as the router: the one node that runs containers of ours is this server."""
    wanted = request.query.get("container", [])
    start, count = (_read_number(request, name, default) for name, default in (("offset", 0), ("n", 3)))
    known = request.service.gateway.models
    nodes = [find_header(request.scope, b"host") or ""] if all(name in known for name in wanted) else []
    return answer_json(nodes[start : start + count])


async def list_containers(request: Request) -> Answer:
    """Answer as the router: each container, and on how many nodes it is."""
    models = request.service.gateway.models
    return answer_json(
        [{"id": name, "count": 1, "description": model.description or ""} for name, model in models.items()]
    )


def _read_number(request: Request, name: str, default: int) -> int:
    text = request.query.get(name, [str(default)])[-1]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal(BAD_REQUEST, f"{name} must be a number, not {text[:40]!r}")
    return int(text)


def _parse_job(body: JSON, where: str = "") -> tuple[Task, str | None]:
    """Read a job as its task, and the id that its sender gave it. Raises Refusal."""
    if not isinstance(body, dict):
        raise Refusal(BAD_REQUEST, f"{where}a job is a JSON object")
    if "subscription" in body:
        raise Refusal(_REFUSED, "Chain not enabled")
    containers, data, proof, own_id = (body.get(n) for n in ("containers", "data", "requires_proof", "id"))
    if not (isinstance(containers, list) and all(isinstance(name, str) for name in containers)):
        raise Refusal(BAD_REQUEST, f"{where}containers must be a list of strings")
    if not isinstance(data, dict):
        raise Refusal(BAD_REQUEST, f"{where}data must be an object")
    if proof is not None and not isinstance(proof, bool):
        raise Refusal(BAD_REQUEST, f"{where}requires_proof must be true or false")
    if own_id is not None and not (isinstance(own_id, str) and 0 < len(own_id) <= 200 and "\0" not in own_id):
        raise Refusal(BAD_REQUEST, f"{where}id must be a string of 1 to 200 characters, and no NUL")
    limits = Limits(require=("proof",)) if proof else Limits()
    return Task(model=",".join(containers), input=data, limits=limits), own_id


def _with_stream(task: Task) -> Task:
    return Task(model=task.model, input=task.input, limits=task.limits, stream=True)


async def _submit(request: Request, body: JSON) -> Run:
    return await _submit_task(request, *_parse_job(body))


async def _submit_task(request: Request, task: Task, own_id: str | None) -> Run:
    """Give a job to the gateway. Raises Refusal as a node's guardian does, and as Service.submit."""
    if not task.model:
        raise Refusal(_REFUSED, "No containers specified", more={"params": {}})
    if task.model not in request.service.gateway.models:
        raise Refusal(
            _REFUSED, "Container not supported", more={"params": {"container": _find_unknown(request, task)}}
        )
    key = None if own_id is None else join_key(request.caller.key, _OWN_ID + own_id)
    return await request.service.submit(request.caller, task, key=key)


def _find_unknown(request: Request, task: Task) -> str:
    """Return the first container that is no model; a chain that is none as a whole is named as one."""
    names = (task.model or "").split(",")
    return next((name for name in names if name not in request.service.gateway.models), ",".join(names))


async def _submit_or_tell(request: Request, task: Task, own_id: str | None) -> JSON:
    try:
        return {"id": _get_job_id(await _submit_task(request, task, own_id))}
    except GatewayError as error:
        return _describe(make_problem(error))


async def _stream_run(request: Request, run: Run) -> AsyncIterator[bytes]:
    yield f"{_get_job_id(run)}\n".encode()
    has_spoken = False
    async with aclosing(read_pieces(request.service, run.id)) as pieces:
        async for some in pieces:
            if some:
                has_spoken = True
                yield b"".join(piece if isinstance(piece, bytes) else _encode_text(piece) for piece in some)
    if not has_spoken:
        ended = await request.service.get_run(request.caller, run.id)
        if ended.status is Status.COMPLETED:
            yield _encode_text(ended.output)


def _encode_text(said: JSON) -> bytes:
    """Return output as its bytes: text as it is, also as services wrap it, and everything else as JSON."""
    if isinstance(said, dict) and said.keys() == {"output"}:
        said = said["output"]
    return said.encode() if isinstance(said, str) else encode(said)


def _get_job_id(run: Run) -> str:
    key = split_key(run) or ""
    return key.removeprefix(_OWN_ID) if key.startswith(_OWN_ID) else str(run.id)


async def _find_run(request: Request, job_id: str) -> Run | None:
    service, caller = request.service, request.caller
    key = join_key(caller.key, _OWN_ID + job_id)
    for run in await service.gateway.list_runs(RunFilter(idempotency_key=key, limit=1)):
        return run
    try:
        return await service.get_run(caller, job_id)
    except RunNotFound:
        return None


def _iterate_runs(request: Request, *, phase: Phase | None) -> AsyncIterator[Run]:
    """Yield the caller's newest runs; a protocol without pages has to end somewhere."""
    whose = request.caller.key
    return request.service.iterate_runs(RunFilter(phase=phase, api_key=whose, limit=_LISTED))


def _view_job(run: Run, *, intermediate: bool) -> dict[str, JSON]:
    """Return a run as a node shows a job."""
    container = (run.task.model or "").rpartition(",")[2]
    result: dict[str, JSON] | None = None
    if run.status.is_final:
        result = {"container": container}
        if run.status is Status.COMPLETED:
            result["output"] = run.output
        else:
            result["error"] = run.failure.message if run.failure else run.status.name
    job: dict[str, JSON] = {"id": _get_job_id(run), "result": result, "status": run.status.phase.value}
    if intermediate:
        snapshot = run.attempt.snapshot if run.attempt else None
        job["intermediate_results"] = snapshot.detail.get("intermediate_results", []) if snapshot else []
    return job


def _describe(problem: Problem) -> dict[str, JSON]:
    more = dict(problem.more)
    params: Any = more.pop("params", more)
    return {"error": problem.detail, "params": params}


def tell(problem: Problem, _: str) -> Response:
    """Write a problem as a node writes a refusal: `{"error": ..., "params": {...}}`."""
    return answer_json(_describe(problem), problem.kind.status, problem.headers)


def read_key(scope: AsgiScope) -> str | None:
    """Return the API key: the password of the URL (HTTP Basic), or as in the native API."""
    text = find_header(scope, b"authorization") or ""
    if text[:6].lower() != "basic ":
        return read_native_key(scope)
    try:
        words = base64.b64decode(text[6:].strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return words.partition(":")[2] or words.partition(":")[0]


def make_face() -> Face:
    """Return the face of an Infernet node."""
    table: Mapping[str, tuple[Route, ...]] = {
        "": (
            Route("GET", "/health", get_health, None),
            Route("GET", "/info", get_info, KeyScope.READ),
            Route("GET", "/resources", get_resources, KeyScope.READ),
        ),
        "/api": (
            Route("GET", "/jobs", get_jobs, KeyScope.READ),
            Route("POST", "/jobs", create_job, KeyScope.RUN),
            Route("POST", "/jobs/batch", create_jobs, KeyScope.RUN),
            Route("POST", "/jobs/stream", create_stream, KeyScope.RUN),
        ),
        "/api/v1": (
            Route("GET", "/ips", list_nodes, KeyScope.READ),
            Route("GET", "/containers", list_containers, KeyScope.READ),
        ),
    }
    routes = [
        Route(route.method, f"{PREFIX}{below}{route.template}", route.handle, route.scope)
        for below, group in table.items()
        for route in group
    ]
    return Face(PREFIX, routes, tell, read_key)
