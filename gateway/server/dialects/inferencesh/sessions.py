"""Sessions, where a backend has them: those that the caller's own runs are in."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar, runtime_checkable

from gateway.errors import BackendError
from gateway.server.dialects.inferencesh.tasks import find_session
from gateway.server.dialects.inferencesh.words import answer
from gateway.server.problems import Kind, Refusal
from gateway.server.wire import Answer, Request, Response
from gateway.store.protocol import RunFilter
from gateway.types import JSON

_LOOKED_AT = 1000
_NOT_FOUND = Kind("SESSION_NOT_FOUND", 404, "There is no such session")

T = TypeVar("T")


@runtime_checkable
class Sessions(Protocol):
    """What an adapter's `sessions` can do, if it has any."""

    async def fetch_session(self, session_id: str) -> dict[str, JSON]:
        """Return one."""

    async def keepalive(self, session_id: str) -> dict[str, JSON]:
        """Begin its idle time anew."""

    async def end(self, session_id: str) -> None:
        """End it."""


async def find_sessions(request: Request) -> dict[str, str]:
    """Return the backend of each session that a run of the caller's is in, of the newest runs."""
    which = RunFilter(api_key=request.caller.key, limit=_LOOKED_AT)
    found: dict[str, str] = {}
    async for run in request.service.iterate_runs(which):
        session = find_session(run)
        if session is not None and run.attempt is not None:
            found.setdefault(session, run.attempt.backend)
    return found


async def list_sessions(request: Request) -> Answer:
    """List those that are active."""
    listed: list[JSON] = []
    for session, backend in (await find_sessions(request)).items():
        sessions = _get_sessions(request, backend)
        if sessions is not None:
            one = await _pass_on(sessions.fetch_session(session))
            listed += [one] if one.get("status") == "active" else []
    return answer(request, listed)


async def get_session(request: Request) -> Answer:
    """Show one."""
    sessions = await _find(request)
    return answer(request, await _pass_on(sessions.fetch_session(request.params["id"])))


async def keep_session(request: Request) -> Answer:
    """Begin its idle time anew."""
    sessions = await _find(request)
    return answer(request, await _pass_on(sessions.keepalive(request.params["id"])))


async def end_session(request: Request) -> Answer:
    """End it."""
    sessions = await _find(request)
    await _pass_on(sessions.end(request.params["id"]))
    return Response(204)


async def _find(request: Request) -> Sessions:
    session = request.params["id"]
    backend = (await find_sessions(request)).get(session)
    sessions = None if backend is None else _get_sessions(request, backend)
    if sessions is None:
        raise Refusal(_NOT_FOUND, f"there is no session {session!r}")
    return sessions


def _get_sessions(request: Request, backend: str) -> Sessions | None:
    sessions = getattr(request.service.gateway.adapters.get(backend), "sessions", None)
    return sessions if isinstance(sessions, Sessions) else None


async def _pass_on(asking: Awaitable[T]) -> T:
    """Return what the backend answers; its refusal is told in its own words."""
    try:
        return await asking
    except BackendError as error:
        if error.http_status is None or error.code is None:
            raise
        raise Refusal(Kind(error.code, error.http_status, "The backend refuses this"), str(error)) from None
