"""Receipts of many transactions in one batch, and when they are final."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gateway.chain.heads import Block, Heads
from gateway.chain.rpc import Asks, Log, Question, parse_log, request_many
from gateway.clock import Clock, SystemClock
from gateway.errors import Misbehaved

_KEPT = 10_000  # final receipts that are remembered, the newest
_ALONG = 64  # so many are asked for together with the newest block: one request less until they are known


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction that is in a block.

    Attributes:
        hash: the transaction's.
        succeeded: False: it reverted; it cost gas all the same.
        block_number: where it is.
        block_hash: a reorg changes it.
        gas_used: in units of gas.
        gas_price: what one unit cost, in the chain's smallest unit; 0 if the RPC does not say.
        contract: the address of what it created.
        logs: its events.
        sender: whose transaction it was, checksummed or not; empty if the RPC does not say.
    """

    hash: str
    succeeded: bool
    block_number: int
    block_hash: str
    gas_used: int
    gas_price: int
    contract: str | None
    logs: tuple[Log, ...]
    sender: str = ""

    @property
    def cost(self) -> int:
        """What its gas has cost, in the chain's smallest unit."""
        return self.gas_used * self.gas_price

    @classmethod
    def parse(cls, data: Any) -> Receipt | None:
        """Read JSON-RPC's receipt; None for null, and for one of a pending block. Raises Misbehaved."""
        if data is None or (isinstance(data, Mapping) and data.get("blockNumber") is None):
            return None
        try:
            return cls(
                hash=str(data["transactionHash"]),
                succeeded=int(data.get("status") or "0x1", 16) == 1,
                block_number=int(data["blockNumber"], 16),
                block_hash=str(data["blockHash"]),
                gas_used=int(data["gasUsed"], 16),
                gas_price=int(data.get("effectiveGasPrice") or "0x0", 16),
                contract=data.get("contractAddress"),
                logs=tuple(parse_log(log) for log in data.get("logs") or ()),
                sender=str(data.get("from") or ""),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Misbehaved(f"the RPC sent a receipt that is none ({error!r})") from error


async def fetch_receipts(rpc: Asks, hashes: Sequence[str]) -> list[Receipt | None]:
    """Fetch receipts in as few requests as the RPC allows; None: in no block, as far as it knows."""
    questions: list[Question] = [("eth_getTransactionReceipt", [wanted]) for wanted in hashes]
    return [Receipt.parse(found) for found in await request_many(rpc, questions)]


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look at a transaction: under which head, when on the monotonic clock, and what was there."""

    head: str
    at_seconds: float
    receipt: Receipt | None


class Receipts:
    """Follows the receipts of many transactions: one batch per new block, however many ask how often.

    A few are asked for together with the newest block, whether it is a new one or not: that is one request.

    A receipt counts once it lies `confirmations` blocks deep (1: as soon as it is in a block). Until then it
    is asked for anew with every block, so one that a reorg took away is simply not there again.

    Args:
        rpc: of the chain.
        heads: the chain's newest block, shared with the other followers.
        confirmations: 1 or more.
        ask_again_in: after this long what was missing is asked for without a new block too: the replica that
            did not have it may have been behind.
    """

    def __init__(
        self,
        rpc: Asks,
        heads: Heads,
        *,
        confirmations: int = 1,
        clock: Clock | None = None,
        ask_again_in: timedelta = timedelta(seconds=1),
    ) -> None:
        self._rpc = rpc
        self._heads = heads
        self.confirmations = max(1, confirmations)
        self._clock = clock or SystemClock()
        self._again_seconds = ask_again_in.total_seconds()
        self._final: dict[str, Receipt] = {}
        self._seen: dict[str, _Seen] = {}

    async def look(self, hashes: Iterable[str]) -> dict[str, Receipt | None]:
        """Return per transaction its final receipt, or None as long as there is none.

        Raises as `rpc.request`; then nothing is known that was not known before.
        """
        wanted = list(dict.fromkeys(hashes))
        waiting = [one for one in wanted if one not in self._final]
        if len(waiting) <= _ALONG and self._heads.is_due:
            asked = waiting
            head, receipts = await asyncio.gather(self._heads.fetch(), fetch_receipts(self._rpc, asked))
            now = self._clock.monotonic()
        else:
            head = await self._heads.fetch()
            now = self._clock.monotonic()
            asked = [one for one in waiting if self._is_due(one, head, now)]
            receipts = await fetch_receipts(self._rpc, asked)
        for one, receipt in zip(asked, receipts, strict=True):
            if receipt is not None and self._is_final(receipt, head):
                self._keep(one, receipt)
            else:
                self._seen[one] = _Seen(head.hash, now, receipt)
        return {one: self._final.get(one) for one in wanted}

    def get_early(self, transaction: str) -> Receipt | None:
        """Return what was seen of a transaction so far, final or not: a reorg may still take it away."""
        seen = self._seen.get(transaction)
        return self._final.get(transaction) or (seen.receipt if seen else None)

    def forget(self, hashes: Iterable[str]) -> None:
        """Drop what is known of these: nobody waits for them any more."""
        for one in hashes:
            self._seen.pop(one, None)
            self._final.pop(one, None)

    def _is_due(self, transaction: str, head: Block, now: float) -> bool:
        seen = self._seen.get(transaction)
        if seen is None or seen.head != head.hash:
            return True
        return seen.receipt is None and now - seen.at_seconds >= self._again_seconds

    def _is_final(self, receipt: Receipt, head: Block) -> bool:
        known = self._heads.get_hash(receipt.block_number)
        if known is not None and known != receipt.block_hash:
            return False  # from a replica that has not seen the reorg
        height = max(head.number, receipt.block_number)
        return receipt.block_number <= height - self.confirmations + 1

    def _keep(self, transaction: str, receipt: Receipt) -> None:
        self._seen.pop(transaction, None)
        self._final[transaction] = receipt
        while len(self._final) > _KEPT:
            self._final.pop(next(iter(self._final)))
