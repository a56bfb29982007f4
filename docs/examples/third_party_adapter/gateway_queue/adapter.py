"""The adapter: the five methods of the seam, and cancelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from gateway.adapter import (
    Adapter,
    CancelOutcome,
    Capabilities,
    Feature,
    Landed,
    NotLanded,
    Recovery,
)
from gateway.clock import Clock
from gateway.errors import BackendError, InvalidInput, Misbehaved
from gateway.files import has_files
from gateway.http import Answer, HttpClient, make_status_error
from gateway.task import Envelope, Handle, Snapshot, Task
from gateway.types import JSON, AttemptId
from pydantic import BaseModel, ValidationError

from gateway_queue.config import QueueConfig, QueueTarget
from gateway_queue.wire import Health, Job, Jobs, make_lost, parse_job

FEATURES = frozenset({Feature.CANCEL, Feature.RECALL})
POLL_MANY = 50

ModelT = TypeVar("ModelT", bound=BaseModel)


class QueueAdapter(Adapter[QueueConfig]):
    """One queue. It takes the client's own job ids, so a lost answer can always be looked up."""

    config_type = QueueConfig
    target_type = QueueTarget

    def __init__(
        self, name: str, config: QueueConfig, *, clock: Clock | None = None, client: Any = None
    ) -> None:
        """Make it without I/O; `client` is an httpx.AsyncClient to use instead of its own."""
        super().__init__(name, config, clock=clock)
        self.http = HttpClient(
            name,
            config.url,
            headers={"authorization": f"Bearer {config.token.get_secret_value()}"},
            timeout_seconds=config.timeout_seconds,
            client=client,
        )

    async def capabilities(self) -> Capabilities:
        """Ask for the version and the apps."""
        try:
            health = await self._fetch(Health, "/health")
        except BackendError as error:
            return Capabilities(healthy=False, features=FEATURES, poll_many=POLL_MANY, reason=error.message)
        return Capabilities(
            healthy=True,
            version=health.version,
            features=FEATURES,
            poll_many=POLL_MANY,
            free=True,
            offers=health.apps,
        )

    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        """Check everything that can be checked here, and write down what `submit` will send."""
        try:
            app = QueueTarget.model_validate(target).app
        except ValidationError as error:
            raise InvalidInput(f"{self.name}: the target is wrong: {error}") from error
        if has_files(task.input):
            raise InvalidInput(f"{self.name}: this queue takes no files")
        return Envelope(
            attempt_id=attempt_id,
            backend=self.name,
            payload={"app": app, "input": task.input},
            prepared_at=self.clock.now(),
        )

    async def submit(self, envelope: Envelope) -> Handle:
        """Send the job, once, under the attempt's id. `lands=True` makes a lost answer InDoubt."""
        path = f"/jobs/{envelope.attempt_id}"
        answer = await self.http.request("PUT", path, lands=True, json=dict(envelope.payload))
        self._check(answer, "submitting", lands=True)
        job = self._parse(Job, answer)
        return Handle(self.name, job.id)

    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        """Look at all of them in one request, and match the answers by id."""
        if not handles:
            return {}
        found = await self._fetch_jobs([handle.job_id for handle in handles])
        return {
            handle: parse_job(found[handle.job_id], self.name)
            if handle.job_id in found
            else make_lost(handle)
            for handle in handles
        }

    async def recover(self, envelope: Envelope) -> Recovery:
        """Look the attempt's id up. The same envelope may be sent again if the queue does not know it."""
        found = await self._fetch_jobs([envelope.attempt_id])
        return Landed(Handle(self.name, envelope.attempt_id)) if found else NotLanded()

    async def cancel(self, handle: Handle) -> CancelOutcome:
        """Stop a job; the queue says 409 if it has ended, 404 if it never heard of it."""
        answer = await self.http.request("POST", f"/jobs/{handle.job_id}/stop", lands=False)
        if answer.status in {404, 409}:
            return CancelOutcome.TOO_LATE
        self._check(answer, "cancelling", lands=False)
        return CancelOutcome.CANCELLED

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def _fetch_jobs(self, ids: Sequence[str]) -> dict[str, Job]:
        jobs = await self._fetch(Jobs, "/jobs", params={"ids": ",".join(ids)})
        return {job.id: job for job in jobs.jobs}

    async def _fetch(self, kind: type[ModelT], path: str, params: Mapping[str, str] | None = None) -> ModelT:
        answer = await self.http.request("GET", path, lands=False, params=params)
        self._check(answer, f"GET {path}", lands=False)
        return self._parse(kind, answer)

    def _check(self, answer: Answer, what: str, *, lands: bool) -> None:
        if answer.status >= 300:
            raise make_status_error(answer, what, backend=self.name, lands=lands)

    def _parse(self, kind: type[ModelT], answer: Answer) -> ModelT:
        try:
            return kind.model_validate_json(answer.body)
        except ValidationError as error:
            raise Misbehaved(f"unreadable answer: {error}", backend=self.name) from error
