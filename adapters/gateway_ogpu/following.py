"""Following tasks: receipts and one scan of events per block for all, views only for those with news."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from gateway.chain.heads import Block
from gateway.chain.receipts import Receipt
from gateway.chain.replay import fetch_reason
from gateway.chain.retiring import retire
from gateway.chain.rpc import Log, fetch_blocks
from gateway.chain.whereabouts import Whereabouts
from gateway.errors import BackendError
from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle, Snapshot
from gateway_ogpu.agreement import is_one_state
from gateway_ogpu.answers import Answers, Content
from gateway_ogpu.connection import Connection
from gateway_ogpu.contracts import ERRORS, to_checksum
from gateway_ogpu.jobs import Job, find_closings
from gateway_ogpu.publishing import parse_prepared
from gateway_ogpu.reading import fetch_tasks
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
_JUST_NOW_BLOCKS = 12  # so far back are events looked for of a task that was published elsewhere
_FORGET_SECONDS = 600.0  # jobs that nobody asks for any more
_WORTH_READING = (TaskStatus.RESPONDED, TaskStatus.FINALIZED)


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
            if receipt is not None:
                job.note_receipt(receipt, self._connection.contracts.nexus)
        return job.task

    async def _look_for_receipts(self, jobs: Sequence[Job]) -> list[Receipt | None]:
        """Look for the publications' receipts, under whichever hash they landed."""
        versions = [self._list_hashes(job) for job in jobs]
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
                found[job.handle.job_id] = await _explain(self._connection, job, receipt)
            elif job.note_receipt(receipt, self._connection.contracts.nexus):
                if job.birth is not None:
                    found[job.handle.job_id] = make_published(job.handle, str(job.task), receipt)
            elif job.doubt(self._connection.clock.monotonic()):  # its events may not be shown yet
                self._connection.receipts.forget([receipt.hash])
            else:
                found[job.handle.job_id] = make_lost(
                    self._connection.name, job.handle.job_id, "the transaction published no task"
                )
        ends = await asyncio.gather(*(self._chase(job, head) for job in waiting))
        return found | {
            job.handle.job_id: end for job, end in zip(waiting, ends, strict=True) if end is not None
        }

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
                    await retire(self._connection.transactions, prepared)
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
        """Look at published tasks: events, views and the time that decides are of the block of the scan."""
        scan, found = self._connection.scan, dict[str, Snapshot]()
        open_jobs = [job for job in jobs if job.ended is None]
        for job in open_jobs:
            since = job.receipt.block_number if job.receipt else max(0, head.number - _JUST_NOW_BLOCKS)
            scan.watch(str(job.task), since=since)
        logs = await scan.look([str(job.task) for job in open_jobs])
        if scan.block is not None:
            await self._refresh(open_jobs, logs, scan.block)
        contents, _ = await asyncio.gather(
            self._answers.read_many(_list_urls(open_jobs)), find_closings(self._connection, open_jobs)
        )
        for job in jobs:
            snapshot = job.ended or self._tell(job, contents, head)
            if snapshot is not None:
                found[job.handle.job_id] = snapshot
        return found

    def _tell(self, job: Job, contents: Mapping[str, Content], head: Block) -> Snapshot | None:
        """Say what was seen of a job; None: nothing that can be told yet."""
        if job.task is None or job.doubted_until is not None:
            return None
        if job.seen is None:  # as it was published: were there news, they would have been fetched
            if job.birth is None or job.receipt is None:
                return None
            return make_published(job.handle, job.task, job.receipt)
        look = Look(
            backend=self._connection.name,
            job_id=job.handle.job_id,
            task=job.seen,
            now=head.timestamp,
            seen_at=job.seen_at,
            contents=contents,
            accept=job.accept,
            patience=self._patience,
            publication=job.receipt,
            closing=job.closing + job.vain,
        )
        snapshot = make_snapshot(look)
        if not snapshot.status.is_final:
            return snapshot
        if job.unbilled_until is not None:
            return None
        job.ended = snapshot
        self._connection.scan.drop(job.task)
        return snapshot

    async def _refresh(self, jobs: Sequence[Job], logs: Mapping[str, tuple[Log, ...]], of: Block) -> None:
        """Fetch the tasks that have news, at the block that their events are of."""
        rpc, believed = self._connection.rpc, max(0, of.number - self._connection.config.confirmations + 1)
        jobs = [job for job in jobs if job.has_news(logs[str(job.task)], of.timestamp, believed)]
        if not jobs:
            return
        addresses = list(dict.fromkeys(str(job.task) for job in jobs))
        found, [block] = await asyncio.gather(  # the block's time in the same request
            fetch_tasks(rpc, self._connection.contracts.vault, addresses, block=believed),
            fetch_blocks(rpc, [believed]),
        )
        now = self._connection.clock.monotonic()
        for job in jobs:
            task = found[str(job.task)]
            if task is None:
                self._lose(job, now, was_told=bool(job.seen or job.receipt or logs[str(job.task)]))
                continue
            job.seen, job.seen_at, job.logs = task, block.timestamp, logs[str(job.task)]
            fits = is_one_state(task, job.logs, from_birth=job.birth is not None)
            if fits or not job.doubt(now):
                job.doubted_until = None

    def _lose(self, job: Job, now: float, *, was_told: bool) -> None:
        """There is no such task: a reorg took it, it never was, or it is not shown yet though it was told."""
        job.seen = job.logs = None
        may_come = was_told and job.doubt(now)
        if not may_come and job.prepared is None:
            self._connection.scan.drop(str(job.task))
            job.ended = make_lost(self._connection.name, job.handle.job_id, "there is no such task")
        elif job.receipt is not None:
            self._connection.scan.drop(str(job.task))
            self._connection.receipts.forget(self._list_hashes(job))
            job.task = job.receipt = job.birth = None

    def _list_hashes(self, job: Job) -> list[str]:
        if job.prepared is None:
            return [job.handle.job_id]
        return self._sending.versions.list_hashes(job.prepared)

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


async def _explain(connection: Connection, job: Job, receipt: Receipt) -> Snapshot:
    """Say why a publication reverted in its block, as far as running it once more tells."""
    reason, code = "no reason is known", None
    if job.prepared is not None:
        told = await fetch_reason(connection.rpc, job.prepared, receipt, ERRORS)
        reason, code = str(told), told.name or None
    return make_reverted(connection.name, receipt, reason, code)
