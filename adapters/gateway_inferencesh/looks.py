"""Looking at the account and at its tasks, without changing anything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import BackendError, Rejected, Throttled
from gateway.lifecycle import Status
from gateway.task import Handle, Snapshot
from gateway.types import JSON
from gateway_inferencesh.api import Api, make_path
from gateway_inferencesh.errors import KeyRefused
from gateway_inferencesh.snapshots import make_lost, make_snapshot
from gateway_inferencesh.wire import parse_status

POLL_AT_ONCE = 16

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the account can be used: yes if there is no reason, or if the reason is one to live with."""

    reason: str | None = None
    is_usable: bool = False
    balance: JSON = None


async def check_health(api: Api) -> Health:
    """Ask for the balance or, where the key is too narrow or the API too small for that, for one task."""
    try:
        told = await api.fetch_object("GET", "/billing/balance", what="health check")
        return Health(balance=told.get("balance"))
    except BackendError as error:
        if error.http_status not in (403, 404) or str(error.code).startswith("account_"):
            return _make_ill(error)
    try:
        await api.fetch_object("POST", "/tasks/list", what="health check", json={"limit": 1})
    except BackendError as error:
        if error.code == "insufficient_scope":
            return Health("the API key is good, and may not read tasks", is_usable=True)
        return _make_ill(error)
    return Health()


def _make_ill(error: BackendError) -> Health:
    return Health("the API key is refused" if isinstance(error, KeyRefused) else error.message)


class Looks:
    """Looks at tasks."""

    def __init__(self, api: Api, microcents_per_usd: int) -> None:
        self._api = api
        self._microcents_per_usd = microcents_per_usd

    async def fetch_snapshots(self, handles: Sequence[Handle]) -> dict[Handle, Snapshot]:
        """Look at many tasks, several at a time; see the adapter's `poll`."""
        slots = asyncio.Semaphore(POLL_AT_ONCE)
        news: dict[Handle, Snapshot] = {}
        errors: list[BackendError] = []

        async def look(handle: Handle) -> None:
            async with slots:
                if any(isinstance(error, Throttled) for error in errors):
                    return  # to ask on would only prolong the wait
                try:
                    snapshot = await self.fetch_snapshot(handle.job_id)
                except BackendError as error:
                    errors.append(error)
                else:
                    news.update({} if snapshot is None else {handle: snapshot})

        async with asyncio.TaskGroup() as group:
            for handle in dict.fromkeys(handles):
                group.create_task(look(handle))
        if errors and not news:
            raise next((error for error in errors if isinstance(error, Throttled)), errors[0])
        return news

    async def fetch_snapshot(self, job_id: str) -> Snapshot | None:
        """Look at one task by its light status, and at all of it once it has ended; None: no news."""
        try:
            status = await self.fetch_status(job_id)
            if status is None:
                return None
            if not status.is_final:
                return Snapshot(status=status)
        except Rejected as error:
            if error.http_status != 404:
                raise  # else the task itself has to say that it is gone
        try:
            task = await self._api.fetch_task(job_id)
        except Rejected as error:
            if error.http_status != 404:
                raise
            return make_lost(job_id, self._api.backend)
        return make_snapshot(task, backend=self._api.backend, microcents_per_usd=self._microcents_per_usd)

    async def fetch_status(self, job_id: str) -> Status | None:
        """Return the status of a task; None for one that says nothing or was never heard of."""
        look: Mapping[str, JSON] = await self._api.fetch_object(
            "GET", make_path("tasks", job_id, "status"), what=f"task {job_id}", job_id=job_id
        )
        status = parse_status(look.get("status"))
        if status is None:
            _logger.warning("%s: task %s has the status %r", self._api.backend, job_id, look.get("status"))
        return status
