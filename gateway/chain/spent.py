"""Who used a nonce up: the proof that a transaction can never land."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.chain.prepared import Prepared
from gateway.chain.rpc import Asks, Question, RpcRefused, fetch_head, request, request_many
from gateway.chain.signer import parse_call
from gateway.errors import Misbehaved, Unavailable

_FARTHEST = 14  # powers of two that are looked back: 8,192 blocks
_PROBES = 16  # blocks per batch
_WALKED = 256  # blocks that are looked through where old states are not kept


@dataclass(frozen=True, slots=True)
class Spender:
    """The transaction that has a nonce: its hash as 0x hex, and the number of the block it is in."""

    hash: str
    block_number: int


class NotFinalYet(Unavailable):
    """The nonce is spent in a block that may still be undone."""


async def find_spender(rpc: Asks, sender: str, nonce: int, *, height: int) -> Spender:
    """Find the transaction of `sender` with this nonce, in a block at or below `height`.

    The account's nonce at older blocks leads to it, in a few batches whatever the distance. An RPC that does
    not keep old states, or answers from the newest, is asked for the newest blocks themselves.

    Raises Unavailable if it can't be found, NotFinalYet if it lies higher; else as `rpc.request`.
    """
    try:
        low, high = await _bracket(rpc, sender, nonce, height)
        while high - low > 1:
            low, high = await _narrow(rpc, sender, nonce, low, high)
        spender = await _find_in_blocks(rpc, sender, nonce, [high])
    except NotFinalYet:
        raise
    except (Unavailable, RpcRefused):
        spender = None
    for top in range(height, max(-1, height - _WALKED), -_PROBES):
        if spender is not None:
            return spender
        spender = await _find_in_blocks(rpc, sender, nonce, range(top, max(-1, top - _PROBES), -1))
    if spender is None:
        raise Unavailable(f"nonce {nonce} is spent, and the RPC does not show by what")
    return spender


async def is_same_act(rpc: Asks, prepared: Prepared, spender: Spender) -> bool:
    """Say whether the transaction that has the nonce does what the prepared one was to do, for other fees.

    Raises Unavailable if it can't be seen, else as `rpc.request`.
    """
    found: Any = await request(rpc, "eth_getTransactionByHash", [spender.hash])
    if found is None:
        raise Unavailable(f"nonce {prepared.nonce} is spent by {spender.hash}, and the RPC does not show it")
    call = parse_call(prepared.raw)
    try:
        data = bytes.fromhex(str(found.get("input") or found["data"]).removeprefix("0x"))
        to, value = found.get("to") or "", int(found["value"], 16)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Misbehaved(f"the RPC sent a transaction that is none ({error!r})") from error
    return (data, value, to.lower()) == (call.data, call.value, (call.to or "").lower())


async def came_too_late(rpc: Asks, prepared: Prepared, moment: int, *, confirmations: int = 1) -> bool:
    """Say whether it is proven that no block up to a moment (seconds since the epoch) has a transaction.

    The proof is a block of later than that, `confirmations` deep, in which its nonce is free. That `look_up`
    finds it nowhere is none: a replica that lags finds nothing either. Raises as `rpc.request`.
    """
    head = await fetch_head(rpc, behind=confirmations - 1)
    if head.timestamp <= moment:
        return False
    [count] = await _fetch_counts(rpc, prepared.sender, [head.number])
    return count <= prepared.nonce


async def _narrow(rpc: Asks, sender: str, nonce: int, low: int, high: int) -> tuple[int, int]:
    step = max(1, (high - low) // (_PROBES + 1))
    probes = list(range(low + step, high, step))
    counts = await _fetch_counts(rpc, sender, probes)
    for probe, count in zip(probes, counts, strict=True):
        low = max(low, probe) if count <= nonce else low
        high = min(high, probe) if count > nonce else high
    if low >= high:
        raise Unavailable("the RPC contradicts itself about an account's nonce")
    return low, high


async def _find_in_blocks(rpc: Asks, sender: str, nonce: int, numbers: Sequence[int]) -> Spender | None:
    questions: list[Question] = [("eth_getBlockByNumber", [hex(number), True]) for number in numbers]
    blocks: list[Any] = await request_many(rpc, questions)
    try:
        for number, block in zip(numbers, blocks, strict=True):
            for transaction in block["transactions"] if block is not None else ():
                if transaction["from"].lower() == sender.lower() and int(transaction["nonce"], 16) == nonce:
                    return Spender(str(transaction["hash"]), number)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Misbehaved(f"the RPC sent a block that is none ({error!r})") from error
    return None


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
                raise NotFinalYet(f"nonce {nonce} is not spent yet at block {height}")
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
