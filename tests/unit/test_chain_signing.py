"""What is signed in one moment: few changes of the book of nonces, and no gap."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr
from scripted_chain import Chain, Node
from test_chain_transactions import CALL, KEY, TO, count_mined, transactions_on

from gateway.chain.nonces import LaneKey, MemoryNonceBook, NonceState
from gateway.chain.prepared import Call, Prepared
from gateway.chain.signer import SigningFailed, make_key_signer

pytestmark = pytest.mark.anyio

TWENTY = 20


class CountingBook(MemoryNonceBook):
    """Knows how often it was changed: in a store, each time is a transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    async def change(self, key: LaneKey, work: Any) -> Any:
        self.changes += 1
        return await super().change(key, work)


async def test_what_can_not_be_signed_leaves_no_gap_among_those_of_its_moment() -> None:
    """Twenty at once: each third is refused by the signer; the others have nonces without a gap."""
    node, book = Node(Chain()), CountingBook()

    class Picky:
        address = make_key_signer(SecretStr(KEY)).address

        async def sign(self, transaction: Any) -> bytes:
            if int(transaction["value"]) % 3 == 0:
                raise SigningFailed("not this one")
            return await make_key_signer(SecretStr(KEY)).sign(transaction)

    async with transactions_on(node, book=book) as transactions:
        transactions._signer = Picky()
        offer = await transactions.estimate(CALL)
        before = book.changes
        made = await asyncio.gather(
            *(transactions.prepare(Call(TO, value=n), owner=f"act {n}", offer=offer) for n in range(TWENTY)),
            return_exceptions=True,
        )
        signed = [one for one in made if isinstance(one, Prepared)]
        assert [isinstance(one, SigningFailed) for one in made] == [n % 3 == 0 for n in range(TWENTY)]
        assert [one.nonce for one in signed] == list(range(len(signed)))
        rows = await transactions.lane.get_rows()
        assert [row.owner for row in rows] == [f"act {n}" for n in range(TWENTY) if n % 3]
        assert {row.state for row in rows} == {NonceState.SIGNED}
        assert book.changes - before < TWENTY  # not one of each
        assert await transactions.broadcast_many(signed) == [None] * len(signed)
    node.chain.mine()
    assert count_mined(node.chain) == len(signed)
