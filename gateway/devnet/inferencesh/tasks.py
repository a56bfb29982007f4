"""What a task is and which statuses it passes; who listens to it; the store of all of them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from gateway.devnet.inferencesh.apps import Entry
from gateway.devnet.inferencesh.clock import Clock
from gateway.devnet.inferencesh.envelopes import Problem
from gateway.types import JSON


class TaskStatus(IntEnum):
    """The API's own numbers, as the generated types of its SDKs have them."""

    UNKNOWN = 0
    RECEIVED = 1
    QUEUED = 2
    DISPATCHED = 3
    PREPARING = 4
    SERVING = 5
    SETTING_UP = 6
    RUNNING = 7
    CANCELLING = 8
    UPLOADING = 9
    COMPLETED = 10
    FAILED = 11
    CANCELLED = 12
    REJECTED = 13

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self >= TaskStatus.COMPLETED

    @property
    def text(self) -> str:
        """The name on the wire."""
        return self.name.lower()


BEFORE_RUNNING = (
    TaskStatus.DISPATCHED,
    TaskStatus.PREPARING,
    TaskStatus.SERVING,
    TaskStatus.SETTING_UP,
    TaskStatus.RUNNING,
)
LOG_OF_TASK = 4  # the `log_type` of lines that the task itself wrote


@dataclass(frozen=True, slots=True)
class Update:
    """Attributes of a task that changed together, with their values at that moment."""

    changes: Mapping[str, JSON]

    @property
    def is_final(self) -> bool:
        """Whether the task ended with this."""
        status = self.changes.get("status")
        return isinstance(status, TaskStatus) and status.is_final


@dataclass(frozen=True, slots=True)
class Delta:
    """An increment of an LLM's answer. `seq` grows by one from 0."""

    delta: JSON
    seq: int


Listener = asyncio.Queue[Update | Delta | None]
"""What one stream reads from; None says that nothing more will come."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The options of a run besides app and input, checked, as the caller gave them."""

    infra: str = "cloud"
    workers: list[str] | None = None
    setup: JSON = None
    webhook: str | None = None
    session: str | None = None
    session_timeout: int | None = None
    run_at: float | None = None
    metadata: JSON = None


@dataclass(slots=True)
class LogLine:
    """One line of a task's log."""

    id: str
    at: float
    text: str


@dataclass(slots=True, eq=False)
class TaskRecord:
    """One task. Attributes change through `change`, so that the streams hear of it."""

    id: str
    entry: Entry
    input: JSON
    request: RunRequest
    created_at: float
    status: TaskStatus
    session_id: str | None
    updated_at: float
    output: JSON = None
    error: str | None = None
    worker_id: str | None = None
    usage_events: list[JSON] = field(default_factory=list)
    events: list[tuple[TaskStatus, float]] = field(default_factory=list)
    logs: list[LogLine] = field(default_factory=list)
    listeners: set[Listener] = field(default_factory=set)
    worker: asyncio.Task[None] | None = None
    deltas: int = 0

    def change(self, at: float, **changes: JSON) -> None:
        """Set attributes and tell the streams, unless the task has ended: an ended task never changes."""
        if self.status.is_final:
            return
        status = changes.get("status")
        if status is not None:
            self.events.append((status, at))
        for name, value in changes.items():
            setattr(self, name, value)
        self.updated_at = at
        update = Update({**changes, "updated_at": at})
        self._tell(update)
        if update.is_final:
            self._tell(None)

    def publish_delta(self, delta: JSON) -> None:
        """Tell the streams one increment of the answer."""
        self._tell(Delta(delta, self.deltas))
        self.deltas += 1

    def log(self, at: float, text: str) -> None:
        """Add a line to the log."""
        self.logs.append(LogLine("log_" + secrets.token_hex(8), at, text))

    def forget(self) -> None:
        """End the task's work without an end, as when the process that held it is gone."""
        if self.worker is not None:
            self.worker.cancel()
        self._tell(None)

    def _tell(self, news: Update | Delta | None) -> None:
        for listener in self.listeners:
            listener.put_nowait(news)


class TaskStore:
    """All tasks, in the order in which they were made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[str, TaskRecord] = {}

    def make(
        self, entry: Entry, input: JSON, request: RunRequest, *, session_id: str | None, worker_id: str | None
    ) -> TaskRecord:
        """Make a task; one whose app is not admitted has already ended."""
        now = self._clock.now()
        record = TaskRecord(
            id="task_" + secrets.token_hex(10),
            entry=entry,
            input=input,
            request=request,
            created_at=now,
            updated_at=now,
            status=TaskStatus.UNKNOWN,
            session_id=session_id,
            worker_id=worker_id,
        )
        if entry.app.admitted:
            record.change(now, status=TaskStatus.RECEIVED)
        else:
            error = "payment method required: the run was refused at admission"
            record.change(now, status=TaskStatus.REJECTED, error=error)
        self._tasks[record.id] = record
        return record

    def get(self, task_id: str) -> TaskRecord:
        """Return a task, or raise Problem 404."""
        record = self._tasks.get(task_id)
        if record is None:
            raise Problem(404, "not_found", f"task {task_id} not found")
        return record

    def get_all(self) -> list[TaskRecord]:
        """Return all tasks, the oldest first."""
        return list(self._tasks.values())

    def count_running(self) -> int:
        """Return how many tasks hold a worker now."""
        return sum(
            TaskStatus.QUEUED < record.status < TaskStatus.COMPLETED for record in self._tasks.values()
        )

    def delete(self, task_id: str) -> None:
        """Delete a task that has ended; Problem 404 or 409 otherwise."""
        record = self.get(task_id)
        self.check_ended(record)
        del self._tasks[record.id]

    def check_ended(self, record: TaskRecord) -> None:
        """Raise Problem 409 while the task has not ended."""
        if not record.status.is_final:
            raise Problem(
                409, "invalid_transition", f"task {record.id} is {record.status.text}, not finished"
            )

    def forget_running(self) -> None:
        """Lose every task that has not ended."""
        for record in self.get_all():
            if not record.status.is_final:
                del self._tasks[record.id]
                record.forget()
