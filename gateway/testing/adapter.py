"""A complete adapter in memory, scripted by its backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.adapter import (
    Adapter,
    CancelOutcome,
    Capabilities,
    Feature,
    Landed,
    NotLanded,
    Recovery,
    Unknown,
)
from gateway.clock import Clock
from gateway.errors import (
    InDoubt,
    InvalidInput,
    Misbehaved,
    NotSupported,
    Rejected,
    Throttled,
    Unavailable,
)
from gateway.lifecycle import Status
from gateway.task import Envelope, Event, Handle, Quote, Snapshot, Task
from gateway.testing.backend import FakeBackend, Fault
from gateway.types import JSON, AttemptId

DEFAULT_FEATURES = frozenset({Feature.CANCEL, Feature.RECALL})


class FakeConfig(BaseModel):
    """How the adapter behaves, whatever its backend does.

    Attributes:
        latency_seconds: how long each operation takes on the adapter's clock.
        poll_many: handles per poll.
        features: as Capabilities tells them; the backend alone decides about "quote" and "accept".
    """

    model_config = ConfigDict(extra="forbid")

    latency_seconds: float = 0.0
    poll_many: int = 100
    features: frozenset[Feature] = DEFAULT_FEATURES


class FakeTarget(BaseModel):
    """What to run: any app."""

    model_config = ConfigDict(extra="forbid")

    app: str = "echo"


class FakeAdapter(Adapter[FakeConfig]):
    """An adapter whose backend is an object; `adapter.arm("lose_answer")` makes it fail once.

    Further keywords make the backend: `FakeAdapter("a", clock=clock, answer=str.upper, steps=[...])`.

    Attributes:
        backend: what outlives the adapter; give it to another one to play a restart of the gateway.
        accepted: the attempt ids whose submissions the backend accepted, in order, with repetitions.
        calls: how often each operation was called, "submit" and "poll" among them.
        arm: lets a Fault happen.
        closed: how often aclose was called.
    """

    config_type = FakeConfig
    target_type = FakeTarget

    def __init__(
        self,
        name: str = "fake",
        config: FakeConfig | None = None,
        *,
        clock: Clock | None = None,
        client: object = None,  # noqa: ARG002  every adapter can be made with one; this has no HTTP
        backend: FakeBackend | None = None,
        pieces: Callable[[JSON], Sequence[JSON | bytes]] | None = None,
        **scripted: Any,
    ) -> None:
        """Make it on a backend of its own, or on a shared one.

        Args:
            name: the backend's name in the configuration.
            config: see FakeConfig.
            clock: whose time passes.
            client: nothing is done with it.
            backend: an existing one; then no `scripted` words are taken.
            pieces: what `events` hands out before the final snapshot, from the job's input.
            scripted: fields of FakeBackend.
        """
        super().__init__(name, config or FakeConfig(), clock=clock)
        if backend is not None and scripted:
            raise TypeError(f"the shared backend is made already: {', '.join(scripted)}")
        self.backend = backend or FakeBackend(clock=self.clock, **scripted)
        self.accepted = self.backend.accepted
        self.calls = self.backend.calls
        self.arm = self.backend.arm
        self.pieces = pieces
        self.closed = 0

    @property
    def features(self) -> frozenset[Feature]:
        """Return what this adapter can do."""
        of_backend = {
            Feature.QUOTE: self.backend.price is not None,
            Feature.ACCEPT: self.backend.wants_accepting,
        }
        there = {feature for feature, is_there in of_backend.items() if is_there}
        return self.config.features - set(of_backend) | there

    async def capabilities(self) -> Capabilities:
        """Answer at once; a backend that is down is not healthy."""
        self.backend.calls["capabilities"] += 1
        await self.clock.sleep(self.config.latency_seconds)
        return Capabilities(
            healthy=not self.backend.is_down,
            version="1",
            features=self.features,
            poll_many=self.config.poll_many,
            free=self.backend.price is None,
            reason="it is down" if self.backend.is_down else None,
        )

    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        """Put the input into an envelope. Raises InvalidInput for words that are not FakeTarget's."""
        await self._call("prepare")
        try:
            app = FakeTarget.model_validate(target).app
        except ValidationError as error:
            raise InvalidInput(f"{self.name}: the target is wrong: {error}") from error
        if self.backend.take(Fault.REFUSE_PREPARE):
            raise Unavailable("nothing can be prepared", backend=self.name)
        payload = {"app": app, "input": task.input}
        return Envelope(
            attempt_id=attempt_id, backend=self.name, payload=payload, prepared_at=self.clock.now()
        )

    async def submit(self, envelope: Envelope) -> Handle:
        """Start the job, or accept its answer."""
        await self._call("submit")
        take = self.backend.take
        if take(Fault.REFUSE):
            raise Unavailable("connection refused", backend=self.name)
        if take(Fault.REJECT) or self.backend.refuses(envelope.payload.get("input")):
            raise Rejected("it does not want this", backend=self.name, code="no")
        if take(Fault.THROTTLE):
            raise _make_throttled(self)
        if take(Fault.LOSE_REQUEST):
            raise InDoubt("the connection broke", backend=self.name)
        handle = Handle(self.name, self.backend.land(envelope))
        if take(Fault.LOSE_ANSWER):
            raise InDoubt("the connection broke", backend=self.name)
        if take(Fault.MISBEHAVE):
            raise Misbehaved("that is no answer", backend=self.name)
        if take(Fault.HANG):
            await asyncio.Event().wait()
        return handle

    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        """Look at all of them in one call."""
        await self._call("poll")
        if len(handles) > self.config.poll_many:
            raise ValueError(
                f"{len(handles)} handles in one poll; Capabilities allow {self.config.poll_many}"
            )
        if self.backend.take(Fault.POLL_ERROR):
            raise Unavailable("no news", backend=self.name)
        if self.backend.take(Fault.POLL_THROTTLE):
            raise _make_throttled(self)
        return {handle: self.backend.look(handle) for handle in handles}

    async def recover(self, envelope: Envelope) -> Recovery:
        """Look the attempt up among the jobs, or the accepted answer among those."""
        await self._call("recover")
        if self.backend.take(Fault.RECOVER_ERROR):
            raise Unavailable("can't be asked", backend=self.name)
        if self.backend.take(Fault.UNKNOWN):
            return Unknown("nobody can say yet")
        if envelope.act == "accept":
            job_id = str(envelope.payload["job_id"])
            return Landed(Handle(self.name, job_id)) if job_id in self.backend.confirmed else NotLanded()
        for job in self.backend.jobs.values():
            if job.attempt_id == envelope.attempt_id:
                return Landed(Handle(self.name, job.id))
        return NotLanded()

    async def quote(self, task: Task, target: Mapping[str, JSON]) -> Quote:  # noqa: ARG002  the seam's words
        """Tell the price."""
        await self._call("quote")
        price = self.backend.price
        if price is None:
            raise NotSupported(f"{self.name} gives no quotes")
        return Quote(expected=price, upper=price, confidence="exact", quoted_at=self.clock.now())

    def events(self, handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:
        """Yield a snapshot at each step of the script, with the pieces before the last."""
        if not self.features & {Feature.EVENTS, Feature.STREAM}:
            raise NotSupported(f"{self.name} has no events")
        return self._iterate(handle, after or 0)

    async def cancel(self, handle: Handle) -> CancelOutcome:
        """Stop the job at once."""
        if Feature.CANCEL not in self.features:
            raise NotSupported(f"{self.name} can't cancel jobs")
        await self._call("cancel")
        return CancelOutcome.CANCELLED if self.backend.cancel(handle) else CancelOutcome.TOO_LATE

    async def accept(self, handle: Handle, snapshot: Snapshot) -> Envelope:  # noqa: ARG002  the seam's words
        """Prepare the act that lets an UPLOADING job complete."""
        if Feature.ACCEPT not in self.features:
            raise NotSupported(f"answers of {self.name} need no accepting")
        attempt_id = self.backend.jobs[handle.job_id].attempt_id
        payload = {"job_id": handle.job_id}
        return Envelope(attempt_id=attempt_id, backend=self.name, act="accept", payload=payload)

    async def aclose(self) -> None:
        """Count."""
        self.closed += 1

    async def _iterate(self, handle: Handle, after: int) -> AsyncIterator[Event]:
        await self._call("events")
        job = self.backend.jobs.get(handle.job_id)
        pieces = list(self.pieces(job.input)) if self.pieces and job else []
        while True:
            snapshot = self.backend.look(handle)
            if snapshot.status is Status.COMPLETED:
                for piece in pieces[after:]:
                    is_bytes = isinstance(piece, bytes)
                    yield Event(kind="piece", data=piece) if is_bytes else Event(kind="piece", piece=piece)
            yield Event(kind="snapshot", snapshot=snapshot)
            if self.backend.take(Fault.CUT_STREAM):
                raise Unavailable("the stream broke off", backend=self.name)
            if job is None or snapshot.status.is_final:
                return
            await self.backend.wait_for_step(job)

    async def _call(self, operation: str) -> None:
        self.backend.calls[operation] += 1
        await self.clock.sleep(self.config.latency_seconds)
        if self.backend.is_down:
            raise Unavailable("it is down", backend=self.name)


def _make_throttled(adapter: FakeAdapter) -> Throttled:
    wait = timedelta(seconds=adapter.backend.retry_after_seconds)
    return Throttled("wait a little", backend=adapter.name, retry_after=wait)
