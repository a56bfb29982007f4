"""Nonces: one lane per account and chain, many in flight, gaps found, none given out twice.

A nonce is the chain's own guard against a double: of all transactions that an account signs for one nonce,
one lands. So a nonce whose transaction may be somewhere is never given to another act.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

from gateway.chain.prepared import Prepared
from gateway.chain.rpc import Asks, request_many
from gateway.clock import Clock, SystemClock
from gateway.errors import GatewayError, Misbehaved
from gateway.types import JSON

T = TypeVar("T")


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


class Signed(NamedTuple):
    """What was signed.

    Attributes:
        prepared: the transaction.
        owner: whose act it is; empty: whoever has its nonce.
        holder: for whom its nonce was given out; empty: whoever has it.
    """

    prepared: Prepared
    owner: str = ""
    holder: str = ""


class NonceBook(Protocol):
    """Where nonces are written down. Several processes may share a book."""

    async def change(self, key: LaneKey, work: Callable[[Pages], T]) -> T:
        """Let `work` read and change what is written down of a lane, alone; return what it returns.

        It may be called again, and only its last call counts.
        """


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
        """Give out the lowest nonce that is free, write a HELD row for it, and return it.

        Free are those that were given back, and those above all that were ever given out; never one below
        `chain_next`, the chain's own next nonce, which may be behind the book's (pending transactions).
        """
        self.free = {nonce for nonce in self.free if nonce >= chain_next}
        self.following = max(self.following, chain_next)
        nonce = min(self.free, default=self.following)
        self.put([NonceRow(nonce, owner)])
        return nonce

    def put(self, rows: Sequence[NonceRow]) -> None:
        """Write rows, over any of the same nonces; nonces up to them count as given out."""
        for row in rows:
            self.rows[row.nonce] = row
            self.free.discard(row.nonce)
            self.following = max(self.following, row.nonce + 1)

    def give_back(self, nonce: int) -> None:
        """Drop a row and let its nonce be given out again."""
        if self.rows.pop(nonce, None) is None:
            return
        self.free.add(nonce)
        while self.following - 1 in self.free:
            self.following -= 1
            self.free.discard(self.following)

    def settle(self, below: int) -> None:
        """Forget all rows and free nonces below this one: the chain has used them up."""
        self.free = {nonce for nonce in self.free if nonce >= below}
        self.rows = {nonce: row for nonce, row in self.rows.items() if nonce >= below}
        self.following = max(self.following, below)

    def list_rows(self) -> list[NonceRow]:
        """Return the rows, lowest nonce first."""
        return [row for _, row in sorted(self.rows.items())]


class MemoryNonceBook:
    """A `NonceBook` that lives as long as the process."""

    def __init__(self) -> None:
        self._lanes: defaultdict[LaneKey, Pages] = defaultdict(Pages)

    async def change(self, key: LaneKey, work: Callable[[Pages], T]) -> T:
        """See `NonceBook.change`."""
        return work(self._lanes[key])


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

    async def refresh(self) -> None:
        """Ask the chain for its next nonce, if the last answer is old. Raises as `rpc.request`.

        The answer of a replica that lags is no harm: the highest one counts.
        """
        now = self._clock.monotonic()
        if self._asked_at_seconds is not None and now - self._asked_at_seconds < self._fresh_seconds:
            return
        latest, pending = await self._fetch_counts()
        await self._change(lambda pages: pages.settle(latest))
        self._chain_next = max(self._chain_next, pending)
        self._asked_at_seconds = now

    async def allocate(self, owners: Sequence[str]) -> list[int]:
        """Give each owner a nonce, in order; they are HELD. `refresh` before it. Raises as `rpc.request`."""
        if self._asked_at_seconds is None:
            await self.refresh()
        following = self._chain_next
        return await self._change(lambda pages: [pages.allocate(owner, following) for owner in owners])

    async def write_signed(self, signed: Sequence[Signed]) -> list[bool]:
        """Write down what was signed with nonces that are HELD, or what replaces what was sent with them.

        A row never goes back: at a nonce where something was SENT, something may be on its way.

        Returns per transaction whether it was written; if not, its nonce is another act's by now: this one
        took so long that it was reclaimed.
        """

        def write(pages: Pages, prepared: Prepared, owner: str, holder: str) -> bool:
            before = pages.rows.get(prepared.nonce)
            if holder and before is not None and before.owner != holder:
                return False
            sent = before is not None and before.state is NonceState.SENT
            state = NonceState.SENT if sent else NonceState.SIGNED
            pages.put([NonceRow(prepared.nonce, owner or (before.owner if before else ""), state, prepared)])
            return True

        return await self._change(lambda pages: [write(pages, *one) for one in signed])

    async def mark_sent(self, items: Sequence[Prepared]) -> list[NonceRow | None]:
        """Write down that these are about to be sent; return their rows as they were before (None: unknown).

        One whose nonce is another transaction's by now is left out; the row that is returned shows that.
        """

        def mark(pages: Pages) -> list[NonceRow | None]:
            before = [pages.rows.get(item.nonce) for item in items]
            pages.put(
                [
                    NonceRow(item.nonce, row.owner if row else "", NonceState.SENT, item)
                    for item, row in zip(items, before, strict=True)
                    if row is None or row.is_for(item)
                ]
            )
            return before

        return await self._change(mark)

    async def note_refused(self, prepared: Prepared) -> None:
        """Write down that what was marked as sent was refused, provably: it counts as never sent."""

        def note(pages: Pages) -> None:
            row = pages.rows.get(prepared.nonce)
            if row is not None and row.is_for(prepared):
                pages.put([replace(row, state=NonceState.SIGNED)])

        await self._change(note)

    async def give_back(self, nonce: int, *, refused: bool = False, holder: str = "") -> None:
        """Let a nonce be given out again, because what was signed with it never reached an RPC.

        Args:
            nonce: which.
            holder: for whom it was given out: if it is another's by now, it stays so; empty: whoever has it.
            refused: what was sent with it was sent once, and the answer was a definite no.

        Raises NonceInUse if it may have been sent.
        """

        def drop(pages: Pages) -> bool:
            row = pages.rows.get(nonce)
            if row is not None and row.state is NonceState.SENT and not refused:
                return holder not in ("", row.owner)
            if row is not None and holder in ("", row.owner):
                pages.give_back(nonce)
            return True

        if not await self._change(drop):
            raise NonceInUse(f"nonce {nonce} of {self.key.address} may be on its way")

    def suspect(self) -> None:
        """Distrust what the chain last said: the next nonce is asked for again."""
        self._asked_at_seconds = None

    async def find_gaps(self) -> Gaps:
        """Look at the chain for what keeps later transactions waiting; settle what is done.

        Raises as `rpc.request`.
        """
        latest, pending = await self._fetch_counts()

        def look(pages: Pages) -> tuple[list[NonceRow], list[int]]:
            pages.settle(latest)
            return pages.list_rows(), sorted(pages.free)

        rows, free = await self._change(look)
        waiting = [row for row in rows if row.nonce >= pending and row.state is NonceState.SENT]
        sent = [row.prepared for row in waiting if row.prepared is not None]
        hashes = [("eth_getTransactionByHash", [prepared.hash]) for prepared in sent]
        found = await request_many(self._rpc, hashes)
        missing = tuple(prepared for prepared, seen in zip(sent, found, strict=True) if seen is None)
        highest = max((prepared.nonce for prepared in sent), default=-1)
        return Gaps(missing, tuple(nonce for nonce in free if latest <= nonce < highest))

    async def take(self, nonce: int, owner: str) -> bool:
        """Take one nonce that was given back; False if it is gone."""

        def take(pages: Pages) -> bool:
            is_free = nonce in pages.free
            if is_free:
                pages.put([NonceRow(nonce, owner)])
            return is_free

        return await self._change(take)

    async def get_rows(self) -> list[NonceRow]:
        """Return the nonces that are given out and not settled, lowest first."""
        return await self._change(Pages.list_rows)

    async def _change(self, work: Callable[[Pages], T]) -> T:
        return await self._book.change(self.key, work)

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
