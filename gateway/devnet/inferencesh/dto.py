"""Tasks as the wire shows them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from gateway.devnet.inferencesh.clock import format_time
from gateway.devnet.inferencesh.tasks import LOG_OF_TASK, TaskRecord, TaskStatus, Update
from gateway.types import JSON

TASK_FIELDS = frozenset(
    {
        "id", "short_id", "created_at", "updated_at", "status", "status_text", "app_id", "app_version_id",
        "function", "infra", "worker_id", "run_at", "webhook", "error", "session_id", "user_id", "team_id",
    }
)  # fmt: skip
"""What a task list can be filtered and sorted by: the plain columns."""


@dataclass(slots=True)
class Quirks:
    """Where the API's behaviour is not established, or differed over time.

    `statuses`: statuses are numbers, or their names. `snapshot_on_connect`: whether a stream starts with the
    whole task. `final_event`: the last event of a stream is the whole task, or only what changed, so that
    a client that does not merge loses the output.
    """

    statuses: Literal["numbers", "names"] = "numbers"
    snapshot_on_connect: bool = True
    final_event: Literal["whole", "partial"] = "whole"


class TaskEncoder:
    """Writes tasks; `quirks` may be changed at any time."""

    def __init__(self, quirks: Quirks) -> None:
        self.quirks = quirks

    def encode_status(self, status: TaskStatus) -> JSON:
        """Return a status, as number or name."""
        return int(status) if self.quirks.statuses == "numbers" else status.text

    def encode_result(self, record: TaskRecord) -> JSON:
        """Return the slim TaskResultDTO that a run answers with, with the input echoed."""
        return {
            "id": record.id,
            "short_id": record.id[-8:],
            "created_at": format_time(record.created_at),
            "updated_at": format_time(record.updated_at),
            "status": self.encode_status(record.status),
            "status_text": record.status.text,
            "input": record.input,
            "output": record.output,
            "error": record.error,
            "session_id": record.session_id,
            "run_at": None if record.request.run_at is None else format_time(record.request.run_at),
        }

    def encode_task(self, record: TaskRecord) -> JSON:
        """Return the whole TaskDTO."""
        app, request = record.entry.app, record.request
        ended = {"egress": {"bytes_out": 0, "bytes_in": 0}} if record.status.is_final else {}
        return {
            **self.encode_result(record),
            "app_id": app.id,
            "app": {"id": app.id, "namespace": app.namespace, "name": app.name},
            "app_version_id": record.entry.version_id,
            "function": record.entry.function_name,
            "infra": request.infra,
            "workers": request.workers or [],
            "worker_id": record.worker_id,
            "webhook": request.webhook,
            "setup": request.setup,
            "metadata": request.metadata,
            "rating": "unrated",
            "is_featured": False,
            "events": self._encode_events(record),
            "logs": self._encode_logs(record),
            "usage_events": record.usage_events,
            "session_timeout": request.session_timeout,
            "team_id": "team_devnet",
            "user_id": "user_devnet",
            "visibility": "private",
            **ended,
        }

    def encode_look(self, record: TaskRecord) -> JSON:
        """Return what `/status` says: the least that a poller needs."""
        return {
            "id": record.id,
            "status": self.encode_status(record.status),
            "updated_at": format_time(record.updated_at),
        }

    def encode_update(self, update: Update) -> JSON:
        """Return `{data, fields}`: a part of a TaskDTO, with nothing in it but what changed."""
        data: dict[str, JSON] = {}
        for name, value in update.changes.items():
            if name == "status":
                data |= {"status": self.encode_status(value), "status_text": value.text}
            else:
                data[name] = format_time(value) if name == "updated_at" else value
        return {"data": data, "fields": list(data)}

    def encode_logs(self, record: TaskRecord) -> JSON:
        """Return the answer of `/logs`. The content is base64, as Go writes bytes."""
        return {
            "task_id": record.id,
            "status": self.encode_status(record.status),
            "events": self._encode_events(record),
            "logs": self._encode_logs(record),
        }

    def encode_timings(self, record: TaskRecord) -> JSON:
        """Return the answer of `/timings`: how long the task stayed in each status."""
        events = []
        for (status, at), (next_status, next_at) in pairwise(record.events):
            span = _encode_span(next_at - at)
            events.append(
                {"status": status.text, "timestamp": format_time(at), **span, "next_status": next_status.text}
            )
        start, stop = record.events[0][1], record.events[-1][1]
        ran = next((at for status, at in record.events if status is TaskStatus.RUNNING), stop)
        total = _encode_span(stop - start)
        return {
            "task_id": record.id,
            "status": self.encode_status(record.status),
            "total_duration": total["duration"],
            "total_duration_ms": total["duration_ms"],
            "groups": [_encode_group("queue", start, ran), _encode_group("run", ran, stop)],
            "events": events,
        }

    def _encode_events(self, record: TaskRecord) -> JSON:
        return [
            {
                "id": f"{record.id}_{number}",
                "created_at": format_time(at),
                "event_time": format_time(at),
                "task_id": record.id,
                "status": self.encode_status(status),
            }
            for number, (status, at) in enumerate(record.events)
        ]

    def _encode_logs(self, record: TaskRecord) -> JSON:
        return [
            {
                "id": line.id,
                "created_at": format_time(line.at),
                "updated_at": format_time(line.at),
                "task_id": record.id,
                "log_type": LOG_OF_TASK,
                "content": base64.b64encode(line.text.encode()).decode(),
            }
            for line in record.logs
        ]


def _encode_group(label: str, start: float, stop: float) -> JSON:
    times = {"start_at": format_time(start), "end_at": format_time(stop)}
    return {"label": label, **times, **_encode_span(stop - start)}


def _encode_span(seconds: float) -> dict[str, JSON]:
    return {"duration": f"{seconds:.3f}s", "duration_ms": round(seconds * 1000)}
