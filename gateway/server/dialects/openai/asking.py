"""Giving a request's task to the gateway, once, however often the SDK sends it."""

from __future__ import annotations

import math
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

from gateway.errors import IdempotencyConflict, NoBackend
from gateway.lifecycle import Status
from gateway.server.dialects.openai.words import Asked, refuse_failed, refuse_open
from gateway.server.problems import IN_FLIGHT, Refusal
from gateway.server.runs import read_idempotency_key, wait_for
from gateway.server.taking import name_sending
from gateway.server.views import join_key
from gateway.server.wire import Request
from gateway.store.protocol import RunFilter
from gateway.task import Run, Task
from gateway.types import JSON

REPEATED_WITHIN = timedelta(minutes=30)
"""How old the run of a repeated request may be: the SDK waits at most ten minutes for one answer."""
_LOOKED_AT = 200


async def submit(request: Request, asked: Asked, given: JSON, *, stream: bool = False) -> Run:
    """Take the task in, or find the run that an earlier sending of this very request has begun.

    A model that no backend streams is run without; its output then comes in one piece.
    """
    task = Task(
        model=asked.model.name,
        input=given if asked.shape.input is None else asked.shape.input.apply(given),
        stream=stream,
        limits=asked.own.limits,
        labels=asked.own.labels,
    )
    key = read_idempotency_key(request)
    if key is not None:
        return await _submit_once(request, asked, task, key)
    is_repeated = _is_repeated(request)
    if is_repeated:
        await _wait_for_earlier(request, task)
    with request.service.taking.note(request.caller.key, task):
        earlier = await _find_earlier(request, task) if is_repeated else None
        return earlier or await _submit_once(request, asked, task, None)


async def _submit_once(request: Request, asked: Asked, task: Task, key: str | None) -> Run:
    service, caller = request.service, request.caller
    mark = (caller.key, key)
    if key is not None and mark in service.in_flight:
        raise Refusal(IN_FLIGHT, f"a request with the idempotency key {key!r} is under way")
    try:
        if key is not None:
            service.in_flight.add(mark)
        known = join_key(caller.key, key)
        try:
            return await service.submit(caller, task, asked.own.backend, key=known)
        except (NoBackend, IdempotencyConflict):  # or the key's run is of a model that nobody streams
            if not task.stream:
                raise
            return await service.submit(caller, replace(task, stream=False), asked.own.backend, key=known)
    finally:
        if key is not None:
            service.in_flight.discard(mark)


def _is_repeated(request: Request) -> bool:
    """Say whether the SDK says that it has sent this very request before."""
    count = request.get_header(b"x-stainless-retry-count") or "0"
    return count.isascii() and count.isdigit() and bool(count.strip("0"))


async def _wait_for_earlier(request: Request, task: Task) -> None:
    """Wait while an earlier sending is being taken in, at any worker: its run is not stored yet."""
    name, service = name_sending(request.caller.key, task), request.service
    if service.siblings is not None:
        await service.siblings.wait_for_sending(name)
    while (earlier := service.taking.find(name)) is not None:
        await earlier.wait()


async def _find_earlier(request: Request, task: Task) -> Run | None:
    """Return the newest run of a request that was sent before, if there is one."""
    since = request.service.clock.now() - REPEATED_WITHIN
    task = request.service.check_task(task)
    sent = {task.model_dump_json(), replace(task, stream=False).model_dump_json()}
    which = RunFilter(model=task.model, api_key=request.caller.key, limit=_LOOKED_AT)
    async with aclosing(request.service.iterate_runs(which)) as runs:  # type: ignore[type-var]  # a generator
        async for run in runs:
            if run.created_at < since:
                return None
            if run.task.model_dump_json() in sent:
                return run
    return None


async def wait(request: Request, run: Run) -> Run:
    """Return the run once it has succeeded. Raises Refusal if it failed, or goes on longer than we wait."""
    run = await wait_for(request, run, math.inf)
    if not run.status.is_final:
        raise refuse_open(run)
    if run.status is not Status.COMPLETED:
        raise refuse_failed(run)
    return run
