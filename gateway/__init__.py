"""One call over many inference backends; a task that is paid for is never lost and never paid for twice.

import gateway
run = gateway.run(gateway.Task(model="sentiment", input={"text": "VADER is smart, handsome, and funny."}))
print(run.output)
"""

from __future__ import annotations

from gateway.client import AsyncGateway
from gateway.errors import (
    ConfigError,
    CostOutcome,
    GatewayError,
    NoBackend,
    RunFailed,
    RunNotFound,
    TaskError,
    WaitTimeout,
)
from gateway.files import File
from gateway.lifecycle import Phase, Status
from gateway.limits import Limits
from gateway.sync import Gateway, run
from gateway.task import Event, Failure, FailureKind, Quote, Run, Task
from gateway.types import Money

__all__ = [
    "AsyncGateway",
    "ConfigError",
    "CostOutcome",
    "Event",
    "Failure",
    "FailureKind",
    "File",
    "Gateway",
    "GatewayError",
    "Limits",
    "Money",
    "NoBackend",
    "Phase",
    "Quote",
    "Run",
    "RunFailed",
    "RunNotFound",
    "Status",
    "Task",
    "TaskError",
    "WaitTimeout",
    "run",
]
