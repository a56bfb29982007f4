"""Where a prepared transaction is: in a block, in a pool, nowhere, or beaten by another one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.chain.prepared import Prepared
from gateway.chain.receipts import Receipt, fetch_receipts
from gateway.chain.rpc import Asks, Question, request_many
from gateway.chain.spent import find_spender, is_same_act
from gateway.errors import BackendError


class Whereabouts(StrEnum):
    """Where a prepared transaction is."""

    MINED = "mined"  # in a block; the receipt says how it went
    POOLED = "pooled"  # known to an RPC, in no block yet
    ABSENT = "absent"  # no RPC knows it, and its nonce is free: the same bytes may be sent again
    DEAD = "dead"  # another transaction has used the nonce up: it can never land
    UNKNOWN = "unknown"  # nobody could say


@dataclass(frozen=True, slots=True)
class Look:
    """What was found of a prepared transaction.

    Attributes:
        where: see Whereabouts.
        receipt: of MINED.
        by: of DEAD: the hash of the transaction that has the nonce.
        reason: of UNKNOWN: why.
    """

    where: Whereabouts
    receipt: Receipt | None = None
    by: str | None = None
    reason: str = ""

    @property
    def landed(self) -> bool | None:
        """True: it is there. False: it is not (ABSENT may still land, if sent). None: unknown."""
        if self.where is Whereabouts.UNKNOWN:
            return None
        return self.where in (Whereabouts.MINED, Whereabouts.POOLED)


async def look_up(rpc: Asks, prepared: Prepared, *, confirmations: int = 1) -> Look:
    """Say where a transaction is. Raises nothing: trouble with the RPC is UNKNOWN.

    MINED is also one of the same nonce that does the same for other fees: a replacement, which whoever signed
    it may have forgotten. `confirmations`: so deep must a rival lie before a transaction counts as dead.
    """
    try:
        return await _look_up(rpc, prepared, confirmations)
    except BackendError as error:
        return Look(Whereabouts.UNKNOWN, reason=error.message)
    except (TypeError, ValueError):
        return Look(Whereabouts.UNKNOWN, reason="the RPC sent no number")


async def _look_up(rpc: Asks, prepared: Prepared, confirmations: int) -> Look:
    questions: list[Question] = [
        ("eth_getTransactionReceipt", [prepared.hash]),
        ("eth_getTransactionByHash", [prepared.hash]),
        ("eth_getTransactionCount", [prepared.sender, "latest"]),
        ("eth_getTransactionCount", [prepared.sender, "pending"]),
        ("eth_blockNumber", []),
    ]
    receipt_data, transaction, count, pending, height = await request_many(rpc, questions)
    receipt = Receipt.parse(receipt_data)
    if receipt is not None:
        return Look(Whereabouts.MINED, receipt)
    if transaction is not None:
        return Look(Whereabouts.POOLED)
    if int(count, 16) <= prepared.nonce:
        if int(pending, 16) > prepared.nonce:
            return Look(Whereabouts.UNKNOWN, reason="another transaction with its nonce waits for a block")
        return Look(Whereabouts.ABSENT)
    final = max(0, int(height, 16) - confirmations + 1)
    spender = await find_spender(rpc, prepared.sender, prepared.nonce, height=final)
    is_ours = spender.hash.lower() == prepared.hash.lower()
    if not is_ours and not await is_same_act(rpc, prepared, spender):
        return Look(Whereabouts.DEAD, by=spender.hash)
    [receipt] = await fetch_receipts(rpc, [spender.hash])
    return Look(Whereabouts.POOLED) if receipt is None else Look(Whereabouts.MINED, receipt)
