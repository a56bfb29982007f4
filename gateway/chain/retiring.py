"""An act that is given up: what is sent again at its nonce does nothing."""

from __future__ import annotations

import logging
from typing import Protocol

from gateway.chain.nonces import NonceLane
from gateway.chain.prepared import Call, Prepared
from gateway.chain.signer import parse_call
from gateway.errors import BackendError

_NOTHING_GAS = 21_000
_log = logging.getLogger(__name__)


class Signs(Protocol):
    """What signs: `gateway.chain.transactions.Transactions`."""

    address: str
    lane: NonceLane

    async def replace(
        self, prepared: Prepared, *, bump: bool = True, instead: Call | None = None
    ) -> Prepared:
        """Sign at the same nonce, and write it down in the book of nonces."""


async def retire(transactions: Signs, prepared: Prepared) -> None:
    """Put nothing in the place of a transaction that no RPC knows and nobody wants any more.

    Its bytes are in the book of nonces, and would be sent again to close the gap that they leave. What stands
    there instead is sent only if later transactions wait for it. Raises nothing: it is tried, no more.
    """
    if prepared.sender != transactions.address:
        return
    act = parse_call(prepared.raw)
    try:
        for row in await transactions.lane.get_rows():
            kept = row.prepared
            if row.nonce == prepared.nonce and kept is not None and parse_call(kept.raw) == act:
                await transactions.replace(kept, instead=Call(transactions.address, gas=_NOTHING_GAS))
    except BackendError as error:
        _log.warning("%s is given up, and may still be sent again: %s", prepared.hash, error.message)
