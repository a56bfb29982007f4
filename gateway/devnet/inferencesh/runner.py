"""Takes tasks through their statuses: waits until they are due, calls the app, ends, cancels, bills them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field

from gateway.devnet.inferencesh.account import Account
from gateway.devnet.inferencesh.apps import AppFailure, Call
from gateway.devnet.inferencesh.clock import Clock, format_time
from gateway.devnet.inferencesh.dto import TaskEncoder
from gateway.devnet.inferencesh.envelopes import Problem
from gateway.devnet.inferencesh.files import FileStore
from gateway.devnet.inferencesh.sessions import SessionStore
from gateway.devnet.inferencesh.tasks import BEFORE_RUNNING, TaskRecord, TaskStatus
from gateway.devnet.inferencesh.webhooks import call_webhook
from gateway.types import JSON

DEFAULT_CANCEL_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class Runner:
    """The workers. `step_seconds` is how long a task stays in each status on its way."""

    clock: Clock
    account: Account
    files: FileStore
    sessions: SessionStore
    encoder: TaskEncoder
    step_seconds: float
    _busy: int = 0
    _freed: asyncio.Event = field(default_factory=asyncio.Event)
    _background: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, record: TaskRecord) -> None:
        """Begin to work on a task that was just made."""
        if record.status.is_final:
            self._announce_end(record)
            return
        if record.session_id is not None:
            self.sessions.begin_call(record.session_id, record.id)
        record.worker = self._spawn(self._run(record))
        record.worker.add_done_callback(lambda _: self._release_session(record))

    def cancel(self, record: TaskRecord, *, force: bool, timeout_seconds: float | None) -> None:
        """Ask a task to stop; with `force` it stops at once. Raises Problem 409 if it has ended.

        A stubborn task is given `timeout_seconds` (default 30) after a polite request, then stopped.
        """
        if record.status.is_final:
            raise Problem(409, "invalid_transition", f"task {record.id} is already {record.status.text}")
        if force:
            self._stop(record)
        elif record.status is not TaskStatus.CANCELLING:
            record.change(self.clock.now(), status=TaskStatus.CANCELLING)
            grace = DEFAULT_CANCEL_SECONDS if timeout_seconds is None else timeout_seconds
            self._spawn(self._stop_later(record, grace))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _run(self, record: TaskRecord) -> None:
        if record.request.run_at is not None:
            await self.clock.sleep_until(record.request.run_at)
        await self._enter(record, TaskStatus.QUEUED)
        await self._wait_for_worker(record)
        self._busy += 1
        try:
            for status in BEFORE_RUNNING:
                await self._enter(record, status)
            await self._work(record)
        finally:
            self._busy -= 1
            self._freed.set()
            self._freed = asyncio.Event()

    async def _enter(self, record: TaskRecord, status: TaskStatus) -> None:
        await self.clock.sleep(self.step_seconds)
        if record.status is TaskStatus.CANCELLING:
            await asyncio.Event().wait()  # goes no further; whoever cancels ends it
        record.change(self.clock.now(), status=status)

    async def _wait_for_worker(self, record: TaskRecord) -> None:
        if record.request.infra == "remote":
            await asyncio.Event().wait()  # such a task is never scheduled
        while (limit := self.account.max_concurrency) is not None and self._busy >= limit:
            await self._freed.wait()

    async def _work(self, record: TaskRecord) -> None:
        record.worker_id = record.worker_id or "worker_" + secrets.token_hex(6)
        session = self.sessions.get(record.session_id) if record.session_id else None
        call = Call(
            input=record.input,
            setup=record.request.setup,
            values=session.values if session else {},
            clock=self.clock,
            read_file=self.files.read,
            publish_output=lambda output: record.change(self.clock.now(), output=output),
            publish_delta=record.publish_delta,
            log=lambda text: record.log(self.clock.now(), text),
        )
        call.log(f"{record.entry.app.ref}@{record.entry.version}:{record.entry.function_name} starts")
        try:
            output = await record.entry.function.run(call)
        except AppFailure as failure:
            await self.clock.sleep(self.step_seconds)
            self._end(record, TaskStatus.FAILED, error=str(failure))
            return
        if record.status is TaskStatus.CANCELLING:
            self._end(record, TaskStatus.CANCELLED)
            return
        await self._enter(record, TaskStatus.UPLOADING)
        record.change(self.clock.now(), output=output)
        await self.clock.sleep(self.step_seconds)
        self._end(record, TaskStatus.COMPLETED)

    async def _stop_later(self, record: TaskRecord, grace_seconds: float) -> None:
        await self.clock.sleep(self.step_seconds)
        key = record.entry.function.ignores_cancel
        if key and isinstance(record.input, dict) and record.input.get(key):
            await self.clock.sleep(grace_seconds)
        self._stop(record)

    def _stop(self, record: TaskRecord) -> None:
        self._end(record, TaskStatus.CANCELLED)
        if record.worker is not None:
            record.worker.cancel()

    def _end(self, record: TaskRecord, status: TaskStatus, error: str | None = None) -> None:
        if record.status.is_final:
            return
        changes: dict[str, JSON] = {"status": status}
        if error is not None:
            changes["error"] = error
        if any(passed is TaskStatus.RUNNING for passed, _ in record.events):
            changes["usage_events"] = [self._make_usage_event(record)]
        if status is TaskStatus.COMPLETED:
            self.account.balance_microcents -= record.entry.app.pricing.least
        record.change(self.clock.now(), **changes)
        self._announce_end(record)

    def _announce_end(self, record: TaskRecord) -> None:
        if record.request.webhook is not None:
            work = call_webhook(record.request.webhook, self.encoder.encode_task(record))
            self._spawn(self._log_webhook(record, work))

    async def _log_webhook(self, record: TaskRecord, work: Coroutine[None, None, str]) -> None:
        record.log(self.clock.now(), await work)

    def _release_session(self, record: TaskRecord) -> None:
        if record.session_id is not None:
            self.sessions.end_call(record.session_id)

    def _make_usage_event(self, record: TaskRecord) -> JSON:
        started_at = next(at for status, at in record.events if status is TaskStatus.RUNNING)
        now = self.clock.now()
        return {
            "id": "usage_" + secrets.token_hex(8),
            "created_at": format_time(now),
            "updated_at": format_time(now),
            "usage_billing_record_id": "bill_" + secrets.token_hex(8),
            "reference_id": record.id,
            "resource_id": record.entry.app.id,
            "tier": "private" if record.request.infra == "private" else "cloud",
            "type": "inference",
            "model": record.entry.app.ref,
            "quantity": round((now - started_at) * 1000),
            "unit": "ms",
        }
