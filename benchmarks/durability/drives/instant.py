"""A backend that takes every job at once and has done it when it is asked: what is left is the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from gateway.adapter import Adapter, Capabilities, Feature, Landed, Recovery
from gateway.lifecycle import Status
from gateway.task import Envelope, Handle, Snapshot, Task
from gateway.types import JSON, AttemptId


class Nothing(BaseModel):
    """Nothing to configure, and nothing to say of a target."""


class Instant(Adapter[Nothing]):
    """Answers from memory, without a network.

    Attributes:
        polls: how often it was asked.
        answer: what it says then.
    """

    config_type = Nothing
    target_type = Nothing
    answer = Snapshot(status=Status.COMPLETED, output={"done": True})

    def __init__(self, name: str) -> None:
        super().__init__(name, Nothing())
        self.polls = 0

    async def capabilities(self) -> Capabilities:
        """Be well."""
        features = frozenset({Feature.RECALL})
        return Capabilities(healthy=True, version="1", features=features, poll_many=1000, free=True)

    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:  # noqa: ARG002  the seam's words
        """Put the input into an envelope."""
        now = self.clock.now()
        return Envelope(attempt_id=attempt_id, backend=self.name, payload={"in": task.input}, prepared_at=now)

    async def submit(self, envelope: Envelope) -> Handle:
        """Take it."""
        return Handle(self.name, envelope.attempt_id)

    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        """Say the same of each."""
        self.polls += 1
        return dict.fromkeys(handles, self.answer)

    async def recover(self, envelope: Envelope) -> Recovery:
        """Know every job."""
        return Landed(Handle(self.name, envelope.attempt_id))

    async def aclose(self) -> None:
        """Nothing to close."""


class Endless(Instant):
    """Takes every job and never ends one."""

    answer = Snapshot(status=Status.RUNNING)
