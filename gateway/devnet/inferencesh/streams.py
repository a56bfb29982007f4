"""The stream of a task: NDJSON for who asks for it, server-sent events for everybody else."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass

from aiohttp import web

from gateway.devnet.faults import Fault
from gateway.devnet.inferencesh.connections import abort
from gateway.devnet.inferencesh.dto import TaskEncoder
from gateway.devnet.inferencesh.tasks import Delta, Listener, TaskRecord, Update
from gateway.types import JSON

_NDJSON_TYPES = ("application/x-ndjson", "application/jsonl")


@dataclass(frozen=True, slots=True)
class StreamWriter:
    """Writes streams. A heartbeat goes out after `heartbeat_seconds` of silence; never if that is 0."""

    encoder: TaskEncoder
    heartbeat_seconds: float

    async def serve(
        self, request: web.Request, record: TaskRecord, fault: Fault | None
    ) -> web.StreamResponse:
        """Answer `GET /tasks/{id}/stream` until the task has ended or the client is gone.

        `fault` CUT_STREAM breaks the connection in the middle of the first line after the snapshot, or of the
        snapshot if the task has ended. STALL_STREAM says nothing after the snapshot of a running task, and
        nothing at all about one that has ended.
        """
        form = _choose_form(request.headers.get("Accept", ""))(self.encoder)
        answer = web.StreamResponse(headers={"Content-Type": form.content_type, "Cache-Control": "no-cache"})
        await answer.prepare(request)
        listener: Listener = asyncio.Queue()
        record.listeners.add(listener)
        ended, snapshot = record.status.is_final, form.encode(record, None)
        try:
            if ended and fault is Fault.CUT_STREAM:
                await _cut(request, answer, snapshot)
                return answer
            if self._starts_with_snapshot(fault, ended=ended):
                await answer.write(snapshot)
            if fault is Fault.STALL_STREAM:
                await asyncio.Event().wait()  # until the client or the server closes the connection
            while not ended and (news := await self._wait_for_news(answer, listener, form)) is not None:
                if fault is Fault.CUT_STREAM:
                    await _cut(request, answer, form.encode(record, news))
                    break
                await answer.write(form.encode(record, news))
        finally:
            record.listeners.discard(listener)
        return answer

    def _starts_with_snapshot(self, fault: Fault | None, *, ended: bool) -> bool:
        if ended:
            return fault is not Fault.STALL_STREAM
        return self.encoder.quirks.snapshot_on_connect

    async def _wait_for_news(
        self, answer: web.StreamResponse, listener: Listener, form: _Form
    ) -> Update | Delta | None:
        while True:
            try:
                async with asyncio.timeout(self.heartbeat_seconds or None):
                    return await listener.get()
            except TimeoutError:
                await answer.write(form.heartbeat)


@dataclass(frozen=True, slots=True)
class _Form(ABC):
    """A stream's format. `encode` writes news, or the whole task for None."""

    encoder: TaskEncoder
    content_type = ""
    heartbeat = b""

    @abstractmethod
    def encode(self, record: TaskRecord, news: Update | Delta | None) -> bytes:
        """Write news of a task."""


def _choose_form(accept: str) -> type[_Form]:
    return _Lines if any(kind in accept for kind in _NDJSON_TYPES) else _Events


class _Lines(_Form):
    """NDJSON: a task, `{data, fields}`, `{event, data}` or `{type}` on each line."""

    content_type = "application/x-ndjson"
    heartbeat = b'{"type":"heartbeat"}\n'

    def encode(self, record: TaskRecord, news: Update | Delta | None) -> bytes:
        return json.dumps(self._make_line(record, news)).encode() + b"\n"

    def _make_line(self, record: TaskRecord, news: Update | Delta | None) -> JSON:
        if isinstance(news, Delta):
            return {"event": "delta", "data": {"delta": news.delta, "seq": news.seq}}
        if news is None or (news.is_final and self.encoder.quirks.final_event == "whole"):
            return self.encoder.encode_task(record)
        return self.encoder.encode_update(news)


class _Events(_Form):
    """Server-sent events: `update`, `done` or `error` with the whole task each time."""

    content_type = "text/event-stream"
    heartbeat = b'event: heartbeat\ndata: {"type":"heartbeat"}\n\n'

    def encode(self, record: TaskRecord, news: Update | Delta | None) -> bytes:
        if isinstance(news, Delta):
            return _write_event("delta", {"delta": news.delta, "seq": news.seq})
        ended = record.status.is_final and (news is None or news.is_final)
        kind = ("done" if record.error is None else "error") if ended else "update"
        return _write_event(kind, self.encoder.encode_task(record))


def _write_event(kind: str, value: JSON) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(value)}\n\n".encode()


async def _cut(request: web.Request, answer: web.StreamResponse, line: bytes) -> None:
    await answer.write(line[: len(line) // 2])
    abort(request, reset=False)
