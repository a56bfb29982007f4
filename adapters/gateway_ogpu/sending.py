"""Signing and sending: what is wanted in one moment shares its questions; only the same bytes go again."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from gateway.chain.gather import Gather
from gateway.chain.nonces import NonceInUse
from gateway.chain.prepared import Call, Prepared
from gateway.chain.rpc import Reverted
from gateway.chain.transactions import Whereabouts
from gateway.errors import BackendError, InDoubt, Unavailable
from gateway_ogpu.errors import explain_revert

if TYPE_CHECKING:
    from gateway.chain.receipts import Receipt
    from gateway_ogpu.connection import Connection

_SIGN_WINDOW_SECONDS = 0.01
_LOOK_EVERY_SECONDS = 0.3
_LOOK_UP_EVERY_SECONDS = 3.0
_GIVE_UP_SECONDS = 15.0  # a transaction that is signed, and not sent for so long, holds up those after it
_log = logging.getLogger(__name__)


class Sending:
    """Makes and delivers the transactions of our account."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unsent: dict[str, tuple[Prepared, float]] = {}  # by hash, with the monotonic time
        self._inbox = Gather[tuple[Call, str], Prepared | BackendError](
            self._prepare_all, window_seconds=_SIGN_WINDOW_SECONDS, in_turn=True
        )

    async def prepare(self, call: Call, *, owner: str, what: str) -> Prepared:
        """Sign a call. Raises OgpuRefused if it would revert, or as `Transactions.prepare`."""
        [made] = await self._inbox.ask([(call, owner)])
        if isinstance(made, Reverted):
            raise explain_revert(made, what) from made
        if isinstance(made, BackendError):
            raise made
        self._unsent[made.hash] = (made, self._connection.clock.monotonic())
        return made

    def is_unsent(self, prepared: Prepared) -> bool:
        """Say whether it was signed here, and neither sent nor given up."""
        return prepared.hash in self._unsent

    async def broadcast(self, prepared: Prepared) -> None:
        """Hand the bytes to the chain. Raises as `Transactions.broadcast`."""
        self._unsent.pop(prepared.hash, None)
        await self._connection.transactions.broadcast(prepared)

    async def aclose(self) -> None:
        """End what is being prepared."""
        await self._inbox.aclose()

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
            receipt = await self._find_receipt(prepared)
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

    async def _find_receipt(self, prepared: Prepared) -> Receipt | None:
        try:
            found = await self._connection.receipts.look([prepared.hash])
        except Unavailable:
            return None  # no news
        return found[prepared.hash]

    async def _look_up(self, prepared: Prepared) -> BackendError | None:
        look = await self._connection.transactions.look_up(prepared)
        if look.where is Whereabouts.DEAD:
            raise Unavailable(f"transaction {look.by} has its nonce; nothing was done")
        if look.where is Whereabouts.ABSENT:
            return await self._broadcast(prepared)
        if look.where is Whereabouts.POOLED:
            try:
                await self.mend()
            except BackendError as error:
                return error
        return None

    async def _prepare_all(self, items: list[tuple[Call, str]]) -> list[Prepared | BackendError]:
        transactions = self._connection.transactions

        async def prepare(call: Call, owner: str) -> Prepared | BackendError:
            try:
                return await transactions.prepare(call, owner=owner)
            except BackendError as error:
                return error

        return list(await asyncio.gather(*(prepare(call, owner) for call, owner in items)))
