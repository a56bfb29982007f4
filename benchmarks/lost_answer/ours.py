"""The rows of this gateway: each adapter, with a second backend of its kind to fall back to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from benchmarks.lost_answer.cells import TIMEOUT_SECONDS, Cell, Row
from benchmarks.lost_answer.chain_ours import OgpuServer, is_publication, make_ogpu, make_ogpu_target
from benchmarks.lost_answer.losses import IsSubmission, Loss, LossyProxy, is_post
from gateway import AsyncGateway, Task
from gateway.adapter import Adapter
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


class Server(Protocol):
    """What takes the jobs."""

    name: str

    @property
    def url(self) -> str:
        """Where its submissions go."""

    async def start(self) -> None:
        """Listen on loopback."""

    async def stop(self) -> None:
        """Stop listening."""


async def count_journal(server: Any) -> int:
    """Count the jobs that a stand-in has taken."""
    return len(server.journal)


@dataclass(frozen=True, slots=True)
class Kind:
    """One adapter: what stands in for its backend, and how to reach that.

    Attributes:
        name: the adapter's.
        make_server: from a backend's name.
        make_adapter: from a server that is started, and the address to reach it by.
        make_target: what is run at that server.
        is_submission: which of its requests start a job.
        count_jobs: how many a server has taken.
    """

    name: str
    make_server: Callable[[str], Server]
    make_adapter: Callable[[Any, str], Adapter[Any]]
    make_target: Callable[[Any], dict[str, JSON]]
    is_submission: IsSubmission
    count_jobs: Callable[[Any], Awaitable[int]] = count_journal


def _make_infernet(server: Server, url: str) -> InfernetAdapter:
    return InfernetAdapter(server.name, InfernetConfig(url=url, timeout_seconds=TIMEOUT_SECONDS))


def _make_inferencesh(server: Server, url: str) -> InferenceshAdapter:
    config = {"url": url, "api_key": "inf_devnet", "timeout_seconds": TIMEOUT_SECONDS}
    return InferenceshAdapter(server.name, InferenceshConfig.model_validate(config))


# Another adapter joins by one more line; where all requests go to one path, `is_submission` reads the body.
KINDS = (
    Kind(
        "infernet",
        InfernetNode,
        _make_infernet,
        lambda _server: {"containers": ["echo"]},
        partial(is_post, r"/api/jobs(/batch|/stream)?"),
    ),
    Kind(
        "inferencesh",
        InferenceshApi,
        _make_inferencesh,
        lambda _server: {"app": "demo/echo"},
        partial(is_post, r"(/apps)?/run"),
    ),
    Kind("ogpu", OgpuServer, make_ogpu, make_ogpu_target, is_publication, OgpuServer.count_jobs),
)


async def measure_ours(kind: Kind, version: str) -> Row:
    """Make one call under each loss."""
    cells = {loss: await measure_cell(kind, loss) for loss in Loss}
    return Row(f"this gateway {version}, {kind.name}", "defaults, one fallback backend", cells)


async def measure_cell(kind: Kind, loss: Loss, doubt_wait: timedelta = DOUBT_WAIT) -> Cell:
    """Make one call to two backends, both of which lose every answer to a submission."""
    async with AsyncExitStack() as stack:
        servers = [kind.make_server(name) for name in NAMES]
        adapters: list[Adapter[Any]] = []
        for server in servers:
            await server.start()
            stack.push_async_callback(server.stop)
            proxy = await stack.enter_async_context(LossyProxy(server.url, kind.is_submission, loss))
            adapters.append(kind.make_adapter(server, proxy.url))
        models = {"echo": {"targets": {server.name: kind.make_target(server) for server in servers}}}
        gateway = await stack.enter_async_context(AsyncGateway(adapters, models))
        task = Task(model="echo", input={"text": "hello"}, limits=Limits(doubt_wait=doubt_wait))
        began = time.monotonic()
        try:
            run = await gateway.run(task, NAMES, timeout=_LIMIT_SECONDS)
        except RunFailed as failed:
            run = failed.run
        seconds = time.monotonic() - began
        told, is_known = describe(run)
        accepted = sum([await kind.count_jobs(server) for server in servers])
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
