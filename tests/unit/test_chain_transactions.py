"""One transaction lands once, whatever the RPCs do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from scripted_chain import CHAIN_ID, FUNDS, Chain, Node, serve
from test_chain_pool import JumpClock

from gateway.chain.fees import FeePolicy, Fees, FeeTooHigh
from gateway.chain.nonces import LaneKey, MemoryNonceBook, NonceLane, NonceState
from gateway.chain.pool import RpcPool
from gateway.chain.prepared import Call, Prepared
from gateway.chain.refusals import (
    InsufficientFunds,
    NonceTaken,
)
from gateway.chain.signer import SigningFailed, make_account_signer, make_key_signer
from gateway.chain.spent import came_too_late
from gateway.chain.transactions import Transactions
from gateway.chain.whereabouts import Whereabouts
from gateway.errors import InDoubt, Rejected, Throttled, Unavailable

pytestmark = pytest.mark.anyio

KEY = "0x" + "5e" * 32
TO = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
CALL = Call(TO, b"\x01", value=1)


def make_transactions(pool: RpcPool, **options: Any) -> Transactions:
    signer = make_key_signer(SecretStr(KEY))
    book = options.pop("book", MemoryNonceBook())
    lane = NonceLane(pool, LaneKey(CHAIN_ID, signer.address), book=book, fresh_for=timedelta(0))
    return Transactions(pool, signer, lane, **options)


@asynccontextmanager
async def transactions_on(*nodes: Node, **options: Any) -> AsyncIterator[Transactions]:
    async with serve(*nodes) as urls, RpcPool(urls, chain_id=CHAIN_ID, clock=JumpClock()) as pool:
        yield make_transactions(pool, **options)


def count_mined(chain: Chain) -> int:
    return sum(len(block.hashes) for block in chain.blocks)


@pytest.mark.parametrize("batch_limit", [1000, 10, 1])
async def test_twenty_at_once(batch_limit: int) -> None:
    node = Node(Chain(), batch_limit=batch_limit)
    async with transactions_on(node) as transactions:
        prepared = await asyncio.gather(*(transactions.prepare(CALL) for _ in range(20)))
        assert await transactions.broadcast_many(prepared) == [None] * 20
    node.chain.mine()
    assert count_mined(node.chain) == 20
    assert [one.nonce for one in prepared] == list(range(20))
    if batch_limit == 1000:
        assert len(node.requests) == 2  # all questions and the chain's id, all transactions


async def test_the_lowest_nonce_goes_first() -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = [await transactions.prepare(CALL) for _ in range(3)]
        await transactions.broadcast_many([prepared[2], prepared[0], prepared[2], prepared[1]])
    assert node.chain.pool == [one.hash for one in prepared]


async def test_a_legacy_chain() -> None:
    node = Node(Chain())
    node.chain.base_fee = None
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        await transactions.broadcast(prepared)
        assert prepared.fees == Fees(2 * 10**9)
        dearer = await transactions.replace(prepared)
    assert dearer.fees == Fees(2_250_000_000)
    assert node.chain.known[prepared.hash]["gasPrice"] == 2 * 10**9


async def test_a_replacement_is_the_same_act_for_whoever_knows_the_first_bytes_alone() -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        await transactions.broadcast(prepared)
        dearer = await transactions.replace(prepared)
        await transactions.broadcast(dearer)
        assert node.chain.pool == [dearer.hash]
        after = make_transactions(transactions._rpc)  # a process that has not heard of the replacement
        assert (await after.look_up(prepared)).where is Whereabouts.UNKNOWN
        with pytest.raises(NonceTaken):
            await after.broadcast(prepared)
        node.chain.mine(3)
        look = await after.look_up(prepared)
        assert look.where is Whereabouts.MINED
        assert look.receipt is not None
        assert look.receipt.hash == dearer.hash
    assert count_mined(node.chain) == 1


async def test_an_answer_that_is_lost_is_a_doubt_that_a_look_ends() -> None:
    node = Node(Chain(), lost_sends=1)
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        with pytest.raises(InDoubt):
            await transactions.broadcast(prepared)
        [row] = await transactions.lane.get_rows()
        assert row.state is NonceState.SENT
        assert (await transactions.look_up(prepared)).where is Whereabouts.POOLED
        await transactions.broadcast(prepared)  # "already known"
    node.chain.mine()
    assert count_mined(node.chain) == 1


async def test_a_doubt_goes_to_the_next_rpc_with_the_same_bytes() -> None:
    chain = Chain()
    losing, other = Node(chain, lost_sends=1), Node(chain)
    async with transactions_on(losing, other) as transactions:
        await transactions.broadcast(await transactions.prepare(CALL))
    chain.mine()
    assert count_mined(chain) == 1
    assert other.asked["eth_sendRawTransaction"] == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_proxys_error_is_a_doubt(status: int) -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        node.statuses = [status]
        with pytest.raises(InDoubt):
            await transactions.broadcast(prepared)
        assert (await transactions.look_up(prepared)).where is Whereabouts.ABSENT
        await transactions.broadcast(prepared)
        assert (await transactions.look_up(prepared)).where is Whereabouts.POOLED


async def test_lost_before_and_lost_after_look_alike() -> None:
    node = Node(Chain(), lost_before=1)
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        with pytest.raises(InDoubt):
            await transactions.broadcast(prepared)
        assert (await transactions.prepare(CALL)).nonce == prepared.nonce + 1
        await transactions.broadcast(prepared)
        assert (await transactions.look_up(prepared)).where is Whereabouts.POOLED


@pytest.mark.parametrize("status", [429, 403])
async def test_what_was_turned_away_is_nowhere_and_its_nonce_is_free(status: int) -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        node.statuses = [status]
        with pytest.raises((Throttled, Rejected)) as caught:
            await transactions.broadcast(prepared)
        assert caught.value.landed is False
        again = await transactions.prepare(CALL)
        assert again.nonce == prepared.nonce
        await transactions.broadcast(again)
    node.chain.mine()
    assert count_mined(node.chain) == 1


async def test_after_a_doubt_no_refusal_is_believed() -> None:
    node = Node(Chain(), lost_sends=1)
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        with pytest.raises(InDoubt):
            await transactions.broadcast(prepared)
        node.refuse_sends = "insufficient funds for gas * price + value"
        with pytest.raises(InDoubt):
            await transactions.broadcast(prepared)
        node.statuses = [429]
        with pytest.raises(InDoubt):
            await transactions.broadcast(prepared)
        assert len(await transactions.lane.get_rows()) == 1


async def test_after_a_restart_no_refusal_is_believed() -> None:
    node = Node(Chain(), lost_sends=1)
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        with pytest.raises(InDoubt):
            await transactions.broadcast(prepared)
        after = make_transactions(transactions._rpc)
        node.refuse_sends = "insufficient funds"
        with pytest.raises(InDoubt):
            await after.broadcast(Prepared.parse(prepared.encode()))


async def test_a_durable_book_remembers_what_was_never_sent() -> None:
    node, book = Node(Chain()), MemoryNonceBook()
    async with transactions_on(node, book=book) as transactions:
        prepared = await transactions.prepare(CALL, owner="attempt")
        after = make_transactions(transactions._rpc, book=book)
        assert (await after.prepare(CALL)).nonce == prepared.nonce + 1
        node.refuse_sends = "insufficient funds"
        with pytest.raises(InsufficientFunds):
            await after.broadcast(prepared)


async def test_receipts_that_are_hidden_do_not_make_it_dead() -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        await transactions.broadcast(prepared)
        node.chain.mine(5)
        node.hidden = 2  # one look finds neither receipt nor transaction, though the nonce is spent
        assert (await transactions.look_up(prepared)).where is Whereabouts.MINED
        node.hidden, node.on_getTransactionReceipt = 1, lambda _: None  # type: ignore[method-assign]
        look = await transactions.look_up(prepared)
        assert (look.where, look.landed) == (Whereabouts.POOLED, True)


async def test_a_replica_that_lags_shows_it_as_absent_never_dead() -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        await transactions.broadcast(prepared)
        node.chain.mine(3)
        node.lag = 3
        assert (await transactions.look_up(prepared)).where is Whereabouts.ABSENT
        with pytest.raises(NonceTaken):
            await transactions.broadcast(prepared)
        node.lag = 0
        assert (await transactions.look_up(prepared)).where is Whereabouts.MINED


async def test_that_it_came_too_late_is_proven_by_one_block() -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        moment = 1_700_000_000 + 3  # of block 3
        node.chain.mine(3)
        assert not await came_too_late(transactions._rpc, prepared, moment)
        node.chain.mine()
        assert await came_too_late(transactions._rpc, prepared, moment)
        assert not await came_too_late(transactions._rpc, prepared, moment, confirmations=2)


async def test_replicas_of_different_heights_do_not_make_it_too_late() -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        await transactions.broadcast(prepared)
        node.chain.mine(9)
        newest = node.on_getBlockByNumber("latest", False)
        node.lag = 9
        assert (await transactions.look_up(prepared)).where is Whereabouts.ABSENT
        assert not await came_too_late(transactions._rpc, prepared, 1_700_000_000)
        node.on_getBlockByNumber = lambda *_: newest  # type: ignore[method-assign]  another one answers that
        with pytest.raises(Unavailable, match="header not found"):
            await came_too_late(transactions._rpc, prepared, 1_700_000_000)


async def test_a_stale_nonce_gives_no_nonce_twice() -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        for number in range(3):
            prepared = await transactions.prepare(CALL)
            assert prepared.nonce == number
            await transactions.broadcast(prepared)
            node.chain.mine()
            node.lag = number + 1


@pytest.mark.parametrize("distance", [0, 1, 2, 5, 100, 700])
async def test_dead_is_proven(distance: int) -> None:
    node = Node(Chain())
    node.chain.mine(30)
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        rival = await make_transactions(transactions._rpc).prepare(Call(TO, value=5))
        await make_transactions(transactions._rpc).broadcast(rival)
        assert (await transactions.look_up(prepared)).where is Whereabouts.UNKNOWN  # the rival waits
        with pytest.raises(NonceTaken):
            await transactions.broadcast(prepared)
        node.chain.mine(1 + distance)
        before = len(node.requests)
        look = await transactions.look_up(prepared)
        assert (look.where, look.by, look.landed) == (Whereabouts.DEAD, rival.hash, False)
        assert len(node.requests) - before < 12
        careful = make_transactions(transactions._rpc, confirmations=distance + 2)
        assert (await careful.look_up(prepared)).where is Whereabouts.UNKNOWN


@pytest.mark.parametrize("old_states", ["newest", "gone"])
@pytest.mark.parametrize("distance", [0, 1, 40, 200])
async def test_dead_is_proven_without_old_states(old_states: str, distance: int) -> None:
    node = Node(Chain(), old_states=old_states)
    node.chain.mine(30)
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        rival = await make_transactions(transactions._rpc).prepare(Call(TO, value=5))
        await make_transactions(transactions._rpc).broadcast(rival)
        node.chain.mine(1 + distance)
        careful = make_transactions(transactions._rpc, confirmations=distance + 2)
        assert (await careful.look_up(prepared)).where is Whereabouts.UNKNOWN
        assert (await transactions.look_up(prepared)).by == rival.hash
        node.chain.mine(300)
        assert (await transactions.look_up(prepared)).where is Whereabouts.UNKNOWN  # too far away to see


async def test_a_rival_in_the_first_blocks() -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        rival = await make_transactions(transactions._rpc).prepare(Call(TO, value=5))
        await make_transactions(transactions._rpc).broadcast(rival)
        node.chain.mine()
        assert (await transactions.look_up(prepared)).by == rival.hash


async def test_a_reorg_brings_it_back_to_waiting() -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        await transactions.broadcast(prepared)
        node.chain.mine()
        assert (await transactions.look_up(prepared)).where is Whereabouts.MINED
        node.chain.reorg(1, lose=True)
        assert (await transactions.look_up(prepared)).where is Whereabouts.ABSENT
        await transactions.broadcast(prepared)
        node.chain.mine()
        assert (await transactions.look_up(prepared)).where is Whereabouts.MINED
    assert count_mined(node.chain) == 1


@pytest.mark.parametrize("statuses", [[502], [429], [500]])
async def test_a_look_that_fails_is_unknown(statuses: list[int]) -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        node.statuses = statuses
        look = await transactions.look_up(prepared)
        assert (look.where, look.landed) == (Whereabouts.UNKNOWN, None)
        assert look.reason


async def test_a_voided_transaction_can_not_push_another_out() -> None:
    node = Node(Chain())
    async with transactions_on(node) as transactions:
        voided = await transactions.prepare(CALL)
        await transactions.discard(voided)
        taken = await transactions.prepare(Call(TO, value=3))
        assert taken.nonce == voided.nonce
        with pytest.raises(NonceTaken):
            await transactions.broadcast(voided)
        await transactions.broadcast(taken)
    assert node.chain.pool == [taken.hash]


async def test_caps_funds_and_signers_use_no_nonce_up() -> None:
    node = Node(Chain())
    async with transactions_on(node, policy=FeePolicy(max_fee=10**9)) as transactions:
        with pytest.raises(FeeTooHigh):
            await transactions.prepare(CALL)
        transactions.policy = FeePolicy()
        with pytest.raises(InsufficientFunds):
            await transactions.prepare(Call(TO, value=FUNDS))

        class Broken:
            address = transactions.address

            def sign_transaction(self, _: Any) -> Any:
                raise OSError

        transactions._signer, good = make_account_signer(Broken()), transactions._signer
        with pytest.raises(SigningFailed):
            await transactions.prepare(CALL)
        transactions._signer = good
        assert (await transactions.prepare(CALL)).nonce == 0


async def test_the_key_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    node = Node(Chain(), lost_sends=1)
    async with transactions_on(node) as transactions:
        prepared = await transactions.prepare(CALL)
        with pytest.raises(InDoubt) as caught:
            await transactions.broadcast(prepared)
        shown = f"{prepared!r} {prepared.encode()} {await transactions.lane.get_rows()} {caught.value!r}"
        shown += f"{transactions!r} {vars(transactions)} {caplog.text}"
    assert KEY[2:] not in shown.lower()
    assert str(int(KEY, 16)) not in shown
    assert prepared.hash in shown
