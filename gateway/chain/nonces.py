"""Nonces: one lane per account and chain, many in flight, gaps found, none given out twice.

A nonce is the chain's own guard against a double: of all transactions that an account signs for one nonce,
one lands. So a nonce whose transaction may be somewhere is never given to another act.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from gateway.chain.prepared import Prepared
from gateway.chain.rpc import Asks, request_many
from gateway.clock import Clock, SystemClock
from gateway.errors import GatewayError, Misbehaved
from gateway.types import JSON


class NonceInUse(GatewayError):
    """The nonce can't be given back: a transaction that has it may be on its way."""


class LaneKey(NamedTuple):
    """Whose nonces: the chain's id and the account's checksummed address."""

    chain_id: int
    address: str


class NonceState(StrEnum):
    """How far a nonce has come."""

    HELD = "held"  # given out, nothing is signed with it
    SIGNED = "signed"  # signed, and never sent
    SENT = "sent"  # sent, or may have been


@dataclass(frozen=True, slots=True)
class NonceRow:
    """One nonce that was given out and is not settled.

    Attributes:
        nonce: its number.
        owner: whose act it is for, in the caller's words (an attempt's id).
        state: how far it has come.
        prepared: what was signed with it.
    """

    nonce: int
    owner: str
    state: NonceState = NonceState.HELD
    prepared: Prepared | None = None

    def is_for(self, prepared: Prepared) -> bool:
        """Say whether the nonce is this transaction's."""
        return self.prepared is not None and self.prepared.hash == prepared.hash


class NonceBook(Protocol):
    """Where nonces are written down. Each method is one transaction; several processes may share a book."""

    async def allocate(self, key: LaneKey, owner: str, chain_next: int) -> int:
        """Give out the lowest nonce that is free, write a HELD row for it, and return it.

        Free are those that were given back, and those above all that were ever given out; never one below
        `chain_next`, the chain's own next nonce, which may be behind the book's (pending transactions).
        """

    async def put(self, key: LaneKey, rows: Sequence[NonceRow]) -> None:
        """Write rows, over any of the same nonces; nonces up to them count as given out."""

    async def give_back(self, key: LaneKey, nonce: int) -> None:
        """Drop a row and let its nonce be given out again."""

    async def settle(self, key: LaneKey, below: int) -> None:
        """Forget all rows and free nonces below this one: the chain has used them up."""

    async def get_row(self, key: LaneKey, nonce: int) -> NonceRow | None:
        """Return the row of a nonce, if it is given out and not settled."""

    async def get_rows(self, key: LaneKey) -> list[NonceRow]:
        """Return the rows, lowest nonce first."""

    async def get_free(self, key: LaneKey) -> list[int]:
        """Return the nonces that were given back and lie below others that were given out, in order."""


@dataclass
class Pages:
    """What is written down of one lane. Changed in memory; whoever keeps it sees to the rest.

    Attributes:
        following: above all nonces that were given out.
        free: those that were given back, below it.
        rows: those that are given out and not settled.
    """

    following: int = 0
    free: set[int] = field(default_factory=set)
    rows: dict[int, NonceRow] = field(default_factory=dict)

    def allocate(self, owner: str, chain_next: int) -> int:
        """See `NonceBook.allocate`."""
        self.free = {nonce for nonce in self.free if nonce >= chain_next}
        self.following = max(self.following, chain_next)
        nonce = min(self.free, default=self.following)
        self.put([NonceRow(nonce, owner)])
        return nonce

    def put(self, rows: Sequence[NonceRow]) -> None:
        """See `NonceBook.put`."""
        for row in rows:
            self.rows[row.nonce] = row
            self.free.discard(row.nonce)
            self.following = max(self.following, row.nonce + 1)

    def give_back(self, nonce: int) -> None:
        """See `NonceBook.give_back`."""
        if self.rows.pop(nonce, None) is None:
            return
        self.free.add(nonce)
        while self.following - 1 in self.free:
            self.following -= 1
            self.free.discard(self.following)

    def settle(self, below: int) -> None:
        """See `NonceBook.settle`."""
        self.free = {nonce for nonce in self.free if nonce >= below}
        self.rows = {nonce: row for nonce, row in self.rows.items() if nonce >= below}
        self.following = max(self.following, below)


class MemoryNonceBook:
    """A `NonceBook` that lives as long as the process."""

    def __init__(self) -> None:
        self._lanes: dict[LaneKey, Pages] = {}

    async def allocate(self, key: LaneKey, owner: str, chain_next: int) -> int:
        """See `NonceBook.allocate`."""
        return self._open(key).allocate(owner, chain_next)

    async def put(self, key: LaneKey, rows: Sequence[NonceRow]) -> None:
        """See `NonceBook.put`."""
        self._open(key).put(rows)

    async def give_back(self, key: LaneKey, nonce: int) -> None:
        """See `NonceBook.give_back`."""
        self._open(key).give_back(nonce)

    async def settle(self, key: LaneKey, below: int) -> None:
        """See `NonceBook.settle`."""
        self._open(key).settle(below)

    async def get_row(self, key: LaneKey, nonce: int) -> NonceRow | None:
        """See `NonceBook.get_row`."""
        return self._open(key).rows.get(nonce)

    async def get_rows(self, key: LaneKey) -> list[NonceRow]:
        """See `NonceBook.get_rows`."""
        return [row for _, row in sorted(self._open(key).rows.items())]

    async def get_free(self, key: LaneKey) -> list[int]:
        """See `NonceBook.get_free`."""
        return sorted(self._open(key).free)

    def _open(self, key: LaneKey) -> Pages:
        return self._lanes.setdefault(key, Pages())


@dataclass(frozen=True, slots=True)
class Gaps:
    """What keeps later transactions of a lane waiting.

    Attributes:
        missing: signed and sent, and no RPC knows them any more: their bytes want sending again.
        unused: nonces that were given back, below others that are in flight: somebody must use them up.
    """

    missing: tuple[Prepared, ...] = ()
    unused: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unused)


class NonceLane:
    """Gives out the nonces of one account on one chain, and knows what became of them.

    Args:
        rpc: of the chain.
        key: whose nonces.
        book: where they are written down.
        fresh_for: how long the chain's word about the next nonce is believed before it is asked again;
            another program may use the same key.
    """

    def __init__(
        self,
        rpc: Asks,
        key: LaneKey,
        *,
        book: NonceBook | None = None,
        clock: Clock | None = None,
        fresh_for: timedelta = timedelta(seconds=2),
    ) -> None:
        self.key = key
        self._rpc = rpc
        self._book = book or MemoryNonceBook()
        self._clock = clock or SystemClock()
        self._fresh_seconds = fresh_for.total_seconds()
        self._chain_next = 0
        self._asked_at_seconds: float | None = None
        self._turn = asyncio.Lock()

    async def refresh(self) -> None:
        """Ask the chain for its next nonce, if the last answer is old. Raises as `rpc.request`.

        The answer of a replica that lags is no harm: the highest one counts.
        """
        now = self._clock.monotonic()
        if self._asked_at_seconds is not None and now - self._asked_at_seconds < self._fresh_seconds:
            return
        latest, pending = await self._fetch_counts()
        await self._book.settle(self.key, latest)
        self._chain_next = max(self._chain_next, pending)
        self._asked_at_seconds = now

    async def allocate(self, owner: str) -> int:
        """Give out a nonce; it is HELD. `refresh` before it. Raises as `rpc.request`."""
        if self._asked_at_seconds is None:
            await self.refresh()
        async with self._turn:
            return await self._book.allocate(self.key, owner, self._chain_next)

    async def write_signed(self, prepared: Prepared, owner: str) -> None:
        """Write down what was signed with a nonce that is HELD, or what replaces what was sent with it.

        A row never goes back: at a nonce where something was SENT, something may be on its way.

        Raises NonceInUse if it is another act's by now: this one took so long that its nonce was reclaimed.
        """
        async with self._turn:
            before = await self._book.get_row(self.key, prepared.nonce)
            if owner and before is not None and before.owner != owner:
                raise NonceInUse(f"nonce {prepared.nonce} of {self.key.address} was given to another act")
            sent = before is not None and before.state is NonceState.SENT
            state = NonceState.SENT if sent else NonceState.SIGNED
            row = NonceRow(prepared.nonce, owner or (before.owner if before else ""), state, prepared)
            await self._book.put(self.key, [row])

    async def mark_sent(self, items: Sequence[Prepared]) -> list[NonceRow | None]:
        """Write down that these are about to be sent; return their rows as they were before (None: unknown).

        One whose nonce is another transaction's by now is left out; the row that is returned shows that.
        """
        async with self._turn:
            before = [await self._book.get_row(self.key, item.nonce) for item in items]
            rows = [
                NonceRow(item.nonce, row.owner if row else "", NonceState.SENT, item)
                for item, row in zip(items, before, strict=True)
                if row is None or row.is_for(item)
            ]
            await self._book.put(self.key, rows)
        return before

    async def note_refused(self, prepared: Prepared) -> None:
        """Write down that what was marked as sent was refused, provably: it counts as never sent."""
        async with self._turn:
            row = await self._book.get_row(self.key, prepared.nonce)
            if row is not None and row.is_for(prepared):
                await self._book.put(self.key, [replace(row, state=NonceState.SIGNED)])

    async def give_back(self, nonce: int, *, refused: bool = False) -> None:
        """Let a nonce be given out again, because what was signed with it never reached an RPC.

        Args:
            nonce: which.
            refused: what was sent with it was sent once, and the answer was a definite no.

        Raises NonceInUse if it may have been sent.
        """
        async with self._turn:
            row = await self._book.get_row(self.key, nonce)
            if row is not None and row.state is NonceState.SENT and not refused:
                raise NonceInUse(f"nonce {nonce} of {self.key.address} may be on its way")
            await self._book.give_back(self.key, nonce)

    def suspect(self) -> None:
        """Distrust what the chain last said: the next nonce is asked for again."""
        self._asked_at_seconds = None

    async def find_gaps(self) -> Gaps:
        """Look at the chain for what keeps later transactions waiting; settle what is done.

        Raises as `rpc.request`.
        """
        latest, pending = await self._fetch_counts()
        await self._book.settle(self.key, latest)
        rows = [row for row in await self._book.get_rows(self.key) if row.nonce >= pending]
        sent = [row.prepared for row in rows if row.state is NonceState.SENT and row.prepared is not None]
        hashes = [("eth_getTransactionByHash", [prepared.hash]) for prepared in sent]
        found = await request_many(self._rpc, hashes)
        missing = tuple(prepared for prepared, seen in zip(sent, found, strict=True) if seen is None)
        highest = max((prepared.nonce for prepared in sent), default=-1)
        free = await self._book.get_free(self.key)
        return Gaps(missing, tuple(nonce for nonce in free if latest <= nonce < highest))

    async def take(self, nonce: int, owner: str) -> bool:
        """Take one nonce that was given back; False if it is gone."""
        async with self._turn:
            if nonce not in await self._book.get_free(self.key):
                return False
            await self._book.put(self.key, [NonceRow(nonce, owner)])
            return True

    async def get_rows(self) -> list[NonceRow]:
        """Return the nonces that are given out and not settled."""
        return await self._book.get_rows(self.key)

    async def _fetch_counts(self) -> tuple[int, int]:
        address = self.key.address
        counts: list[JSON] = await request_many(
            self._rpc, [("eth_getTransactionCount", [address, at]) for at in ("latest", "pending")]
        )
        try:
            latest, pending = (int(count, 16) for count in counts)
        except (TypeError, ValueError) as error:
            raise Misbehaved("the RPC sent no nonce") from error
        return latest, max(latest, pending)
