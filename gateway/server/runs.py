"""Runs over HTTP: give a task, look, wait, cancel, accept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.errors import RunFailed
from gateway.observe.stopwatch import wait_for_run
from gateway.policy.routing import Plan
from gateway.server.bodies import AcceptBody, ListQuery, RunBody, WaitQuery
from gateway.server.callers import KeyScope
from gateway.server.problems import BAD_REQUEST, IN_FLIGHT, Refusal
from gateway.server.routes import Operation, Route
from gateway.server.service import RUNS_AT_ONCE
from gateway.server.views import join_key, summarise_run, view, view_run
from gateway.server.wire import JSON_TYPE, Answer, Request, Response, answer_json, encode
from gateway.store.protocol import RunFilter
from gateway.task import Run
from gateway.types import JSON

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_KEY = 255
_PAGE_BYTES = 4 * 1024 * 1024
_KEY_HEADER = {
    "Idempotency-Key": (
        "with the same key the same task is the same run",
        {"minLength": 1, "maxLength": _LONGEST_KEY},
    )
}


async def create_run(request: Request) -> Answer:
    """Take a task in: stored and on its way with the answer."""
    asked, query = await request.read(RunBody), request.read_query(WaitQuery)
    key = read_idempotency_key(request)
    service, caller = request.service, request.caller
    if asked.webhook is not None:
        service.webhooks.check(asked.webhook.url)
    mark = (caller.key, key)
    if key is not None and mark in service.in_flight:
        raise Refusal(IN_FLIGHT, f"a request with the idempotency key {key!r} is under way")
    began = service.clock.now()
    try:
        if key is not None:
            service.in_flight.add(mark)
        run = await service.submit(caller, asked.make_task(), asked.backend, key=join_key(caller.key, key))
        is_old = run.created_at < began or not service.find_gateway(run.id).hosting.works_on(run.id)
        if asked.webhook is not None:
            await service.webhooks.note(run, asked.webhook.url)
    finally:
        service.in_flight.discard(mark)
    headers = ((b"idempotent-replayed", b"true"),) if is_old else ()
    run = await wait_for(request, run, query.wait)
    status = 202 if not run.status.is_final else 200
    return answer_json(view_run(run), status, ((b"location", f"/v1/runs/{run.id}".encode()), *headers))


def read_idempotency_key(request: Request) -> str | None:
    """Return the header Idempotency-Key; the draft's quoted form is taken as well."""
    key = request.get_header(b"idempotency-key")
    if key is None:
        return None
    if len(key) > 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 0 < len(key) <= _LONGEST_KEY:
        raise Refusal(BAD_REQUEST, f"Idempotency-Key has 1 to {_LONGEST_KEY} characters")
    return key


async def wait_for(request: Request, run: Run, seconds: float) -> Run:
    """Return the run once it has ended, or as it is when the time is over or the server shuts down."""
    service = request.service
    seconds = min(seconds, service.settings.wait_most.total_seconds())
    if seconds <= 0 or run.status.is_final:
        return run
    try:
        async with asyncio.timeout(seconds) as limit:
            with service.stopping.ends(limit), wait_for_run(lambda: service.find_stopwatch(run.id)):
                return await service.find_gateway(run.id).wait(run.id)
    except (RunFailed, TimeoutError):  # the store's has wishes from elsewhere as well
        return await service.get_run(request.caller, run.id)


async def list_runs(request: Request) -> Answer:
    """List the caller's runs, newest first, a page at a time."""
    query, caller = request.read_query(ListQuery), request.caller
    before, before_id = _parse_cursor(query.after)
    whose = query.key if caller.sees_all else caller.key
    which = RunFilter(
        phase=query.phase,
        status=query.status,
        model=query.model,
        backend=query.backend,
        idempotency_key=join_key(whose, query.idempotency_key),
        api_key=whose,
        before=before,
        before_id=before_id,
    )
    show = view_run if query.view == "full" else summarise_run
    told, last = await _read_page(request, which, query.limit, show)
    cursor = None if last is None else _make_cursor(last)
    return Response(200, b'{"runs":[%b],"next":%b}' % (b",".join(told), encode(cursor)), (JSON_TYPE,))


async def _read_page(
    request: Request, which: RunFilter, most: int, show: Callable[[Run], JSON]
) -> tuple[list[bytes], Run | None]:
    """Return runs as JSON, and the last of them if there are more.

    Few of them are in memory at once, and a page that grows large ends early.
    """
    told: list[bytes] = []
    size, last = 0, None
    while True:
        which = replace(which, limit=min(most - len(told) + 1, RUNS_AT_ONCE))
        runs = await request.service.gateway.list_runs(which)
        for run in runs:
            if len(told) == most or size > _PAGE_BYTES:
                return told, last
            told.append(encode(show(run)))
            size, last = size + len(told[-1]), run
        if last is None or len(runs) < which.limit:
            return told, None
        which = which.make_next(last)


def _make_cursor(last: Run) -> str:
    return f"{(last.created_at - _EPOCH) // timedelta(microseconds=1)}~{last.id}"


def _parse_cursor(cursor: str | None) -> tuple[datetime | None, str | None]:
    if cursor is None:
        return None, None
    time, _, run_id = cursor.partition("~")
    return _EPOCH + timedelta(microseconds=int(time)), run_id


async def get_run(request: Request) -> Answer:
    """Show one run."""
    query = request.read_query(WaitQuery)
    run = await request.service.get_run(request.caller, request.params["id"])
    return answer_json(view_run(await wait_for(request, run, query.wait)))


async def get_plan(request: Request) -> Answer:
    """Show the plan that a run was taken in with."""
    run = await request.service.get_run(request.caller, request.params["id"])
    return answer_json({"plan": None if run.plan is None else view(Plan.model_validate(run.plan))})


async def cancel_run(request: Request) -> Answer:
    """Ask for a run's end."""
    run = await request.service.get_run(request.caller, request.params["id"])
    return _answer_wish(await request.service.find_gateway(run.id).cancel(run.id))


async def accept_answer(request: Request) -> Answer:
    """Accept, and pay for, one of a run's answers."""
    asked = await request.read(AcceptBody)
    run = await request.service.get_run(request.caller, request.params["id"])
    return _answer_wish(await request.service.find_gateway(run.id).accept(run.id, asked.answer_id))


def _answer_wish(run: Run) -> Response:
    return answer_json(view_run(run), 200 if run.status.is_final else 202)


ROUTES = (
    Route(
        "POST",
        "/v1/runs",
        create_run,
        KeyScope.RUN,
        Operation(
            "Give a task",
            body=RunBody,
            query=WaitQuery,
            answer="Run",
            status=(200, 202),
            headers=_KEY_HEADER,
            problems=(402, 404, 409, 422, 503),
            leads_to=("get_run", "get_plan", "cancel_run", "accept_answer", "send_events"),
        ),
    ),
    Route(
        "GET",
        "/v1/runs",
        list_runs,
        KeyScope.READ,
        Operation("List runs, newest first", query=ListQuery, answer="RunPage"),
    ),
    Route(
        "GET",
        "/v1/runs/{id}",
        get_run,
        KeyScope.READ,
        Operation("Show a run", query=WaitQuery, answer="Run", problems=(404,)),
    ),
    Route(
        "GET",
        "/v1/runs/{id}/plan",
        get_plan,
        KeyScope.READ,
        Operation("Show the plan that a run was taken in with", answer="RunPlan", problems=(404,)),
    ),
    Route(
        "POST",
        "/v1/runs/{id}/cancel",
        cancel_run,
        KeyScope.RUN,
        Operation("Ask for a run's end", answer="Run", status=(200, 202), problems=(404,)),
    ),
    Route(
        "POST",
        "/v1/runs/{id}/accept",
        accept_answer,
        KeyScope.RUN,
        Operation(
            "Accept, and pay for, one of a run's answers",
            body=AcceptBody,
            answer="Run",
            status=(200, 202),
            problems=(404,),
        ),
    ),
)
