"""What queue.example says, and what that means. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from gateway.lifecycle import Status
from gateway.task import Failure, FailureKind, Handle, Snapshot
from pydantic import BaseModel


class State(StrEnum):
    """The queue's own words for where a job is."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    BROKEN = "broken"
    STOPPED = "stopped"


STATUS: Mapping[State, Status] = {
    State.WAITING: Status.QUEUED,
    State.WORKING: Status.RUNNING,
    State.DONE: Status.COMPLETED,
    State.BROKEN: Status.FAILED,
    State.STOPPED: Status.CANCELLED,
}

FAILURE: Mapping[State, FailureKind] = {
    State.BROKEN: FailureKind.JOB,
    State.STOPPED: FailureKind.CANCELLED,
}


class Health(BaseModel):
    """GET /health."""

    version: str
    apps: frozenset[str]


class Job(BaseModel):
    """One job. A state that is not ours to know is an error of the queue, and not a guess."""

    id: str
    state: State
    output: Any = None
    error: str | None = None


class Jobs(BaseModel):
    """GET /jobs?ids=a,b: those that the queue knows, in any order."""

    jobs: list[Job]


def parse_job(job: Job, backend: str) -> Snapshot:
    """Say a job in the gateway's words."""
    failure = None
    if job.state in FAILURE:
        message = job.error or f"the job is {job.state}"
        failure = Failure(kind=FAILURE[job.state], message=message, backend=backend, job_id=job.id)
    return Snapshot(status=STATUS[job.state], output=job.output, failure=failure)


def make_lost(handle: Handle) -> Snapshot:
    """Say that the queue does not know a job which it had accepted."""
    message = f"the queue knows no job {handle.job_id}"
    failure = Failure(kind=FailureKind.LOST, message=message, backend=handle.backend, job_id=handle.job_id)
    return Snapshot(status=Status.FAILED, failure=failure)
