"""This gateway: the three steps are those of an adapter. Words: the orders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from benchmarks.kill_matrix.peers.work import NOT_TAKEN_IN, Orders, Work, read_orders, tell
from gateway import AsyncGateway, Task
from gateway.adapter import Adapter, Capabilities, Feature, Landed, NotLanded, Recovery, Unknown
from gateway.lifecycle import Status
from gateway.limits import Limits
from gateway.store import make_store
from gateway.store.protocol import RunFilter
from gateway.task import Envelope, Handle, Run, Snapshot
from gateway.types import JSON, AttemptId

_LOOK_SECONDS = 0.05
_DOUBT_SECONDS = 2.0


class Nothing(BaseModel):
    """Nothing to configure, and nothing to say of a target."""


class Counted(Adapter[Nothing]):
    """The backend that counts."""

    config_type = Nothing
    target_type = Nothing

    def __init__(self, work: Work) -> None:
        super().__init__("counted", Nothing())
        self._work = work

    async def capabilities(self) -> Capabilities:
        """Be well; it can be asked what became of a submission, or can't."""
        features = frozenset({Feature.RECALL}) if self._work.orders.asks else frozenset()
        return Capabilities(healthy=True, version="1", features=features, poll_many=1, free=True)

    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:  # noqa: ARG002  the seam's words
        """Make what is submitted."""
        payload = {"text": self._work.prepare()}
        return Envelope(
            attempt_id=attempt_id, backend=self.name, payload=payload, prepared_at=self.clock.now()
        )

    async def submit(self, envelope: Envelope) -> Handle:
        """Begin a job."""
        return Handle(self.name, await asyncio.to_thread(self._work.submit, envelope.attempt_id))

    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        """Fetch the results."""
        found = [await asyncio.to_thread(self._work.collect, handle.job_id) for handle in handles]
        return {
            handle: Snapshot(status=Status.COMPLETED, output=output)
            for handle, output in zip(handles, found, strict=True)
        }

    async def recover(self, envelope: Envelope) -> Recovery:
        """Ask, where that can be done."""
        if not self._work.orders.asks:
            return Unknown("it can't be asked")
        if await asyncio.to_thread(self._work.is_there, envelope.attempt_id):
            return Landed(Handle(self.name, envelope.attempt_id))
        return NotLanded()

    async def aclose(self) -> None:
        """Nothing to close."""


async def main(orders: Orders) -> None:
    """Make the call, or go on with it."""
    store = make_store(orders.store)
    limits = Limits.model_validate({"doubt_wait": _DOUBT_SECONDS})
    async with AsyncGateway([Counted(Work(orders))], store=store, limits=limits) as gateway:
        if orders.role == "call":
            await gateway.run(Task(target={}, input=orders.key), "counted", idempotency_key=orders.key)
        while True:
            runs = await store.list_runs(RunFilter(idempotency_key=orders.key))
            if not runs or runs[0].status.is_final:
                tell(_describe(runs[0]) if runs else NOT_TAKEN_IN)
                return
            await asyncio.sleep(_LOOK_SECONDS)


def _describe(run: Run) -> str:
    if run.status is Status.COMPLETED:
        return "finished"
    return "in doubt" if run.failure and run.failure.kind == "unresolved" else f"failed: {run.failure}"


if __name__ == "__main__":
    asyncio.run(main(read_orders()))
