"""The REST API of a node, endpoint by endpoint, each within its own rate limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.clock import Clock
from gateway.errors import BackendError, Unavailable
from gateway.http import Answer, HttpClient, StreamAnswer
from gateway.types import JSON
from gateway_infernet import wire
from gateway_infernet.config import InfernetConfig
from gateway_infernet.pacing import RateLimits

# The node closes an idle connection after 5.0 s, without a word.
_KEEPALIVE_SECONDS = 4.0
_RESOURCES_SECONDS = 5.0
_MAX_CONNECTIONS = 1000  # each open stream holds one; all else needs a handful
# A stream may be silent for as long as the node lets it live, which is a minute.
_STREAM_SECONDS = 75.0

JOBS = "/api/jobs"
SINGLE = ("POST", JOBS)
BATCH = ("POST", "/api/jobs/batch")
STREAM = ("POST", "/api/jobs/stream")


class Node:
    """One Infernet node over HTTP. Nothing is repeated here but a GET that met a stale socket.

    Attributes:
        name: of the backend in the configuration.
        limits: what is left of the node's rate limits; a request beyond them raises Throttled unsent.
    """

    def __init__(self, name: str, config: InfernetConfig, clock: Clock, client: Any) -> None:
        """Make it without I/O."""
        self.name = name
        self.limits = RateLimits(name, clock, doors=[SINGLE, BATCH])
        self._http = HttpClient(
            name,
            config.url,
            timeout_seconds=config.timeout_seconds,
            keepalive_seconds=_KEEPALIVE_SECONDS,
            max_connections=_MAX_CONNECTIONS,
            client=client,
        )

    async def fetch_health(self) -> str:
        """Return the node's own word, "healthy": it looks at nothing behind its HTTP server."""
        answer = await self._read("/health")
        return str(wire.parse_object(answer, "/health", backend=self.name).get("status"))

    async def fetch_info(self) -> dict[str, JSON]:
        """Return /info: `containers`, `pending`, and from 1.0 on `chain` and `version`."""
        return wire.parse_object(await self._read("/info"), "/info", backend=self.name)

    async def fetch_resources(self, model_id: str | None) -> dict[str, JSON]:
        """Return /resources, container by container (1.4). Containers that don't answer are absent."""
        params = [] if model_id is None else [("model_id", model_id)]
        answer = await self._read("/resources", params, timeout_seconds=_RESOURCES_SECONDS)
        return wire.parse_object(answer, "/resources", backend=self.name)

    async def fetch_job_ids(self, *, pending: bool | None) -> list[str]:
        """Return the ids of the jobs that came from our address; `pending` None is for all."""
        params = [] if pending is None else [("pending", "true" if pending else "false")]
        answer = await self._read(JOBS, params)
        ids = wire.parse_list(answer, "GET /api/jobs", backend=self.name)
        return list(dict.fromkeys(str(job_id) for job_id in ids))

    async def fetch_looks(self, ids: Sequence[str], *, intermediate: bool) -> dict[str, wire.Look]:
        """Look at jobs in one GET; there are not more of them than `wire.count_for_get` allows."""
        params = [("id", job_id) for job_id in ids]
        answer = await self._read(JOBS, [*params, ("intermediate", "true")] if intermediate else params)
        return wire.parse_results(answer, ids, "GET /api/jobs", backend=self.name)

    async def put_status(self, body: JSON) -> None:
        """PUT /api/status; the node takes it from containers only, that is from its own machine."""
        answer = await self._call("PUT", "/api/status", lands=False, json=body)
        if answer.status != 200:
            raise wire.make_refusal(answer, "PUT /api/status", backend=self.name, lands=False)

    async def post_job(self, job_id: str, body: bytes) -> Answer:
        """POST /api/jobs and return the 200."""
        answer = await self._call(*SINGLE, lands=True, json=body)
        if answer.status != 200:
            raise wire.make_refusal(answer, "POST /api/jobs", backend=self.name, lands=True, job_id=job_id)
        return answer

    async def post_batch(
        self, ids: Sequence[str], bodies: Sequence[bytes]
    ) -> list[str | BackendError] | None:
        """POST /api/jobs/batch: an id or an error for each job; None if all were refused unread."""
        what = "POST /api/jobs/batch"
        answer = await self._call(*BATCH, lands=True, json=b"[" + b",".join(bodies) + b"]")
        if answer.status == 200:
            return wire.parse_batch(answer, ids, what, backend=self.name)
        if wire.is_never_started(answer):
            return None
        raise wire.make_refusal(answer, what, backend=self.name, lands=True)

    async def open_stream(self, job_id: str, body: bytes) -> StreamAnswer:
        """POST /api/jobs/stream and return the 200, whose body is still to come; the caller closes it."""
        self.limits.check(*STREAM)
        answer = await self._http.open_stream(*STREAM, lands=True, json=body, timeout_seconds=_STREAM_SECONDS)
        if answer.status == 200:
            self.limits.note(*STREAM, answer)
            return answer
        try:
            whole = await answer.aread()
        except Unavailable:  # the status alone must do
            whole = Answer(answer.status, answer.headers, b"")
        finally:
            await answer.aclose()
        self.limits.note(*STREAM, whole)
        raise wire.make_refusal(whole, "POST /api/jobs/stream", backend=self.name, lands=True, job_id=job_id)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _read(
        self, path: str, params: list[tuple[str, str]] | None = None, *, timeout_seconds: float | None = None
    ) -> Answer:
        answer = await self._call("GET", path, lands=False, params=params, timeout_seconds=timeout_seconds)
        if answer.status != 200:
            raise wire.make_refusal(answer, f"GET {path}", backend=self.name, lands=False)
        return answer

    async def _call(self, method: str, path: str, *, lands: bool, **how: Any) -> Answer:
        self.limits.check(method, path)
        answer = await self._http.request(method, path, lands=lands, **how)
        self.limits.note(method, path, answer)
        return answer
