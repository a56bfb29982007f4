"""Sessions: calls that share one worker and what it remembers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gateway.errors import BackendError, GatewayError, Misbehaved, Unavailable
from gateway.task import Handle, Snapshot, Task
from gateway.types import JSON, AttemptId
from gateway_inferencesh.api import Api, make_path
from gateway_inferencesh.errors import SessionError

if TYPE_CHECKING:
    from gateway_inferencesh.adapter import InferenceshAdapter

_FIRST_LOOK_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 2.0


class Sessions:
    """The sessions of an account. Each raises SessionError or another BackendError."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def list_sessions(self) -> list[JSON]:
        """Return those that are active: `{id, status, expires_at, call_count, idle_timeout, ...}` each."""
        return await self._api.fetch_list("GET", "/sessions", what="list sessions")

    async def fetch_session(self, session_id: str) -> dict[str, JSON]:
        """Return one, also one that is over."""
        path = make_path("sessions", session_id)
        return await self._api.fetch_object("GET", path, what=f"session {session_id}")

    async def keepalive(self, session_id: str) -> dict[str, JSON]:
        """Begin its idle time anew."""
        path = make_path("sessions", session_id, "keepalive")
        return await self._api.fetch_object("POST", path, what=f"session {session_id}", json={})

    async def end(self, session_id: str) -> None:
        """End it and let its worker go."""
        path = make_path("sessions", session_id)
        await self._api.call("DELETE", path, what=f"end session {session_id}")


class NoSessionError(GatewayError):
    """The session has no id yet: nothing was called, or the first call's answer told none."""


class Session:
    """One session as an async context manager; leaving it ends the session.

    The first call opens it. `target` is what a task of the gateway needs to join it.

        async with adapter.session({"app": "acme/chat"}, timeout_seconds=300) as session:
            answer = await session.run({"text": "hello"})
    """

    def __init__(
        self,
        adapter: InferenceshAdapter,
        target: Mapping[str, JSON],
        *,
        session_id: str | None = None,
        timeout_seconds: int | None = None,
    ) -> None:
        """Make it without I/O.

        Args:
            adapter: whose.
            target: the app and what else; `session` and `session_timeout` are put in here.
            session_id: of one that exists, to go on with it.
            timeout_seconds: idle time of a new one.
        """
        self.id = session_id
        self._adapter = adapter
        self._target = dict(target)
        self._timeout_seconds = timeout_seconds
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.id is None:
            return
        try:
            await self.end()
        except SessionError:
            self.id = None  # it is over already, which is what was wanted
        except BackendError:
            if error is None:
                raise  # else the first error counts, and the session ends by its idle time

    @property
    def target(self) -> dict[str, JSON]:
        """Return the target of the next call."""
        if self.id is not None:
            return {**self._target, "session": self.id}
        timeout = {} if self._timeout_seconds is None else {"session_timeout": self._timeout_seconds}
        return {**self._target, "session": "new", **timeout}

    async def submit(self, input: JSON, *, function: str | None = None) -> Handle:
        """Submit one call. Two first calls at once open one session, not two. Raises as the seam's submit."""
        if self.id is not None:
            return await self._submit(input, function)
        async with self._opening:
            return await self._submit(input, function)

    async def run(self, input: JSON, *, function: str | None = None) -> Snapshot:
        """Submit one call and wait for its end; a failed one is a Snapshot, too.

        A look that fails is no news, and the call goes on; one that is refused raises, with the job's id.
        """
        handle = await self.submit(input, function=function)
        wait_seconds = _FIRST_LOOK_SECONDS
        while True:
            asked_seconds = 0.0
            try:
                snapshot = (await self._adapter.poll([handle])).get(handle)
            except (Unavailable, Misbehaved) as error:
                snapshot = None
                asked_seconds = error.retry_after.total_seconds() if error.retry_after else 0.0
            if snapshot is not None and snapshot.status.is_final:
                self._note(snapshot.detail)
                return snapshot
            await self._adapter.clock.sleep(max(wait_seconds, asked_seconds))
            wait_seconds = min(wait_seconds * 1.5, _LONGEST_WAIT_SECONDS)

    async def keepalive(self) -> dict[str, JSON]:
        """Begin the idle time anew."""
        return await self._adapter.sessions.keepalive(self._get_id())

    async def end(self) -> None:
        """End it; the next call would open a new one."""
        session_id = self._get_id()
        await self._adapter.sessions.end(session_id)
        self.id = None

    async def _submit(self, input: JSON, function: str | None) -> Handle:
        target = {**self.target, **({"function": function} if function else {})}
        envelope = await self._adapter.prepare(
            Task(input=input), target, attempt_id=AttemptId(str(uuid.uuid4()))
        )
        handle = await self._adapter.submit(envelope)
        self._note(handle.detail)
        return handle

    def _note(self, detail: Mapping[str, JSON]) -> None:
        session_id = detail.get("session_id")
        if self.id is None and isinstance(session_id, str) and session_id:
            self.id = session_id

    def _get_id(self) -> str:
        if self.id is None:
            raise NoSessionError("the session was not opened yet: its first call opens it")
        return self.id
