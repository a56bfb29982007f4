"""Who used a nonce up: the proof that a transaction can never land."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.chain.rpc import Asks, Question, request, request_many
from gateway.errors import Misbehaved, Unavailable

_FARTHEST = 14  # powers of two that are looked back: 8,192 blocks
_PROBES = 16  # blocks per batch while narrowing down


@dataclass(frozen=True, slots=True)
class Spender:
    """The transaction that has a nonce: its hash as 0x hex, and the number of the block it is in."""

    hash: str
    block_number: int


async def find_spender(rpc: Asks, sender: str, nonce: int, *, height: int) -> Spender:
    """Find the transaction of `sender` with this nonce, in a block at or below `height`.

    Needs the account's nonce at older blocks, which nodes keep for some hundred blocks at least. It takes a
    few batches, whatever the distance.

    Raises Unavailable if it can't be found (old state is gone, replicas disagree); else as `rpc.request`.
    """
    low, high = await _bracket(rpc, sender, nonce, height)
    while high - low > 1:
        step = max(1, (high - low) // (_PROBES + 1))
        probes = list(range(low + step, high, step))
        counts = await _fetch_counts(rpc, sender, probes)
        low = max((probe for probe, count in zip(probes, counts, strict=True) if count <= nonce), default=low)
        high = min(
            (probe for probe, count in zip(probes, counts, strict=True) if count > nonce), default=high
        )
        if low >= high:
            raise Unavailable("the RPC contradicts itself about an account's nonce")
    block: Any = await request(rpc, "eth_getBlockByNumber", [hex(high), True])
    try:
        for transaction in block["transactions"]:
            if transaction["from"].lower() == sender.lower() and int(transaction["nonce"], 16) == nonce:
                return Spender(str(transaction["hash"]), high)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Misbehaved(f"the RPC sent a block that is none ({error!r})") from error
    raise Unavailable(f"nonce {nonce} is spent, and the RPC does not show by what")


async def _bracket(rpc: Asks, sender: str, nonce: int, height: int) -> tuple[int, int]:
    """Return (a block before the nonce was spent, one after): -1 stands for before the first block.

    Probes go back by powers of two, from the newest on, so that no more old state is asked for than needed.
    """
    high = height
    for start in range(0, _FARTHEST, 2):
        probes = sorted({max(0, height - 2**power) for power in (start, start + 1)}, reverse=True)
        if start == 0:
            probes = [height, *(probe for probe in probes if probe < height)]
        counts = await _fetch_counts(rpc, sender, probes)
        for probe, count in zip(probes, counts, strict=True):
            if probe == height and count <= nonce:
                raise Unavailable(f"nonce {nonce} is not spent yet at block {height}")
            if count <= nonce:
                return probe, high
            high = min(high, probe)
        if high == 0:
            return -1, 0
    raise Unavailable(f"nonce {nonce} was spent too long ago to see by what")


async def _fetch_counts(rpc: Asks, sender: str, blocks: Sequence[int]) -> list[int]:
    questions: list[Question] = [("eth_getTransactionCount", [sender, hex(block)]) for block in blocks]
    try:
        return [int(count, 16) for count in await request_many(rpc, questions)]
    except (TypeError, ValueError) as error:
        raise Misbehaved("the RPC sent no nonce") from error
