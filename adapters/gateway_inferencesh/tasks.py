"""What can be done with a task beside running it."""

from __future__ import annotations

from typing import Literal

from gateway.types import JSON
from gateway_inferencesh.api import Api, make_path
from gateway_inferencesh.snapshots import parse_logs


class Tasks:
    """The tasks of an account, by the job ids of their handles. Each raises BackendError."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def fetch(self, job_id: str) -> dict[str, JSON]:
        """Return the whole task as the API shows it."""
        return await self._api.fetch_task(job_id)

    async def fetch_logs(self, job_id: str) -> list[JSON]:
        """Return its log as `{log_type, content}`, content as text."""
        path = make_path("tasks", job_id, "logs")
        answer = await self._api.call("GET", path, what=f"logs of task {job_id}", job_id=job_id)
        return parse_logs(answer.data.get("logs") if isinstance(answer.data, dict) else answer.data)

    async def fetch_timings(self, job_id: str) -> dict[str, JSON]:
        """Return how long it was in each status."""
        path = make_path("tasks", job_id, "timings")
        return await self._api.fetch_object("GET", path, what=f"timings of task {job_id}", job_id=job_id)

    async def fetch_files(self, job_id: str, role: Literal["input", "output"] | None = None) -> list[JSON]:
        """Return its files as `{id, role, uri, filename, content_type, size, created_at}`."""
        path = make_path("tasks", job_id, "files")
        params = {"role": role} if role else None
        return await self._api.fetch_list("GET", path, what=f"files of task {job_id}", params=params)

    async def delete_files(
        self, job_id: str, role: Literal["input", "output"] | None = None
    ) -> dict[str, JSON]:
        """Delete its files; returns `{deleted: [id], skipped: [{id, reason}]}`."""
        path = make_path("tasks", job_id, "files")
        params = {"role": role} if role else None
        what = f"delete the files of task {job_id}"
        return await self._api.fetch_object("DELETE", path, what=what, params=params, job_id=job_id)

    async def delete(self, job_id: str, *, files: bool = False) -> None:
        """Delete a task that has ended, with its files if wanted. Rejected (409) while it runs."""
        params = {"files": "true"} if files else None
        path = make_path("tasks", job_id)
        await self._api.call("DELETE", path, what=f"delete task {job_id}", params=params, job_id=job_id)
