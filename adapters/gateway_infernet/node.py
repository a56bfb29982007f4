"""The REST API of a node, endpoint by endpoint, each within its own rate limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from gateway.clock import Clock
from gateway.errors import BackendError, Throttled, Unavailable
from gateway.http import Answer, HttpClient, StreamAnswer
from gateway.types import JSON
from gateway_infernet import wire
from gateway_infernet.config import InfernetConfig
from gateway_infernet.pacing import Budget, parse_wait

# The node closes an idle connection after 5.0 s, without a word.
_KEEPALIVE_SECONDS = 4.0
_RESOURCES_SECONDS = 5.0
_MAX_CONNECTIONS = 1000  # each open stream holds one; all else needs a handful
# A stream may be silent for as long as the node lets it live, which is a minute.
_STREAM_SECONDS = 75.0

JOBS = "/api/jobs"
BATCH = "/api/jobs/batch"
STREAM = "/api/jobs/stream"


class Node:
    """One Infernet node over HTTP. Nothing is repeated here but a GET that met a stale socket."""

    def __init__(self, name: str, config: InfernetConfig, clock: Clock, client: Any) -> None:
        """Make it without I/O."""
        self.name = name
        self._clock = clock
        self._http = HttpClient(
            name,
            config.url,
            timeout_seconds=config.timeout_seconds,
            keepalive_seconds=_KEEPALIVE_SECONDS,
            max_connections=_MAX_CONNECTIONS,
            client=client,
        )
        self._budgets: defaultdict[tuple[str, str], Budget] = defaultdict(Budget)

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
        answer = await self._call("POST", JOBS, lands=True, json=body)
        if answer.status != 200:
            raise wire.make_refusal(answer, "POST /api/jobs", backend=self.name, lands=True, job_id=job_id)
        return answer

    async def post_batch(
        self, ids: Sequence[str], bodies: Sequence[bytes]
    ) -> list[str | BackendError] | None:
        """POST /api/jobs/batch: an id or an error for each job; None if all were refused unread."""
        what = "POST /api/jobs/batch"
        answer = await self._call("POST", BATCH, lands=True, json=b"[" + b",".join(bodies) + b"]")
        if answer.status == 200:
            return wire.parse_batch(answer, ids, what, backend=self.name)
        if wire.is_never_started(answer):
            return None
        raise wire.make_refusal(answer, what, backend=self.name, lands=True)

    def spares_single_posts(self) -> bool:
        """Say whether a job alone had better go as a batch: each of the two endpoints has its own limit."""
        now = self._clock.monotonic()
        single, batch = (self._budgets["POST", path].get_wait(now) for path in (JOBS, BATCH))
        return batch < single

    async def open_stream(self, job_id: str, body: bytes) -> StreamAnswer:
        """POST /api/jobs/stream and return the 200, whose body is still to come; the caller closes it."""
        self._check_budget("POST", STREAM)
        answer = await self._http.open_stream(
            "POST", STREAM, lands=True, json=body, timeout_seconds=_STREAM_SECONDS
        )
        if answer.status == 200:
            self._note("POST", STREAM, answer)
            return answer
        try:
            whole = await answer.aread()
        except Unavailable:  # the status alone must do
            whole = Answer(answer.status, answer.headers, b"")
        finally:
            await answer.aclose()
        self._note("POST", STREAM, whole)
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

    async def _call(
        self, method: Literal["GET", "POST", "PUT"], path: str, *, lands: bool, **how: Any
    ) -> Answer:
        self._check_budget(method, path)
        answer = await self._http.request(method, path, lands=lands, **how)
        self._note(method, path, answer)
        return answer

    def _check_budget(self, method: str, path: str) -> None:
        wait = self._budgets[method, path].get_wait(self._clock.monotonic())
        if wait > timedelta(0):
            raise Throttled(
                f"the limit for {method} {path} is nearly used up; {wait.total_seconds():.1f} s to wait",
                backend=self.name,
                retry_after=wait,
            )

    def _note(self, method: str, path: str, answer: Answer | StreamAnswer) -> None:
        now = self._clock.monotonic()
        self._budgets[method, path].note(answer.headers, answer.status, now)
        if answer.status == 429:
            if (method, path) == ("POST", JOBS):  # who is told to wait does not come in by the other door
                self._budgets["POST", BATCH].note(answer.headers, answer.status, now)
            raise Throttled(
                f"{method} {path}: too many requests from our address",
                backend=self.name,
                http_status=429,
                retry_after=parse_wait(answer.headers),
            )
