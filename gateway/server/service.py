"""What every handler works with: the gateway of now, the settings, the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.errors import RunNotFound
from gateway.files import parse_file
from gateway.server.callers import ANYBODY, Caller
from gateway.server.problems import LOCAL_FILE, STOPPING, Refusal
from gateway.task import Run, Task
from gateway.types import JSON

if TYPE_CHECKING:
    from gateway.client import AsyncGateway
    from gateway.clock import Clock
    from gateway.config import ServerSettings


class Service:
    """The server's parts, as handlers see them.

    Attributes:
        gateway: takes new runs in. A reload of the configuration puts another in its place.
        settings: the table [server].
        clock: the time.
        stopping: set once no new runs are taken: streams and long polls end soon after.
    """

    def __init__(self, gateway: AsyncGateway, settings: ServerSettings, clock: Clock) -> None:
        self.gateway = gateway
        self.settings = settings
        self.clock = clock
        self.stopping = asyncio.Event()
        self.on_close: list[Callable[[], None]] = []

    def find_caller(self, key: str | None) -> Caller:
        """Return whose key this is. Raises Refusal if it is nobody's."""
        del key
        return ANYBODY

    def require_open(self) -> None:
        """Raise Refusal when the server is shutting down."""
        if self.stopping.is_set():
            raise Refusal(STOPPING, "the server is shutting down", headers=[(b"retry-after", b"1")])

    async def get_run(self, caller: Caller, run_id: str) -> Run:
        """Return a run that the caller may see. Raises RunNotFound, also for another key's run."""
        run = await self.gateway.get(run_id)
        if run.api_key != caller.key and not caller.sees_all:
            raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
        return run

    async def submit(
        self, caller: Caller, task: Task, backend: str | Sequence[str] = "auto", *, key: str | None = None
    ) -> Run:
        """Take a task in for a caller.

        Args:
            caller: whose run it is.
            task: what to do.
            backend: "auto", "auto:cheapest", a name, or names in order.
            key: the caller's own idempotency key.

        Raises:
            Refusal: the server is shutting down, or the input means a file of this machine.
            GatewayError: as AsyncGateway.submit.
        """
        self.require_open()
        refuse_paths(task.input)
        return await self.gateway.submit(task, backend, idempotency_key=key, api_key=caller.key)

    async def aclose(self) -> None:
        """Finish what is being sent, give open runs back, close everything."""
        self.stopping.set()
        await self.gateway.aclose()


def refuse_paths(value: JSON) -> None:
    """Raise Refusal if an input means a file by its path: a remote caller reads no files of this machine."""
    if isinstance(value, dict):
        file = parse_file(value)
        if file is not None and file.path is not None:
            raise Refusal(
                LOCAL_FILE, "a file by its path is of another machine: send `data` or `uri` instead"
            )
        for item in value.values():
            refuse_paths(item)
    elif isinstance(value, list):
        for item in value:
            refuse_paths(item)
