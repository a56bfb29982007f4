"""The middlewares: problems are written, armed faults strike, keys are checked, in this order."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.devnet.faults import Fault, Faults, Operation
from gateway.devnet.inferencesh.account import Account, Throttle
from gateway.devnet.inferencesh.connections import abort
from gateway.devnet.inferencesh.envelopes import (
    DEFAULT_ENVELOPE,
    Problem,
    choose_envelope,
    make_problem_answer,
)

STREAM_FAULTS = (Fault.CUT_STREAM, Fault.STALL_STREAM)
_REQUEST_FAULTS = tuple(fault for fault in Fault if fault not in (*STREAM_FAULTS, Fault.REFUSE))
_OPERATIONS = (
    (re.compile(r"POST (/apps)?/run"), Operation.SUBMIT),
    (re.compile(r"GET /tasks/[^/]+/stream"), Operation.STREAM),
    (re.compile(r"POST /tasks/[^/]+/cancel"), Operation.CANCEL),
    (re.compile(r"GET /tasks/.*|POST /tasks/list"), Operation.POLL),
    (re.compile(r"POST /files|PUT /uploads/.*"), Operation.UPLOAD),
)
_SCOPES = (
    (re.compile(r"POST (/apps)?/run"), "apps:execute"),
    (
        re.compile(r"(GET|HEAD) /(tasks|apps|sessions).*|POST /(tasks|apps)/.*list|POST /store/.*"),
        "apps:read",
    ),
    (re.compile(r"(POST|DELETE) /(tasks|sessions).*"), "apps:execute"),
    (re.compile(r"GET /files/.*|POST /files/list"), "files:read"),
    (re.compile(r"(POST|DELETE) /files.*"), "files:write"),
    (re.compile(r"GET /(billing|entitlements)/.*"), "billing:read"),
)
_PUBLIC = re.compile(r"/(uploads|cdn)/.*")


def get_operation(method: str, path: str) -> Operation:
    """Say which operation a request is; ANY for those that no fault can be aimed at alone."""
    line = f"{method} {path}"
    return next((operation for pattern, operation in _OPERATIONS if pattern.fullmatch(line)), Operation.ANY)


@web.middleware
async def write_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn problems, and aiohttp's own 404 and 405, into this API's error bodies."""
    try:
        return await handler(request)
    except Problem as problem:
        raised = problem
    except web.HTTPException as refusal:
        code = {404: "not_found", 405: "method_not_allowed"}.get(refusal.status, "invalid_request")
        raised = Problem(refusal.status, code, refusal.reason)
    return make_problem_answer(raised, choose_envelope(request, request.app[DEFAULT_ENVELOPE]))


def make_key_check(account: Account) -> Middleware:
    """Return the middleware that answers 401 and 403. Signed uploads and downloads need no key."""

    @web.middleware
    async def check_key(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _PUBLIC.fullmatch(request.path):
            line = f"{request.method} {request.path}"
            scope = next((scope for pattern, scope in _SCOPES if pattern.fullmatch(line)), None)
            account.check(request.headers.get("Authorization"), scope)
        return await handler(request)

    return check_key


def make_misbehaviour(faults: Faults, throttle: Throttle, forget: Callable[[], None]) -> Middleware:
    """Return the middleware that lets armed faults strike.

    On this wire: ANSWER_LOST carries the request out and resets the connection. HANG reads the request and
    carries nothing out. RATE_LIMIT is a 429 with `Retry-After` as the rate limit says, SERVER_ERROR and
    ERROR_AFTER are 500 problems, GARBAGE is a page of HTML with status 200. FORGET loses the running tasks,
    then serves the request: 404. A stream has nothing to carry out: it is refused, reset or garbage at once.
    """

    @web.middleware
    async def misbehave(request: web.Request, handler: Handler) -> web.StreamResponse:
        operation = get_operation(request.method, request.path)
        fault = faults.take(operation, *_REQUEST_FAULTS)
        if fault is Fault.FORGET:
            forget()
        if fault in (None, Fault.FORGET):
            return await handler(request)
        await request.read()
        if fault is Fault.HANG:
            await asyncio.Event().wait()  # until the client or the server closes the connection
        if fault is Fault.RATE_LIMIT:
            raise throttle.make_problem()
        if fault is not Fault.SERVER_ERROR and operation is not Operation.STREAM:
            with contextlib.suppress(Problem, web.HTTPException):
                await handler(request)
        if fault is Fault.ANSWER_LOST:
            abort(request)
            return web.Response()
        if fault is Fault.GARBAGE:
            return web.Response(text="<!doctype html><h1>It works!</h1>", content_type="text/html")
        raise Problem(500, "internal_error", "something went wrong")

    return misbehave
