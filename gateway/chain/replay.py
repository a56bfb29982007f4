"""Why a transaction reverted in its block: receipts don't say, so its call is run once more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.chain.prepared import Prepared
from gateway.chain.receipts import Receipt
from gateway.chain.reverts import Reason, ReasonKind
from gateway.chain.rpc import Asks, Question, Reverted
from gateway.chain.signer import parse_raw_transaction
from gateway.types import JSON

OUT_OF_GAS = Reason(ReasonKind.ERROR, "out of gas")


async def fetch_reason(
    rpc: Asks, prepared: Prepared, receipt: Receipt, abi: Iterable[Mapping[str, Any]] = ()
) -> Reason:
    """Return why a transaction failed, as far as it can be known afterwards; never raises for that.

    The call is run on the state before its block and after it. What other transactions of the block did
    before it is not seen: EMPTY if it would work on both.
    """
    if receipt.gas_used >= prepared.gas:
        return OUT_OF_GAS
    signed = parse_raw_transaction(bytes.fromhex(prepared.raw[2:]))
    call: dict[str, JSON] = {name: signed[name] for name in ("from", "to", "data") if name in signed}
    call.update(value=hex(signed["value"]), gas=hex(prepared.gas))
    number = receipt.block_number
    questions: list[Question] = [("eth_call", [call, hex(at)]) for at in (max(0, number - 1), number)]
    for outcome in await rpc.ask(questions):
        if isinstance(outcome, Reverted):
            return outcome.explain(abi)
    return Reason(ReasonKind.EMPTY)
