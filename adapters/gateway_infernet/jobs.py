"""Jobs and streamed jobs: prepared, submitted, looked at, looked up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

from gateway.adapter import Landed, NotLanded, Recovery, Unknown
from gateway.clock import Clock
from gateway.errors import BackendError, Misbehaved, NotSupported, Rejected
from gateway.task import Envelope, Event, Handle, Snapshot, Task
from gateway.types import JSON
from gateway_infernet import outcomes, wire
from gateway_infernet.config import InfernetConfig, InfernetTarget
from gateway_infernet.facts import Facts
from gateway_infernet.looking import Looker, Wanted
from gateway_infernet.node import Node
from gateway_infernet.streams import Streams
from gateway_infernet.submission import SETTLING_SECONDS, Doubts, Submission, Submitter

# After this long a stream is over, whoever may have read it.
_STREAM_OVER_IN = timedelta(seconds=outcomes.STREAM_LIMIT_SECONDS + 5)
# A node writes down how a stream ended at about the time at which it ends it.
_LOOKS_AFTER_A_STREAM = (0.0, 0.05, 0.5)


class Jobs:
    """The part of the seam that is about jobs, with or without a stream."""

    def __init__(
        self, node: Node, config: InfernetConfig, facts: Facts, looker: Looker, clock: Clock
    ) -> None:
        """Make it without I/O."""
        self._name = node.name
        self._config = config
        self._facts = facts
        self._looker = looker
        self._clock = clock
        self._made_at = clock.now()
        self._doubts = Doubts(clock)
        self._submitter = Submitter(node, self._doubts)
        self._streams = Streams(node, self._doubts, open_seconds=config.timeout_seconds)

    async def make_payload(self, task: Task, target: InfernetTarget, job_id: str) -> dict[str, JSON]:
        """Check what a node would refuse without saying why. Raises InvalidInput, Rejected, Unavailable."""
        body = wire.make_job_body(job_id, wire.make_data(task.input), target)
        wire.encode_body(body, backend=self._name)
        await self._check_abilities(task, target)
        strict = self._config.strict_output if target.strict_output is None else target.strict_output
        return {"kind": "stream" if task.stream else "job", "strict": strict, "body": body}

    async def submit(self, envelope: Envelope) -> Handle:
        """Post the job, with others that came while a request was under way; or open its stream."""
        body = wire.encode_body(envelope.payload["body"], backend=self._name)
        if envelope.payload["kind"] == "stream":
            job_id = await self._streams.open(envelope.attempt_id, body)
        else:
            job_id = await self._submitter.submit(Submission(envelope.attempt_id, body))
        return _make_handle(envelope, job_id, self._clock.now())

    async def look(self, handles: Sequence[Handle]) -> dict[Handle, Snapshot]:
        """Look at all of them, with one GET per 350."""
        if not handles:
            return {}
        wanted = [Wanted(handle.job_id, handle.detail.get("chained") is True) for handle in handles]
        looks = await self._looker.look_at_many(wanted)
        found: dict[Handle, Snapshot] = {}
        for handle in handles:
            look = looks.get(handle.job_id)
            snapshot = outcomes.make_snapshot(handle, look, price=self._config.price) if look else None
            if snapshot is not None:
                found[handle] = await self._end_if_cut(handle, snapshot)
        if not found:
            raise Misbehaved("nothing in the answer is a job's status", backend=self._name)
        return found

    async def recover(self, envelope: Envelope) -> Recovery:
        """Look the attempt's id up.

        An id that was accepted and then forgotten by a restarted node looks like one that never came. To send
        it again is right in both cases: what a node forgot it does not run any more, and can't answer.
        """
        job_id = envelope.attempt_id
        is_settling = self._doubts.is_settling(job_id) or self._is_fresh(envelope)
        try:
            look = await self._looker.look(Wanted(job_id))
        except BackendError as error:
            return Unknown(str(error))
        if look.entry is not None:
            return Landed(_make_handle(envelope, job_id, envelope.prepared_at or self._clock.now()))
        if not look.is_certain:
            return Unknown(f"{self._name}: the answer about job {job_id} can't be read")
        if is_settling:
            return Unknown(f"{self._name}: the request for job {job_id} may still be on its way")
        return NotLanded(final=False)

    async def events(self, handle: Handle) -> AsyncIterator[Event]:
        """Yield a stream's bytes as they come, unchanged, then the truth from GET. Raises NotSupported."""
        was_open = self._streams.is_open(handle.job_id)
        if not was_open and await self._facts.fetch_version() < (1,):
            raise NotSupported(f"{self._name}: there are no streams before node version 1.0")
        try:
            async with aclosing(self._streams.read(handle.job_id)) as pieces:
                async for data in pieces:
                    yield Event(kind="piece", data=data)
            snapshot = await self._look_at_end(handle, _LOOKS_AFTER_A_STREAM if was_open else (0.0,))
        finally:
            if was_open:
                self._streams.mark_over(handle.job_id)
        yield Event(kind="snapshot", snapshot=await self._end_if_cut(handle, snapshot))

    async def aclose(self) -> None:
        """Stop: what is being sent is in doubt, and streamed jobs die with their streams."""
        await self._submitter.aclose()
        await self._streams.aclose()

    async def _check_abilities(self, task: Task, target: InfernetTarget) -> None:
        if task.stream and len(target.containers) > 1:
            raise Rejected(
                "a stream runs the first container only, so a chain can't be streamed", backend=self._name
            )
        if task.stream and target.requires_proof:
            raise Rejected("a node passes no wish for a proof on to a stream", backend=self._name)
        if (task.stream or target.requires_proof) and await self._facts.fetch_version() < (1,):
            what = "streams" if task.stream else "proofs"
            raise Rejected(f"there are no {what} before node version 1.0", backend=self._name)

    async def _look_at_end(self, handle: Handle, waits: Sequence[float]) -> Snapshot:
        for seconds in waits:
            await self._clock.sleep(seconds)
            snapshot = (await self.look([handle]))[handle]
            if snapshot.status.is_final:
                break
        return snapshot

    async def _end_if_cut(self, handle: Handle, snapshot: Snapshot) -> Snapshot:
        """Don't wait for the job of a stream that is over: it "runs" until the node forgets it."""
        if snapshot.status.is_final:
            self._streams.forget(handle.job_id)
        elif handle.detail.get("kind") == "stream" and (
            self._streams.is_over(handle.job_id)
            or self._clock.now() - datetime.fromisoformat(str(handle.detail["since"])) > _STREAM_OVER_IN
        ):
            await self._streams.drop_unread(handle.job_id)
            return outcomes.make_cut(handle)
        return snapshot

    def _is_fresh(self, envelope: Envelope) -> bool:
        """Say whether a process before this one may have sent it a moment ago: see SETTLING_SECONDS."""
        at = envelope.prepared_at
        if at is None or at >= self._made_at:
            return False
        return timedelta(0) <= self._clock.now() - at < timedelta(seconds=SETTLING_SECONDS)


def _make_handle(envelope: Envelope, job_id: str, since: datetime) -> Handle:
    payload = envelope.payload
    containers: list[str] = payload["body"]["containers"]
    detail: dict[str, JSON] = {
        "kind": payload["kind"],
        "strict": payload["strict"],
        "chained": len(containers) > 1,
    }
    if payload["kind"] == "stream":
        detail["since"] = since.isoformat()
    return Handle(envelope.backend, job_id, detail)
