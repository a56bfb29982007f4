"""Sessions: calls that share one worker and its memory, until nobody has called for a while."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from aiohttp import web

from gateway.devnet.inferencesh.apps import Entry
from gateway.devnet.inferencesh.clock import Clock, format_time
from gateway.devnet.inferencesh.envelopes import Problem, make_answer
from gateway.types import JSON

DEFAULT_IDLE_SECONDS = 60
MAX_IDLE_SECONDS = 3600


@dataclass(slots=True)
class Session:
    """One session. Each call moves `expires_at` to `idle_seconds` from now; none while a call runs."""

    id: str
    worker_id: str
    entry: Entry
    idle_seconds: int
    created_at: float
    expires_at: float
    ended_at: float | None = None
    last_task_id: str | None = None
    last_call_at: float | None = None
    call_count: int = 0
    running_calls: int = 0
    values: dict[str, JSON] = field(default_factory=dict)

    def get_status(self, now: float) -> str:
        """Return active, ended or expired."""
        if self.ended_at is not None:
            return "ended"
        return "expired" if now >= self.expires_at and not self.running_calls else "active"


class SessionStore:
    """The sessions of one stand-in."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._sessions: dict[str, Session] = {}

    def make(self, entry: Entry, idle_seconds: int | None, workers: list[str] | None) -> Session:
        """Lease a worker, one of `workers` if given. Raises Problem 409 when those are all leased."""
        leased = {session.worker_id for session in self.get_active()}
        free = [worker for worker in workers or [] if worker not in leased]
        if workers and not free:
            raise Problem(409, "WORKER_LEASED", "the worker is leased by another session")
        now = self.clock.now()
        idle = idle_seconds or DEFAULT_IDLE_SECONDS
        session = Session(
            id="sess_" + secrets.token_hex(10),
            worker_id=free[0] if free else "worker_" + secrets.token_hex(6),
            entry=entry,
            idle_seconds=idle,
            created_at=now,
            expires_at=now + idle,
        )
        self._sessions[session.id] = session
        return session

    def get(self, session_id: str) -> Session:
        """Return a session in whatever state, or raise Problem 404."""
        session = self._sessions.get(session_id)
        if session is None:
            raise Problem(404, "SESSION_NOT_FOUND", f"session {session_id} not found")
        return session

    def get_usable(self, session_id: str) -> Session:
        """Return a session that is active, or raise Problem 404 or 410."""
        session = self.get(session_id)
        status = session.get_status(self.clock.now())
        if status != "active":
            raise Problem(410, f"SESSION_{status.upper()}", f"session {session_id} has {status}")
        return session

    def get_for_call(self, session_id: str, entry: Entry) -> Session:
        """Return the session for one more call. Raises Problem 404, 409 or 410."""
        session = self.get_usable(session_id)
        if session.entry.app is not entry.app:
            raise Problem(409, "APP_MISMATCH", f"the session belongs to {session.entry.app.ref}")
        if session.entry.version != entry.version:
            raise Problem(409, "VERSION_MISMATCH", f"the session belongs to version {session.entry.version}")
        return session

    def get_active(self) -> list[Session]:
        """Return the sessions that are active now."""
        now = self.clock.now()
        return [s for s in self._sessions.values() if s.get_status(now) == "active"]

    def extend(self, session: Session) -> None:
        """Start the idle time again."""
        session.expires_at = self.clock.now() + session.idle_seconds

    def begin_call(self, session_id: str, task_id: str) -> None:
        """Note that a task has started to use the session."""
        session = self.get(session_id)
        session.call_count += 1
        session.running_calls += 1
        session.last_task_id = task_id
        session.last_call_at = self.clock.now()
        self.extend(session)

    def end_call(self, session_id: str) -> None:
        """Note that the task is over."""
        session = self.get(session_id)
        session.running_calls -= 1
        self.extend(session)

    def encode(self, session: Session) -> JSON:
        """Return the AppSessionDTO of the wire."""
        return {
            "id": session.id,
            "short_id": session.id[-8:],
            "created_at": format_time(session.created_at),
            "updated_at": format_time(session.last_call_at or session.created_at),
            "worker_id": session.worker_id,
            "app_id": session.entry.app.id,
            "app_version_id": session.entry.version_id,
            "status": session.get_status(self.clock.now()),
            "expires_at": format_time(session.expires_at),
            "ended_at": None if session.ended_at is None else format_time(session.ended_at),
            "task_id": session.last_task_id,
            "call_count": session.call_count,
            "last_call_at": None if session.last_call_at is None else format_time(session.last_call_at),
            "idle_timeout": session.idle_seconds,
        }


class SessionRoutes:
    """The routes of sessions."""

    def __init__(self, sessions: SessionStore) -> None:
        self._sessions = sessions

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/sessions", self.show_list)
        router.add_get("/sessions/{id}", self.show)
        router.add_post("/sessions/{id}/keepalive", self.keep_alive)
        router.add_delete("/sessions/{id}", self.end)

    async def show_list(self, request: web.Request) -> web.Response:
        """`GET /sessions`: a plain array of the active ones."""
        return make_answer(request, [self._sessions.encode(s) for s in self._sessions.get_active()])

    async def show(self, request: web.Request) -> web.Response:
        """`GET /sessions/{id}`, also of one that is over."""
        return make_answer(request, self._sessions.encode(self._sessions.get(request.match_info["id"])))

    async def keep_alive(self, request: web.Request) -> web.Response:
        """`POST /sessions/{id}/keepalive`."""
        session = self._sessions.get_usable(request.match_info["id"])
        self._sessions.extend(session)
        return make_answer(request, self._sessions.encode(session))

    async def end(self, request: web.Request) -> web.Response:
        """`DELETE /sessions/{id}`."""
        session = self._sessions.get(request.match_info["id"])
        if session.ended_at is None:
            session.ended_at = self._sessions.clock.now()
        return web.Response(status=204)
