"""The routes of runs and tasks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from aiohttp import web

from gateway.devnet.faults import Accepted, Faults, Operation
from gateway.devnet.inferencesh.account import Throttle
from gateway.devnet.inferencesh.admission import Admission
from gateway.devnet.inferencesh.clock import format_time
from gateway.devnet.inferencesh.dto import TASK_FIELDS, TaskEncoder
from gateway.devnet.inferencesh.envelopes import Problem, make_answer, read_object
from gateway.devnet.inferencesh.files import FileStore, StoredFile
from gateway.devnet.inferencesh.listing import list_page
from gateway.devnet.inferencesh.misbehaviour import STREAM_FAULTS
from gateway.devnet.inferencesh.runner import Runner
from gateway.devnet.inferencesh.streams import StreamWriter
from gateway.devnet.inferencesh.tasks import Listener, TaskRecord, TaskStatus, TaskStore
from gateway.types import JSON


@dataclass(frozen=True, slots=True)
class RunRoutes:
    """The two ways to run."""

    admission: Admission
    runner: Runner
    encoder: TaskEncoder
    throttle: Throttle
    journal: list[Accepted]

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_post("/apps/run", self.run)
        router.add_post("/run", self.run_and_wait)

    async def run(self, request: web.Request) -> web.Response:
        """`POST /apps/run`: the slim result, at once."""
        record, headers = await self._submit(request)
        messages = []
        if record.entry.app.status == "deprecated":
            text = f"{record.entry.app.ref} is deprecated"
            messages.append({"level": "warning", "code": "app_deprecated", "message": text})
        return make_answer(request, self.encoder.encode_result(record), messages=messages, headers=headers)

    async def run_and_wait(self, request: web.Request) -> web.Response:
        """`POST /run[?wait=false]`: the whole task, when it has ended unless told not to wait."""
        record, headers = await self._submit(request)
        if request.query.get("wait", "true").lower() not in ("false", "0"):
            await _wait_for_end(record)
        return make_answer(request, self.encoder.encode_task(record), headers=headers)

    async def _submit(self, request: web.Request) -> tuple[TaskRecord, dict[str, str]]:
        headers = self.throttle.admit()
        record = self.admission.admit(await read_object(request))
        if record.entry.app.admitted:
            self.journal.append(Accepted(record.id, record.input, time.time()))
        self.runner.start(record)
        return record, headers


@dataclass(frozen=True, slots=True)
class TaskRoutes:
    """Everything under `/tasks` but its files."""

    tasks: TaskStore
    runner: Runner
    files: FileStore
    encoder: TaskEncoder
    streams: StreamWriter
    faults: Faults

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_post("/tasks/list", self.show_list)
        router.add_get("/tasks/{id}", self.show)
        router.add_delete("/tasks/{id}", self.delete)
        router.add_get("/tasks/{id}/status", self.look)
        router.add_get("/tasks/{id}/stream", self.stream)
        router.add_post("/tasks/{id}/cancel", self.cancel)
        router.add_get("/tasks/{id}/logs", self.logs)
        router.add_get("/tasks/{id}/timings", self.timings)

    async def show(self, request: web.Request) -> web.Response:
        """`GET /tasks/{id}`: the whole task."""
        return make_answer(request, self.encoder.encode_task(self._get(request)))

    async def look(self, request: web.Request) -> web.Response:
        """`GET /tasks/{id}/status`."""
        return make_answer(request, self.encoder.encode_look(self._get(request)))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """`GET /tasks/{id}/stream`."""
        record = self._get(request)
        fault = self.faults.take(Operation.STREAM, *STREAM_FAULTS)
        return await self.streams.serve(request, record, fault)

    async def cancel(self, request: web.Request) -> web.Response:
        """`POST /tasks/{id}/cancel` with optional `{force, timeout}`, the timeout in seconds."""
        record = self._get(request)
        body = await read_object(request)
        timeout = body.get("timeout")
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 0):
            raise Problem(400, "validation_error", "timeout has to be a number of seconds")
        self.runner.cancel(record, force=body.get("force") is True, timeout_seconds=timeout)
        return web.Response(status=204)

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE /tasks/{id}[?files=true]`: only of a task that has ended."""
        record = self._get(request)
        self.tasks.delete(record.id)
        if request.query.get("files") == "true":
            for _, file in find_task_files(self.files, record):
                self.files.delete(file.id)
        return web.Response(status=204)

    async def show_list(self, request: web.Request) -> web.Response:
        """`POST /tasks/list`."""
        items = [self.encoder.encode_task(record) for record in self.tasks.get_all()]
        body = await read_object(request)
        return make_answer(request, list_page(items, body, fields=TASK_FIELDS, read_value=self._read_status))

    async def logs(self, request: web.Request) -> web.Response:
        """`GET /tasks/{id}/logs`."""
        return make_answer(request, self.encoder.encode_logs(self._get(request)))

    async def timings(self, request: web.Request) -> web.Response:
        """`GET /tasks/{id}/timings`."""
        return make_answer(request, self.encoder.encode_timings(self._get(request)))

    def _get(self, request: web.Request) -> TaskRecord:
        return self.tasks.get(request.match_info["id"])

    def _read_status(self, field: str, value: JSON) -> JSON:
        known = {status.text: status for status in TaskStatus} | {
            int(status): status for status in TaskStatus
        }
        return self.encoder.encode_status(known[value]) if field == "status" and value in known else value


@dataclass(frozen=True, slots=True)
class TaskFileRoutes:
    """The files of a task."""

    tasks: TaskStore
    files: FileStore

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/tasks/{id}/files", self.list_files)
        router.add_delete("/tasks/{id}/files", self.delete_files)

    async def list_files(self, request: web.Request) -> web.Response:
        """`GET /tasks/{id}/files[?role=input|output]`."""
        found = self._find(request)
        return make_answer(request, [self._encode_file(role, file) for role, file in found])

    async def delete_files(self, request: web.Request) -> web.Response:
        """`DELETE /tasks/{id}/files[?role=]`: the task stays."""
        self.tasks.check_ended(self.tasks.get(request.match_info["id"]))
        deleted = [file.id for _, file in self._find(request)]
        for file_id in deleted:
            self.files.delete(file_id)
        return make_answer(request, {"deleted": deleted, "skipped": []})

    def _find(self, request: web.Request) -> list[tuple[str, StoredFile]]:
        record, wanted = self.tasks.get(request.match_info["id"]), request.query.get("role")
        return [(role, file) for role, file in find_task_files(self.files, record) if wanted in (None, role)]

    def _encode_file(self, role: str, file: StoredFile) -> JSON:
        return {
            "id": file.id,
            "created_at": format_time(file.created_at),
            "role": role,
            "uri": self.files.make_uri(file),
            "filename": file.filename,
            "content_type": file.content_type,
            "size": len(file.content or b""),
        }


def find_task_files(files: FileStore, record: TaskRecord) -> list[tuple[str, StoredFile]]:
    """Return the files that a task names, each once, with the role it has: input or output."""
    found = {file.id: ("output", file) for file in files.find(record.output)}
    found |= {file.id: ("input", file) for file in files.find(record.input)}
    return list(found.values())


async def _wait_for_end(record: TaskRecord) -> None:
    listener: Listener = asyncio.Queue()
    record.listeners.add(listener)
    try:
        while not record.status.is_final and await listener.get() is not None:
            pass
    finally:
        record.listeners.discard(listener)
