"""The seam, spoken to inference.sh."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from gateway.adapter import Adapter, CancelOutcome, Capabilities, Feature, Landed, Recovery, Unknown
from gateway.clock import Clock
from gateway.errors import BackendError, Rejected
from gateway.files import File
from gateway.http import HttpClient
from gateway.lifecycle import Status
from gateway.targets import Targets
from gateway.task import Envelope, Event, Handle, Quote, Snapshot, Task
from gateway.types import JSON, AttemptId, RateLimit
from gateway_inferencesh.api import Api, make_path
from gateway_inferencesh.config import InferenceshConfig, InferenceshTarget
from gateway_inferencesh.files import Files
from gateway_inferencesh.looks import Looks, check_health
from gateway_inferencesh.quotes import Estimates
from gateway_inferencesh.recall import Claims, recall
from gateway_inferencesh.sessions import Session, Sessions
from gateway_inferencesh.streams import StreamOptions, TaskStream
from gateway_inferencesh.tasks import Tasks

FEATURES = frozenset({Feature.EVENTS, Feature.STREAM, Feature.CANCEL, Feature.QUOTE})
POLL_MANY = 64
_BESIDE_STREAMS = 64


class InferenceshAdapter(Adapter[InferenceshConfig]):
    """One account at inference.sh.

    Attributes:
        files: uploads beside those of an input.
        sessions: looks at sessions; `session` opens one.
        tasks: logs, timings, files and deletion of tasks.
    """

    config_type = InferenceshConfig
    target_type = InferenceshTarget

    def __init__(
        self, name: str, config: InferenceshConfig, *, clock: Clock | None = None, client: Any = None
    ) -> None:
        """Make it without I/O. `client`: an AsyncClient of httpx or httpx2 to use instead of an own one."""
        super().__init__(name, config, clock=clock)
        self._targets = Targets(InferenceshTarget, name)
        self._http = HttpClient(
            name,
            config.url,
            headers={"authorization": f"Bearer {config.api_key.get_secret_value()}"},
            timeout_seconds=config.timeout_seconds,
            max_connections=config.max_streams + _BESIDE_STREAMS,
            client=client,
        )
        self._api = Api(self._http)
        self._claims = Claims()
        self._looks = Looks(self._api, config.microcents_per_usd)
        self._estimates = Estimates(self._api, config.microcents_per_usd)
        self._streams = 0
        self.files = Files(self._api)
        self.sessions = Sessions(self._api)
        self.tasks = Tasks(self._api)

    @property
    def rate_limit(self) -> RateLimit | None:
        """Say what the newest answer to a run told of the account's limit."""
        return self._http.rate_limit

    async def capabilities(self) -> Capabilities:
        """Ask for the balance or, where the key is too narrow for that, for one task."""
        health = await check_health(self._api)
        return Capabilities(
            healthy=health.reason is None or health.is_usable,
            features=FEATURES,
            poll_many=POLL_MANY,
            reason=health.reason,
            detail={} if health.balance is None else {"balance_microcents": health.balance},
        )

    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        """Upload the files of the input; the payload's `body` is what POST /apps/run gets, to the letter."""
        words = self._targets.read(target)
        body = {**words.encode(), "input": await self.files.replace(task.input)}
        return Envelope(
            attempt_id=attempt_id, backend=self.name, payload={"body": body}, prepared_at=self.clock.now()
        )

    async def submit(self, envelope: Envelope) -> Handle:
        """POST /apps/run, once. A task that has ended when it is answered is a handle like any other."""
        with self._claims.sending(envelope):
            asked = envelope.payload["body"]
            body = await self._api.call(
                "POST", "/apps/run", what="run", lands=True, json=asked, takes_unsound=True
            )
            job_id = body.data.get("id") if isinstance(body.data, dict) else None
            if not isinstance(job_id, str) or not job_id:
                raise self._api.make_broken("run", "names no task", lands=True)
            self._claims.add(job_id, envelope.attempt_id)
        detail: dict[str, JSON] = {"attempt_id": envelope.attempt_id}
        if body.data.get("session_id"):
            detail["session_id"] = body.data["session_id"]
        if body.messages:
            detail["messages"] = [dict(message) for message in body.messages]
        return Handle(self.name, job_id, detail)

    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        """GET the light status of each, several at a time, and the whole task of those that have ended.

        A handle whose look fails has no news. Raises only if none has: Throttled if the backend wants us to
        wait, else the first error.
        """
        for handle in handles:
            self._claims.add(handle.job_id, str(handle.detail.get("attempt_id") or ""))
        return await self._looks.fetch_snapshots(handles)

    def events(self, handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:  # noqa: ARG002  there is no resuming
        """Follow the task's stream: snapshots, and a piece per delta (`{"response": " more"}`).

        Ends at once when `max_streams` are open.
        """
        return self._follow(handle)

    async def cancel(self, handle: Handle, *, force: bool = False) -> CancelOutcome:
        """Ask for the end of a task; `force` does not wait for its worker to agree."""
        job_id = handle.job_id
        path, what = make_path("tasks", job_id, "cancel"), f"cancel task {job_id}"
        try:
            await self._api.call(
                "POST", path, what=what, json={"force": True} if force else {}, job_id=job_id
            )
        except Rejected as error:
            if error.http_status in (404, 409, 410):
                return CancelOutcome.TOO_LATE
            raise
        try:
            status = await self._looks.fetch_status(job_id)
        except BackendError:
            return CancelOutcome.REQUESTED  # that was answered; polling will tell the rest
        if status is Status.CANCELLED:
            return CancelOutcome.CANCELLED
        return CancelOutcome.TOO_LATE if status is not None and status.is_final else CancelOutcome.REQUESTED

    async def quote(self, task: Task, target: Mapping[str, JSON]) -> Quote:
        """Ask for an estimate; without one the price is unknown. Files are not uploaded for it."""
        words = self._targets.read(target)
        return await self._estimates.fetch_quote(words, task.input, quoted_at=self.clock.now())

    async def recover(self, envelope: Envelope) -> Recovery:
        """Look for the task in the task list; see `recall`."""
        known = self._claims.get_job(envelope.attempt_id)
        if known is not None:
            return Landed(Handle(self.name, known, {"attempt_id": envelope.attempt_id}))
        try:
            found = await recall(self._api, self.clock, self._claims, envelope)
        except BackendError as error:
            return Unknown(f"the task list can't be had: {error.message}")
        if isinstance(found, Landed):
            self._claims.add(found.handle.job_id, envelope.attempt_id)
        return found

    def session(
        self,
        target: Mapping[str, JSON],
        *,
        session_id: str | None = None,
        timeout_seconds: int | None = None,
    ) -> Session:
        """Make a session to call an app in, new or an existing one; see Session."""
        return Session(self, target, session_id=session_id, timeout_seconds=timeout_seconds)

    async def upload(self, file: File) -> str:
        """Upload one file and return its uri, to be used in inputs."""
        return (await self.files.upload(file))[0]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _follow(self, handle: Handle) -> AsyncGenerator[Event, None]:
        if self._streams >= self.config.max_streams:
            return
        self._claims.add(handle.job_id, str(handle.detail.get("attempt_id") or ""))
        options = StreamOptions(
            heartbeat_seconds=self.config.heartbeat_seconds,
            max_line_bytes=self.config.max_line_bytes,
            microcents_per_usd=self.config.microcents_per_usd,
        )
        self._streams += 1
        try:
            stream = TaskStream(self._api, self.clock, handle.job_id, options)
            async with aclosing(stream.events()) as events:
                async for event in events:
                    yield event
        finally:
            self._streams -= 1
