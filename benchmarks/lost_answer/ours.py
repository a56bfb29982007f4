"""The rows of this gateway: each adapter, with a second backend of its kind to fall back to."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from benchmarks.lost_answer.cells import TIMEOUT_SECONDS, Cell, Row
from benchmarks.lost_answer.losses import IsSubmission, Loss, LossyProxy, is_post
from gateway import AsyncGateway, Task
from gateway.adapter import Adapter
from gateway.devnet.faults import StandIn
from gateway.devnet.inferencesh import InferenceshApi
from gateway.devnet.infernet import InfernetNode
from gateway.errors import RunFailed
from gateway.lifecycle import Status
from gateway.limits import Limits
from gateway.task import FailureKind, Run
from gateway.types import JSON
from gateway_inferencesh import InferenceshAdapter, InferenceshConfig
from gateway_infernet import InfernetAdapter, InfernetConfig

NAMES = ("first", "second")
DOUBT_WAIT = timedelta(seconds=10)
_LIMIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One adapter: what stands in for its backend, and how to reach that.

    Attributes:
        name: the adapter's.
        make_stand_in: from a backend's name.
        make_adapter: from a backend's name and its address.
        target: what is run.
        is_submission: which of its requests start a job.
    """

    name: str
    make_stand_in: Callable[[str], StandIn]
    make_adapter: Callable[[str, str], Adapter[Any]]
    target: dict[str, JSON]
    is_submission: IsSubmission


def _make_infernet(name: str, url: str) -> InfernetAdapter:
    return InfernetAdapter(name, InfernetConfig(url=url, timeout_seconds=TIMEOUT_SECONDS))


def _make_inferencesh(name: str, url: str) -> InferenceshAdapter:
    config = {"url": url, "api_key": "inf_devnet", "timeout_seconds": TIMEOUT_SECONDS}
    return InferenceshAdapter(name, InferenceshConfig.model_validate(config))


# Another adapter joins by one more line; where all requests go to one path, `is_submission` reads the body.
KINDS = (
    Kind(
        "infernet",
        InfernetNode,
        _make_infernet,
        {"containers": ["echo"]},
        partial(is_post, r"/api/jobs(/batch|/stream)?"),
    ),
    Kind(
        "inferencesh",
        InferenceshApi,
        _make_inferencesh,
        {"app": "demo/echo"},
        partial(is_post, r"(/apps)?/run"),
    ),
)


async def measure_ours(kind: Kind, version: str) -> Row:
    """Make one call under each loss."""
    cells = {loss: await measure_cell(kind, loss) for loss in Loss}
    return Row(f"this gateway {version}, {kind.name}", "defaults, one fallback backend", cells)


async def measure_cell(kind: Kind, loss: Loss, doubt_wait: timedelta = DOUBT_WAIT) -> Cell:
    """Make one call to two backends, both of which lose every answer to a submission."""
    async with AsyncExitStack() as stack:
        stand_ins = [kind.make_stand_in(name) for name in NAMES]
        adapters: list[Adapter[Any]] = []
        for name, stand_in in zip(NAMES, stand_ins, strict=True):
            await stand_in.start()
            stack.push_async_callback(stand_in.stop)
            proxy = await stack.enter_async_context(LossyProxy(stand_in.url, kind.is_submission, loss))
            adapters.append(kind.make_adapter(name, proxy.url))
        models = {"echo": {"targets": dict.fromkeys(NAMES, kind.target)}}
        gateway = await stack.enter_async_context(AsyncGateway(adapters, models))
        task = Task(model="echo", input={"text": "hello"}, limits=Limits(doubt_wait=doubt_wait))
        began = time.monotonic()
        try:
            run = await gateway.run(task, NAMES, timeout=_LIMIT_SECONDS)
        except RunFailed as failed:
            run = failed.run
        seconds = time.monotonic() - began
        told, is_known = describe(run)
        accepted = sum(len(stand_in.journal) for stand_in in stand_ins)
        return Cell(accepted, told, seconds, kept=accepted == 1 and is_known)


def describe(run: Run) -> tuple[str, bool]:
    """Say what the caller got, and whether the job is in the caller's hands: finished, or named."""
    if run.status is Status.COMPLETED:
        return "finished", True
    failure, attempt = run.failure, run.attempt
    if failure is None or attempt is None:
        return run.status.name.lower(), False
    if failure.kind is FailureKind.UNRESOLVED:
        named = isinstance(failure.detail, dict) and failure.detail.get("attempt_id") == attempt.id
        return ("in doubt, with its handle" if named else "in doubt, without a handle"), named
    return f"failed: {failure.kind}", False
