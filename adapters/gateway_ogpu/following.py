"""Following tasks: receipts and one scan of events per block for all, views only for those with news."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.chain.heads import Block
from gateway.chain.prepared import Prepared
from gateway.chain.receipts import Receipt, fetch_receipts
from gateway.chain.replay import fetch_reason
from gateway.chain.rpc import Log
from gateway.chain.whereabouts import Whereabouts
from gateway.errors import BackendError
from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle, Snapshot
from gateway_ogpu.answers import Answers
from gateway_ogpu.connection import Connection
from gateway_ogpu.contracts import ERRORS, parse_event, to_checksum
from gateway_ogpu.publishing import parse_prepared
from gateway_ogpu.reading import TaskOnChain, fetch_tasks
from gateway_ogpu.sending import Sending
from gateway_ogpu.snapshots import (
    Look,
    Patience,
    make_lost,
    make_never_published,
    make_published,
    make_reverted,
    make_snapshot,
)
from gateway_ogpu.wire import TaskStatus

_log = logging.getLogger(__name__)
_CHASE_SECONDS = (
    3.0  # a publication that is in no block for so long is looked up, and sent again if it is lost
)
_FORGET_SECONDS = 600.0  # jobs that nobody asks for any more
_CLOSED = (TaskStatus.FINALIZED, TaskStatus.CANCELED)
_WORTH_READING = (TaskStatus.RESPONDED, TaskStatus.FINALIZED)


@dataclass(slots=True)
class Job:
    """What is known of one handle's job. Times are those of the monotonic clock.

    Attributes:
        birth: the events of its publication: as long as there are no others, the task is new.
        logs: the events at which `seen` was looked at.
        closing: the receipts of transactions that ended it.
        vain: the receipts of transactions of ours that were to end it, and came too late.
    """

    handle: Handle
    since: float
    asked_at: float
    prepared: Prepared | None = None
    chased_at: float = 0.0
    task: str | None = None
    receipt: Receipt | None = None
    birth: tuple[Log, ...] | None = None
    logs: tuple[Log, ...] | None = None
    seen: TaskOnChain | None = None
    closing: tuple[Receipt, ...] = ()
    vain: tuple[Receipt, ...] = ()
    ended: Snapshot | None = None

    @property
    def accept(self) -> str:
        """How its task's answers are accepted."""
        return str(self.handle.detail.get("accept", "first"))


class Following:
    """The part of the seam after a task was published."""

    def __init__(self, connection: Connection, sending: Sending, answers: Answers) -> None:
        self._connection = connection
        self._sending = sending
        self._answers = answers
        self._jobs: dict[str, Job] = {}
        config = connection.config
        self._patience = Patience(
            config.confirm_after.total_seconds(),
            config.collect_for.total_seconds(),
            config.content_patience.total_seconds(),
        )

    async def look(self, handles: Sequence[Handle]) -> dict[Handle, Snapshot]:
        """Look at all of them at one block. Raises as `gateway.chain.rpc.request`: then there is no news."""
        if not handles:
            return {}
        jobs = {handle: self._open(handle) for handle in handles}
        pending = [job for job in jobs.values() if job.task is None]
        head, receipts = await asyncio.gather(  # in one request
            self._connection.heads.fetch(), self._look_for_receipts(pending)
        )
        found = await self._find_tasks(pending, receipts, head)
        published = [job for job in jobs.values() if job.task is not None and job.handle.job_id not in found]
        if published:
            found |= await self._look_at(published, head)
        self._forget_old()
        return {handle: found[handle.job_id] for handle in jobs if handle.job_id in found}

    def note_vain(self, handle: Handle, receipt: Receipt) -> None:
        """Bill a transaction that was to end a task and reverted: its gas was paid all the same."""
        job = self._open(handle)
        if receipt not in job.vain:
            job.vain += (receipt,)
            job.ended = None  # its bill was another one

    async def find_task(self, handle: Handle) -> str | None:
        """Return the address of a handle's task, None as long as it is in no block."""
        job = self._open(handle)
        if job.task is None and job.prepared is not None:
            [receipt] = await self._look_for_receipts([job])
            self._note_receipt(job, receipt)
        return job.task

    async def _look_for_receipts(self, jobs: Sequence[Job]) -> list[Receipt | None]:
        """Look for the publications' receipts, under whichever hash they landed."""
        versions = [
            self._sending.versions.list_hashes(job.prepared) if job.prepared else [job.handle.job_id]
            for job in jobs
        ]
        found = await self._connection.receipts.look([one for some in versions for one in some])
        return [next((found[one] for one in some if found[one] is not None), None) for some in versions]

    def _open(self, handle: Handle) -> Job:
        now = self._connection.clock.monotonic()
        job = self._jobs.get(handle.job_id)
        if job is None:
            job = self._jobs[handle.job_id] = Job(handle, since=now, asked_at=now)
            if "transaction" in handle.detail:
                job.prepared = parse_prepared(handle.detail)
            elif len(handle.job_id) == 42:  # a task that was published elsewhere
                job.task = to_checksum(handle.job_id)
        job.asked_at = now
        return job

    async def _find_tasks(
        self, jobs: Sequence[Job], receipts: Sequence[Receipt | None], head: Block
    ) -> dict[str, Snapshot]:
        """Give publications that are in a block their task: it is new, as of that block."""
        found: dict[str, Snapshot] = {}
        waiting: list[Job] = []
        for job, receipt in zip(jobs, receipts, strict=True):
            if receipt is None:
                waiting.append(job)
                found[job.handle.job_id] = Snapshot(status=Status.QUEUED, message="waiting for a block")
            elif not receipt.succeeded:
                found[job.handle.job_id] = await self._explain(job, receipt)
            elif not self._note_receipt(job, receipt):
                found[job.handle.job_id] = make_lost(
                    self._connection.name, job.handle.job_id, "the transaction published no task"
                )
            elif job.task is not None and job.birth is not None:
                found[job.handle.job_id] = make_published(job.handle, job.task, receipt)
        ends = await asyncio.gather(*(self._chase(job, head) for job in waiting))
        return found | {
            job.handle.job_id: end for job, end in zip(waiting, ends, strict=True) if end is not None
        }

    def _note_receipt(self, job: Job, receipt: Receipt | None) -> bool:
        """Take the task out of a receipt; False if there is none in it."""
        if receipt is None:
            return False
        nexus = self._connection.contracts.nexus.lower()
        for log in receipt.logs:
            event = parse_event(log) if log.address.lower() == nexus else None
            if event is not None and event.name == "TaskPublished":
                job.task, job.receipt = event.arguments["task"], receipt
                if "source" in job.handle.detail:  # it says what was published; a bare hash does not
                    job.birth = tuple(one for one in receipt.logs if _is_about(one, nexus, job.task))
                return True
        return False

    async def _chase(self, job: Job, head: Block) -> Snapshot | None:
        """Look up a publication that is in no block: what was lost is sent again, the same bytes."""
        now = self._connection.clock.monotonic()
        prepared = job.prepared
        if prepared is None or now - max(job.since, job.chased_at) < _CHASE_SECONDS:
            return None
        job.chased_at = now
        look = await self._connection.transactions.look_up(prepared)
        if look.where is Whereabouts.DEAD:
            message = f"transaction {look.by} has taken the publication's nonce: it never came to be"
            return make_never_published(self._connection.name, job.handle.job_id, message, FailureKind.LOST)
        if look.receipt is not None:
            self._sending.versions.note_hash(prepared, look.receipt.hash)
        expires_at = int(job.handle.detail.get("expires_at", 0))
        try:
            if look.where is Whereabouts.ABSENT:
                is_over = head.timestamp > expires_at
                if is_over and await self._connection.came_too_late(prepared, expires_at):
                    message = "the task expired before its publication got into a block"
                    return make_never_published(
                        self._connection.name, job.handle.job_id, message, FailureKind.EXPIRED
                    )
                await self._sending.send_again(prepared)
            elif self._sending.is_waiting(prepared, look):
                await self._sending.chase(prepared)
        except BackendError as error:
            _log.warning("%s: %s can't be sent again now: %s", job.handle.backend, prepared.hash, error)
        return None

    async def _look_at(self, jobs: Sequence[Job], head: Block) -> dict[str, Snapshot]:
        scan = self._connection.scan
        open_jobs = [job for job in jobs if job.ended is None]
        for job in open_jobs:
            scan.watch(str(job.task), since=job.receipt.block_number if job.receipt else head.number)
        logs = await scan.look([str(job.task) for job in open_jobs])
        await self._refresh([job for job in open_jobs if self._has_news(job, logs, head)], logs, head)
        contents, _ = await asyncio.gather(
            self._answers.read_many(_list_urls(open_jobs)), _find_closings(self._connection, open_jobs)
        )
        found: dict[str, Snapshot] = {}
        for job in jobs:
            if job.ended is None and job.seen is None and job.task is not None and job.receipt is not None:
                # As it was published: were there news, they would have been fetched.
                found[job.handle.job_id] = make_published(job.handle, job.task, job.receipt)
            elif job.ended is None and job.seen is not None and job.task is not None:
                snapshot = make_snapshot(
                    Look(
                        backend=self._connection.name,
                        job_id=job.handle.job_id,
                        task=job.seen,
                        now=head.timestamp,
                        contents=contents,
                        accept=job.accept,
                        patience=self._patience,
                        publication=job.receipt,
                        closing=job.closing + job.vain,
                    )
                )
                found[job.handle.job_id] = snapshot
                if snapshot.status.is_final:
                    job.ended = snapshot
                    scan.drop(str(job.task))
            elif job.ended is not None:
                found[job.handle.job_id] = job.ended
        return found

    def _has_news(self, job: Job, logs: Mapping[str, tuple[Log, ...]], head: Block) -> bool:
        if job.seen is not None:
            return logs[str(job.task)] != job.logs
        if job.birth is not None and job.receipt is not None and job.receipt.block_number > head.number:
            return False  # this look's block is older than the publication
        is_new = job.birth is not None and logs[str(job.task)] == job.birth
        return not is_new or head.timestamp > int(job.handle.detail.get("expires_at", 0))

    async def _refresh(self, jobs: Sequence[Job], logs: Mapping[str, tuple[Log, ...]], head: Block) -> None:
        """Fetch the tasks that have news, at a block that holds these."""
        if not jobs:
            return
        believed = head.number - self._connection.config.confirmations + 1
        news = [log.block_number for job in jobs for log in logs[str(job.task)]]
        news += [job.receipt.block_number for job in jobs if job.receipt is not None]
        found = await fetch_tasks(
            self._connection.rpc,
            self._connection.contracts.vault,
            list(dict.fromkeys(str(job.task) for job in jobs)),
            block=max([0, believed, *news]),
        )
        for job in jobs:
            task = found[str(job.task)]
            if task is not None:
                job.seen, job.logs = task, logs[str(job.task)]
            else:
                self._lose(job)

    def _lose(self, job: Job) -> None:
        """There is no such task: a reorg took it, or it never was."""
        self._connection.scan.drop(str(job.task))
        job.seen = job.logs = None
        if job.prepared is None:
            job.ended = make_lost(self._connection.name, job.handle.job_id, "there is no such task")
            return
        self._connection.receipts.forget(self._sending.versions.list_hashes(job.prepared))
        job.task = job.receipt = job.birth = None

    async def _explain(self, job: Job, receipt: Receipt) -> Snapshot:
        """Say why a publication reverted in its block, as far as running it once more tells."""
        reason, code = "no reason is known", None
        if job.prepared is not None:
            told = await fetch_reason(self._connection.rpc, job.prepared, receipt, ERRORS)
            reason, code = str(told), told.name or None
        return make_reverted(self._connection.name, receipt, reason, code)

    def _forget_old(self) -> None:
        limit = self._connection.clock.monotonic() - _FORGET_SECONDS
        for job_id in [job_id for job_id, job in self._jobs.items() if job.asked_at < limit]:
            job = self._jobs.pop(job_id)
            if job.task is not None:
                self._connection.scan.drop(job.task)


def _list_urls(jobs: Iterable[Job]) -> list[str]:
    """List what is worth reading: of final tasks the winner's answer, of others all."""
    urls: list[str] = []
    for job in jobs:
        if job.seen is not None and job.seen.status in _WORTH_READING:
            urls += [response.url for response in job.seen.responses]
    return urls


def _is_about(log: Log, nexus: str, task: str) -> bool:
    event = parse_event(log) if log.address.lower() == nexus else None
    return event is not None and event.arguments.get("task") == task


async def _find_closings(connection: Connection, jobs: Sequence[Job]) -> None:
    """Find the receipts of transactions of ours that ended tasks: a confirmation's, a cancellation's."""
    ends: dict[str, list[Job]] = {}
    for job in jobs:
        if job.seen is None or job.seen.status not in _CLOSED or job.closing:
            continue
        for log in job.logs or ():
            event = parse_event(log)
            if event is not None and event.name == "TaskStatusChanged":
                ends.setdefault(log.transaction, []).append(job)
    ours = connection.own_address
    if ours is None:
        return
    for receipt in await fetch_receipts(connection.rpc, list(ends)):
        if receipt is None or receipt.sender.lower() != ours.lower():
            continue
        for job in ends[receipt.hash]:
            if job.receipt is None or job.receipt.hash != receipt.hash:
                job.closing += (receipt,)
