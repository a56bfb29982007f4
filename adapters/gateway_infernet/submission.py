"""Submitting jobs, many together, and remembering which submissions may still be on their way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.errors import BackendError, InDoubt, Rejected
from gateway_infernet import wire
from gateway_infernet.batching import Batcher
from gateway_infernet.node import BATCH, SINGLE, Node

MAX_JOBS_PER_BATCH = 250
MAX_BATCH_BYTES = 8_000_000

SETTLING_SECONDS = 2.0
"""How long "the node doesn't know it" is no proof after an answer was lost on the way.

A request whose connection broke may still lie in a buffer before the node, and posting its id again while it
is about to be read would run the job twice: the node does not recognise a repeated id. A node takes a request
in within milliseconds, so two seconds are plenty, and they are only spent where an answer was lost and the
job is not there.
"""


@dataclass(frozen=True, slots=True)
class Submission:
    """One job, ready to be sent."""

    job_id: str
    body: bytes


class Doubts:
    """Which of our ids may be on their way to the node at this moment."""

    def __init__(self, clock: Clock) -> None:
        """Make it empty."""
        self._clock = clock
        self._flying: set[str] = set()
        self._lost_at: dict[str, float] = {}

    def begin(self, ids: Sequence[str]) -> None:
        """Note that these are being sent."""
        self._flying.update(ids)

    def end(self, job_id: str, *, is_lost: bool) -> None:
        """Note that the request is over; `is_lost`: without an answer."""
        self._flying.discard(job_id)
        now = self._clock.monotonic()
        self._lost_at = {key: at for key, at in self._lost_at.items() if now - at < SETTLING_SECONDS}
        if is_lost:
            self._lost_at[job_id] = now

    def is_settling(self, job_id: str) -> bool:
        """Say whether the node may still come to know this id without our doing anything."""
        lost_at = self._lost_at.get(job_id)
        return job_id in self._flying or (
            lost_at is not None and self._clock.monotonic() - lost_at < SETTLING_SECONDS
        )


def is_lost(result: object) -> bool:
    """Say whether a submission ended without any answer of the node: what was answered is settled."""
    return isinstance(result, InDoubt) and result.http_status is None


class Submitter:
    """Sends jobs as they come: alone if alone, as a batch if they gathered while the last request was out."""

    def __init__(self, node: Node, doubts: Doubts) -> None:
        """Make it without I/O."""
        self._node = node
        self._doubts = doubts
        self._batcher: Batcher[Submission, str] = Batcher(node.name, self._send, _count_for_batch)

    async def submit(self, submission: Submission) -> str:
        """Send one job and return the id under which the node has it. Raises as `Adapter.submit`."""
        return await self._batcher.add(submission)

    async def aclose(self) -> None:
        """Stop sending."""
        await self._batcher.aclose()

    async def _send(self, submissions: Sequence[Submission]) -> list[str | BackendError]:
        ids = [submission.job_id for submission in submissions]
        self._doubts.begin(ids)
        interrupted = InDoubt("it was interrupted", backend=self._node.name)
        results: list[str | BackendError] = [interrupted] * len(ids)
        try:
            results = await self._post(submissions)
        except BackendError as error:
            results = [error] * len(ids)
            raise
        finally:
            for job_id, result in zip(ids, results, strict=True):
                self._doubts.end(job_id, is_lost=is_lost(result))
        return results

    async def _post(self, submissions: Sequence[Submission]) -> list[str | BackendError]:
        # Each endpoint has a limit of its own: where one is nearly used up, the other takes lone jobs too.
        if len(submissions) == 1 and not self._node.limits.has_less(SINGLE, than=BATCH):
            return [await self._post_one(submissions[0])]
        ids = [submission.job_id for submission in submissions]
        results = await self._node.post_batch(ids, [submission.body for submission in submissions])
        if results is not None:
            return results
        if len(submissions) == 1:
            raise Rejected("the node could not read the job", backend=self._node.name, job_id=ids[0])
        # The node could not read one of them, does not say which, and has started none. Putting them together
        # was our doing and not the callers': the others go without the one.
        middle = len(submissions) // 2
        results = []
        for half in (submissions[:middle], submissions[middle:]):
            try:
                results += await self._post(half)
            except BackendError as error:
                results += [error] * len(half)
        return results

    async def _post_one(self, submission: Submission) -> str:
        answer = await self._node.post_job(submission.job_id, submission.body)
        return wire.parse_job_id(answer, "POST /api/jobs", backend=self._node.name)


def _count_for_batch(submissions: Sequence[Submission]) -> int:
    """Return how many may go together: a bounded number, of different ids, with a bounded size."""
    size, seen = 0, set[str]()
    for count, submission in enumerate(submissions[:MAX_JOBS_PER_BATCH]):
        size += len(submission.body) + 1
        if submission.job_id in seen or (size > MAX_BATCH_BYTES and count):
            return count
        seen.add(submission.job_id)
    return min(len(submissions), MAX_JOBS_PER_BATCH)
