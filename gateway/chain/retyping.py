"""An act whose RPC takes no transactions with tips: signed once more, as a legacy one of the same nonce."""

from __future__ import annotations

from typing import Protocol

from gateway.chain.nonces import NonceLane
from gateway.chain.prepared import Prepared
from gateway.chain.refusals import TypeRefused
from gateway.chain.signer import parse_call
from gateway.errors import BackendError, Unavailable


class Replaces(Protocol):
    """What signs: `gateway.chain.transactions.Transactions`."""

    lane: NonceLane

    async def replace(self, prepared: Prepared, *, bump: bool = True) -> Prepared:
        """Sign the same act once more, and write it down in the book of nonces."""


async def find_version(lane: NonceLane, prepared: Prepared) -> Prepared | None:
    """Return what has replaced a transaction in the book of nonces, if that does the same.

    A process that signed it and was killed before it sent it has left it there.
    """
    for row in await lane.get_rows():
        kept = row.prepared
        if row.nonce != prepared.nonce or kept is None or kept.hash == prepared.hash:
            continue
        if parse_call(kept.raw) == parse_call(prepared.raw):
            return kept
    return None


async def retype(transactions: Replaces, prepared: Prepared, refused: TypeRefused) -> Prepared:
    """Sign what was refused for its type as a legacy transaction: the same act, at the same nonce.

    It is written down in the book of nonces before it is returned. Broadcast it; whoever knows the first
    bytes alone finds it by `look_up`, as any replacement.

    Raises:
        TypeRefused: it can't be signed now, and the first may have landed.
        BackendError: it can't be signed now (FeeTooHigh, SigningFailed, Unavailable); nothing landed, and the
            nonce is given out again.
    """
    try:
        return await transactions.replace(prepared, bump=False)
    except BackendError as error:
        if not refused.is_nowhere:
            raise refused from error
        await transactions.lane.give_back(prepared.nonce)
        if error.landed is False:
            raise
        raise Unavailable(error.message, code=error.code) from error
