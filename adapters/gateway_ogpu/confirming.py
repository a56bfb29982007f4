"""Confirming an answer, and cancelling a task: transactions too, so each is signed once and sent as it is."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from weakref import WeakValueDictionary

from gateway.adapter import CancelOutcome, Landed, NotLanded, Recovery, Unknown
from gateway.chain.prepared import Call, Prepared
from gateway.chain.whereabouts import Whereabouts
from gateway.errors import BackendError, InDoubt, Unavailable
from gateway.task import Envelope, Handle, Snapshot
from gateway.types import AttemptId
from gateway_ogpu.connection import Connection
from gateway_ogpu.contracts import encode_call
from gateway_ogpu.errors import NotCancellable, NothingToConfirm, OgpuRefused
from gateway_ogpu.following import Following
from gateway_ogpu.publishing import parse_prepared
from gateway_ogpu.reading import fetch_views
from gateway_ogpu.sending import Sending
from gateway_ogpu.wire import TaskStatus

KIND = "confirm"
_WAIT = timedelta(seconds=20)
_LOOK_EVERY_SECONDS = 0.3


class Acts:
    """What is done to a task that is on the chain."""

    def __init__(self, connection: Connection, sending: Sending, following: Following) -> None:
        self._connection = connection
        self._sending = sending
        self._following = following
        self._cancels: dict[str, Prepared] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by task

    async def accept(self, handle: Handle, snapshot: Snapshot) -> Envelope:
        """Sign the confirmation of the first of `snapshot.answers`; one that is confirmed needs none."""
        if not snapshot.answers:
            raise NothingToConfirm("there is no answer to confirm", job_id=handle.job_id)
        response = snapshot.answers[0].id
        attempt_id = AttemptId(str(handle.detail.get("attempt_id", handle.job_id)))
        transaction: Any = None
        try:
            prepared = await self._sending.prepare(
                self._make_call("confirmResponse", response),
                owner=f"{attempt_id}:confirm",
                what=f"confirming {response}",
            )
            transaction = prepared.encode()
        except OgpuRefused as error:
            if not await self._is_confirmed(response):
                raise NothingToConfirm(error.message, job_id=handle.job_id, code=error.code) from error
        payload = {"kind": KIND, "response": response, "transaction": transaction, "handle": _encode(handle)}
        return Envelope(
            attempt_id=attempt_id,
            backend=self._connection.name,
            act="accept",
            payload=payload,
            prepared_at=self._connection.clock.now(),
        )

    async def submit(self, envelope: Envelope) -> Handle:
        """Send a stored confirmation and wait for its block: it may come too late, which must be known.

        Raises NothingToConfirm if it reverted and the response is not confirmed otherwise, InDoubt while it
        is in no block.
        """
        handle = _parse_handle(envelope)
        if envelope.payload["transaction"] is None:
            return handle
        receipt = await self._sending.deliver(parse_prepared(envelope.payload), within=_WAIT)
        if receipt.succeeded:
            return handle
        self._following.note_vain(handle, receipt)
        if not await self._is_confirmed(envelope.payload["response"], receipt.block_number):
            raise NothingToConfirm("the confirmation reverted in its block", job_id=handle.job_id)
        return handle

    async def recover(self, envelope: Envelope) -> Recovery:
        """Look a confirmation up; one that is done by whomever has landed."""
        handle = _parse_handle(envelope)
        if envelope.payload["transaction"] is None:
            return Landed(handle)
        prepared = parse_prepared(envelope.payload)
        look = await self._connection.transactions.look_up(prepared)
        if look.receipt is not None and not look.receipt.succeeded:
            self._following.note_vain(handle, look.receipt)  # whoever sent it: its gas is this task's
        of = look.receipt.block_number if look.receipt is not None else None
        if await self._is_confirmed(envelope.payload["response"], of):
            return Landed(handle)
        await self._sending.help_on(prepared, look)  # nobody else sees to what waits behind a gap
        if look.receipt is not None:
            return Landed(handle) if look.receipt.succeeded else NotLanded(final=True)
        if look.where is Whereabouts.DEAD:
            return NotLanded(final=True)
        if look.where is Whereabouts.ABSENT:
            return NotLanded(final=False)
        return Unknown(look.reason or "the confirmation waits for a block")

    async def cancel(self, handle: Handle) -> CancelOutcome:
        """Take a task back while it is NEW. Asked again, the same transaction is sent again.

        Raises Unavailable while its publication or the task is not shown: there is nothing yet to take back.
        """
        task = await self._wait_for_task(handle)
        turn = self._turns.setdefault(task, asyncio.Lock())
        async with turn:  # two wishes at once would be two transactions, and one of them would revert
            return await self._cancel(handle, task)

    async def _cancel(self, handle: Handle, task: str) -> CancelOutcome:
        prepared = self._cancels.get(task)
        if prepared is None:
            try:
                prepared = await self.prepare_cancel(task)
            except OgpuRefused:
                return CancelOutcome.TOO_LATE
            self._cancels[task] = prepared
        try:
            receipt = await self._sending.deliver(prepared, within=_WAIT)
        except InDoubt:
            return CancelOutcome.REQUESTED
        except BackendError:
            del self._cancels[task]
            raise
        del self._cancels[task]
        if receipt.succeeded:
            return CancelOutcome.CANCELLED
        self._following.note_vain(handle, receipt)
        return CancelOutcome.TOO_LATE

    async def prepare_cancel(self, task: str) -> Prepared:
        """Sign a task's cancellation. Raises NotCancellable, or OgpuRefused if it would revert otherwise.

        Raises Unavailable if the RPC does not show the task, which is there: that replica is behind.
        """
        [status] = await fetch_views(self._connection.rpc, [(task, "getStatus")])
        if status is None:
            raise Unavailable(f"the RPC does not show the task {task} yet")
        if status != TaskStatus.NEW:
            word = TaskStatus(status).name
            raise NotCancellable(f"{task} is {word}; only a NEW task can be cancelled", code=word)
        call = self._make_call("cancelTask", task)
        return await self._sending.prepare(call, owner=f"{task}:cancel", what=f"cancelling {task}")

    async def _wait_for_task(self, handle: Handle) -> str:
        clock = self._connection.clock
        until = clock.monotonic() + _WAIT.total_seconds()
        while (task := await self._following.find_task(handle)) is None:
            if clock.monotonic() >= until:
                raise Unavailable("its publication is in no block yet", job_id=handle.job_id)
            await clock.sleep(_LOOK_EVERY_SECONDS)
        return task

    async def _is_confirmed(self, response: str, block: int | None = None) -> bool:
        """Say whether a response is confirmed as of a block: a replica that has it not does not answer."""
        [is_final] = await fetch_views(self._connection.rpc, [(response, "confirmedFinal")], block=block)
        return bool(is_final)

    def _make_call(self, function: str, *arguments: str) -> Call:
        return Call(self._connection.contracts.controller, encode_call(function, *arguments))


def _encode(handle: Handle) -> Any:
    return {"backend": handle.backend, "job_id": handle.job_id, "detail": dict(handle.detail)}


def _parse_handle(envelope: Envelope) -> Handle:
    return Handle(**envelope.payload["handle"])
