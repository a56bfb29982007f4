"""Signing and sending: what is wanted in one moment shares its questions; only the same bytes go again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from gateway.chain.fees import FeeTooHigh
from gateway.chain.nonces import NonceInUse
from gateway.chain.prepared import Call, Offer, Prepared
from gateway.chain.refusals import NonceTaken, TypeRefused
from gateway.chain.retyping import find_version, retype
from gateway.chain.rpc import Reverted, fetch_head
from gateway.chain.whereabouts import Look, Whereabouts
from gateway.errors import BackendError, InDoubt, Unavailable
from gateway_ogpu.errors import explain_revert
from gateway_ogpu.muster import Muster, Versions

if TYPE_CHECKING:
    from gateway.chain.receipts import Receipt
    from gateway.chain.transactions import Transactions
    from gateway_ogpu.connection import Connection

_FRESH_SECONDS = 1.0  # so long an estimate is good for calls like the one it was made for
_LOOK_EVERY_SECONDS = 0.3
_LOOK_UP_EVERY_SECONDS = 3.0
_GIVE_UP_SECONDS = 15.0  # a transaction that is signed, and not sent for so long, holds up those after it
_log = logging.getLogger(__name__)


class Sending:
    """Makes and delivers the transactions of our account."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unsent: dict[str, tuple[Prepared, float]] = {}  # by hash, with the monotonic time
        self.muster, self.versions = Muster(connection.clock), Versions()
        self._estimates: dict[Hashable, tuple[float, asyncio.Task[Offer]]] = {}

    async def estimate(self, call: Call, *, what: str, like: Hashable = None) -> Offer:
        """Return what to offer. Raises OgpuRefused if it would revert, or as `Transactions.estimate`.

        Args:
            call: what to do.
            what: the same in words.
            like: what it has in common with other calls that need the same gas: who asks for such a one while
                it is being asked for, or a moment later, shares the answer.
        """
        if like is None:
            return await self._estimate(call, what)
        limit = self._connection.clock.monotonic() - _FRESH_SECONDS
        self._estimates = {key: kept for key, kept in self._estimates.items() if kept[0] > limit}
        if like not in self._estimates:
            asking = asyncio.create_task(self._estimate(call, what))
            self._estimates[like] = self._connection.clock.monotonic(), asking
            asking.add_done_callback(lambda done: self._end_estimate(like, done))
        return await asyncio.shield(self._estimates[like][1])

    async def _estimate(self, call: Call, what: str) -> Offer:
        connection = self._connection
        try:
            return await connection.transactions.estimate(call)
        except Reverted as error:  # perhaps on the state of a replica that is behind
            known, now = await asyncio.gather(connection.heads.fetch(), fetch_head(connection.rpc))
            at, words = max(known.number, now.number), call.encode(connection.signer.address)
            [told] = await connection.rpc.ask([("eth_call", [words, hex(at)])])
            if isinstance(told, Reverted):
                raise explain_revert(error, what) from error
            if isinstance(told, BackendError):
                raise told from error
            raise Unavailable(f"{what} would revert, but not on the newest block that is known") from error

    def _end_estimate(self, like: Hashable, done: asyncio.Task[Offer]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._estimates.pop(like, None)

    async def prepare(self, call: Call, *, owner: str, what: str, offer: Offer | None = None) -> Prepared:
        """Sign a call. Raises OgpuRefused if it would revert, or as `Transactions.prepare`."""
        offer = offer or await self.estimate(call, what=what)
        made = await self._connection.transactions.prepare(call, owner=owner, offer=offer)
        self._unsent[made.hash] = (made, self._connection.clock.monotonic())
        return made

    def is_unsent(self, prepared: Prepared) -> bool:
        """Say whether it was signed here, and neither sent nor given up."""
        return prepared.hash in self._unsent

    async def broadcast(self, prepared: Prepared, *, owner: str = "") -> None:
        """Hand the bytes to the chain, or the last of those that replaced them.

        An RPC that takes legacy transactions only gets the same act as such a one. Raises as
        `Transactions.broadcast`.
        """
        self._unsent.pop(prepared.hash, None)
        await self.muster.join(owner)
        await _hand_out(
            self._connection.transactions, self.versions, prepared, self.versions.get_newest(prepared)
        )

    async def send_again(self, prepared: Prepared) -> None:
        """Broadcast what is nowhere once more: the same bytes, or the last of those that replaced them."""
        if prepared.sender == self._connection.transactions.address:
            await self.broadcast(prepared)
        else:  # signed by an account that is not ours any more
            await self._connection.rpc.send([prepared.raw])

    async def mend(self) -> None:
        """Close the gaps that keep later transactions waiting: give up what was signed and never sent.

        Should it be sent after all, another transaction has its nonce, and it is dead: that can be proven.
        """
        transactions = self._connection.transactions
        now = self._connection.clock.monotonic()
        for prepared, since in list(self._unsent.values()):
            if now - since >= _GIVE_UP_SECONDS:
                del self._unsent[prepared.hash]
                try:
                    await transactions.discard(prepared)
                except NonceInUse as error:
                    _log.debug("%s", error)
        await transactions.mend()

    async def chase(self, prepared: Prepared) -> None:
        """Help one that waits in a pool: close the gaps before it, and raise its fees if no block takes it.

        A replacement has the same nonce, so one of the two lands; and it is known for the same act after a
        restart too (`Transactions.replace`). The caps on fees hold: above them it waits.
        """
        await self.mend()
        transactions = self._connection.transactions
        newest = self.versions.get_newest(prepared)
        if prepared.sender != transactions.address:
            return
        if not (await transactions.market.fetch()).shuts_out(newest.fees):
            return
        try:
            dearer = await transactions.replace(newest)
        except FeeTooHigh as error:
            _log.info("%s waits for a lower base fee: %s", prepared.hash, error.message)
            return
        self.versions.put(prepared, dearer)
        _log.warning("%s offers too little and is replaced by %s", prepared.hash, dearer.hash)
        await _hand_out(transactions, self.versions, prepared, dearer)

    def is_waiting(self, prepared: Prepared, look: Look) -> bool:
        """Say whether it waits in a pool: as itself, or as the replacement that took its place there."""
        ours = look.where is Whereabouts.UNKNOWN and self.versions.has_replaced(prepared)
        return look.where is Whereabouts.POOLED or ours

    async def deliver(self, prepared: Prepared, *, within: timedelta) -> Receipt:
        """Broadcast, and wait for the receipt; what was lost on the way is sent again, the same bytes.

        Raises:
            Unavailable: another transaction has its nonce, so nothing came of it.
            InDoubt: it is in no block so far; `detail` has its hash.
            BackendError: with `landed` False where it was refused.
        """
        clock = self._connection.clock
        until = clock.monotonic() + within.total_seconds()
        doubt = await self._broadcast(prepared)
        looked_at = clock.monotonic()
        while True:
            receipt = await _find_receipt(self._connection, self.versions.list_hashes(prepared))
            if receipt is not None:
                return receipt
            now = clock.monotonic()
            if now >= until:
                words = f"transaction {prepared.hash} is in no block yet"
                raise InDoubt(words, detail={"transaction": prepared.hash}) from doubt
            if now - looked_at >= _LOOK_UP_EVERY_SECONDS:
                looked_at = now
                doubt = await self._look_up(prepared) or doubt
            await clock.sleep(_LOOK_EVERY_SECONDS)

    async def _broadcast(self, prepared: Prepared) -> BackendError | None:
        """Return the doubt, if there is one. Raises what proves that it is nowhere."""
        try:
            await self.broadcast(prepared)
        except BackendError as error:
            if error.landed is False:
                raise
            return error
        return None

    async def _look_up(self, prepared: Prepared) -> BackendError | None:
        look = await self._connection.transactions.look_up(prepared)
        if look.where is Whereabouts.DEAD:
            raise Unavailable(f"transaction {look.by} has its nonce; nothing was done")
        if look.where is Whereabouts.ABSENT:
            return await self._broadcast(prepared)
        if look.receipt is not None:
            self.versions.note_hash(prepared, look.receipt.hash)
        return await self.help_on(prepared, look)

    async def help_on(self, prepared: Prepared, look: Look) -> BackendError | None:
        """Chase what waits in a pool; return what kept that from being done."""
        if self.is_waiting(prepared, look):
            try:
                await self.chase(prepared)
            except BackendError as error:
                return error
        return None


async def _find_receipt(connection: Connection, hashes: Sequence[str]) -> Receipt | None:
    try:
        found = await connection.receipts.look(hashes)
    except BackendError:
        return None  # no news: whatever the RPC says, it says nothing of what was sent
    return next((receipt for receipt in found.values() if receipt is not None), None)


async def _hand_out(
    transactions: Transactions, versions: Versions, first: Prepared, newest: Prepared
) -> None:
    """Broadcast an act as its newest version, or as one that the chain does take."""
    try:
        await transactions.broadcast(newest)
    except NonceTaken:  # perhaps by a version that a process signed, and did not live to send
        kept = await find_version(transactions.lane, newest)
        if kept is None:
            raise
        versions.put(first, kept)
        await transactions.broadcast(kept)
    except TypeRefused as error:
        legacy = await retype(transactions, newest, error)
        versions.put(first, legacy)
        _log.warning("%s is refused for its type and replaced by %s", first.hash, legacy.hash)
        await transactions.broadcast(legacy)
