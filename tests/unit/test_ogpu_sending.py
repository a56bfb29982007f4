"""Sending together, estimating once, and replacing what is stuck, against a chain in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from scripted_chain import CHAIN_ID, Chain, Node, get_fee, serve
from test_chain_pool import JumpClock

from gateway.chain.fees import FeeTooHigh
from gateway.chain.nonces import MemoryNonceBook
from gateway.chain.prepared import Call
from gateway.chain.refusals import InsufficientFunds, TypeRefused
from gateway.chain.retyping import retype
from gateway.clock import SystemClock
from gateway.errors import InDoubt
from gateway_ogpu.config import OgpuConfig
from gateway_ogpu.connection import Connection
from gateway_ogpu.muster import Muster
from gateway_ogpu.sending import Sending

pytestmark = pytest.mark.anyio

TO = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
CALL = Call(TO, b"\x01")
GWEI = 10**9


class BlockClock(JumpClock):
    """Sleeping makes a block: of whatever the chain would take."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await asyncio.sleep(0)
        base_fee = self.chain.base_fee or 0
        if all(get_fee(self.chain.known[one]) >= base_fee for one in self.chain.pool):
            self.chain.mine()


def make_sending(url: str, clock: Any, book: Any = None, **words: Any) -> Sending:
    contracts = dict.fromkeys(("nexus", "controller", "terminal", "vault"), TO)
    told = {"contracts": contracts, "chain_id": CHAIN_ID, "rpc_url": url, "private_key": "5e" * 32}
    told |= {"pin_url": "http://127.0.0.1:9", "content_gateways": "http://127.0.0.1:9"}
    config = OgpuConfig.model_validate(told | words)
    return Sending(Connection("chain", config, clock, book=book or MemoryNonceBook()))


@asynccontextmanager
async def sending_on(node: Node, clock: Any = None, **words: Any) -> AsyncIterator[Sending]:
    async with serve(node) as [url]:
        sending = make_sending(url, clock or BlockClock(node.chain), **words)
        try:
            yield sending
        finally:
            await sending._connection.aclose()


async def test_what_is_stuck_below_the_base_fee_is_replaced_at_its_nonce() -> None:
    node = Node(Chain())
    async with sending_on(node) as sending:
        prepared = await sending.prepare(CALL, owner="a", what="it")
        node.chain.base_fee = prepared.fees.max_fee + GWEI
        receipt = await sending.deliver(prepared, within=timedelta(minutes=2))
        landed = sending.versions.get_newest(prepared)
        assert receipt.hash == landed.hash != prepared.hash
        assert landed.nonce == prepared.nonce
        assert landed.fees.max_fee >= node.chain.base_fee
        assert sum(len(block.hashes) for block in node.chain.blocks) == 1
        [row] = await sending._connection.transactions.lane.get_rows()
        assert row.prepared == landed  # written down before it was sent


async def test_a_replacement_that_was_forgotten_is_found_by_what_it_does() -> None:
    node, clock = Node(Chain()), JumpClock()
    async with sending_on(node, clock) as sending, sending_on(node) as after:
        prepared = await sending.prepare(CALL, owner="a", what="it")
        await sending.broadcast(prepared)
        node.chain.base_fee = prepared.fees.max_fee + GWEI
        clock.seconds += 3
        await sending.chase(prepared)
        dearer = sending.versions.get_newest(prepared)
        assert node.chain.pool == [dearer.hash] != [prepared.hash]
        receipt = await after.deliver(prepared, within=timedelta(minutes=2))
        assert receipt.hash == dearer.hash
    assert sum(len(block.hashes) for block in node.chain.blocks) == 1


async def test_above_the_cap_it_waits() -> None:
    node = Node(Chain())
    async with sending_on(node, max_fee="0.000000003 OGPU") as sending:
        prepared = await sending.prepare(CALL, owner="a", what="it")
        node.chain.base_fee = prepared.fees.max_fee + GWEI
        with pytest.raises(InDoubt):
            await sending.deliver(prepared, within=timedelta(minutes=1))
        assert sending.versions.get_newest(prepared) is prepared
        assert node.chain.pool == [prepared.hash]
        node.chain.base_fee = GWEI
        assert (await sending.deliver(prepared, within=timedelta(minutes=1))).hash == prepared.hash


async def test_what_waits_for_other_reasons_keeps_its_bytes() -> None:
    node = Node(Chain())
    async with sending_on(node) as sending:
        prepared = await sending.prepare(CALL, owner="a", what="it")
        await sending.broadcast(prepared)
        await sending.chase(prepared)
        assert node.chain.pool == [prepared.hash]
        assert sending.versions.list_hashes(prepared) == [prepared.hash]


def count_mined(chain: Chain) -> int:
    return sum(len(block.hashes) for block in chain.blocks)


async def test_what_is_refused_for_its_type_is_signed_as_legacy_at_its_nonce() -> None:
    node = Node(Chain(), refuse_tips="transaction type not supported")
    async with sending_on(node, JumpClock()) as sending:
        prepared = await sending.prepare(CALL, owner="a", what="it")
        assert prepared.fees.tip is not None
        await sending.broadcast(prepared)
        legacy = sending.versions.get_newest(prepared)
        assert (legacy.nonce, legacy.fees.tip) == (prepared.nonce, None)
        assert node.chain.pool == [legacy.hash]
        [row] = await sending._connection.transactions.lane.get_rows()
        assert (row.prepared, row.owner) == (legacy, "a")
        again = await sending.prepare(CALL, owner="b", what="it")
        assert (again.nonce, again.fees.tip) == (prepared.nonce + 1, None)  # the lesson is learnt
        node.chain.mine()
        receipt = await sending.deliver(prepared, within=timedelta(minutes=1))
        assert receipt.hash == legacy.hash
    async with sending_on(node) as after:  # who knows the first bytes alone
        look = await after._connection.transactions.look_up(prepared)
        assert look.receipt is not None
        assert look.receipt.hash == legacy.hash
    assert count_mined(node.chain) == 1


@pytest.mark.parametrize("keeps_book", [True, False])
async def test_a_legacy_transaction_that_was_signed_and_not_sent_is_sent_after_a_crash(
    *, keeps_book: bool
) -> None:
    node, book = Node(Chain(), refuse_tips="legacy only"), MemoryNonceBook()
    async with sending_on(node, JumpClock(), book=book) as sending:
        prepared = await sending.prepare(CALL, owner="a", what="it")
        transactions = sending._connection.transactions
        with pytest.raises(TypeRefused) as refused:
            await transactions.broadcast(prepared)
        assert refused.value.is_nowhere
        legacy = await retype(transactions, prepared, refused.value)
    async with sending_on(node, book=book if keeps_book else None) as after:
        receipt = await after.deliver(prepared, within=timedelta(minutes=1))
    assert node.chain.known[receipt.hash]["nonce"] == prepared.nonce
    assert (receipt.hash == legacy.hash) or not keeps_book
    assert count_mined(node.chain) == 1


async def test_a_legacy_transaction_above_the_cap_is_not_sent_and_its_nonce_is_free() -> None:
    node = Node(Chain(), refuse_tips="legacy only")
    node.chain.base_fee = GWEI // 2
    async with sending_on(node, JumpClock(), max_fee="0.0000000019 OGPU") as sending:
        prepared = await sending.prepare(CALL, owner="a", what="it")
        with pytest.raises(FeeTooHigh):
            await sending.broadcast(prepared)
        assert node.chain.pool == []
        assert await sending._connection.transactions.lane.get_rows() == []


async def test_a_legacy_transaction_that_is_refused_too_is_refused_for_good() -> None:
    node = Node(Chain(), refuse_tips="legacy only")
    async with sending_on(node, JumpClock()) as sending:
        prepared = await sending.prepare(CALL, owner="a", what="it")
        transactions = sending._connection.transactions
        with pytest.raises(TypeRefused):
            await transactions.broadcast(prepared)
        node.refuse_sends = "insufficient funds"
        legacy = await transactions.replace(prepared, bump=False)
        with pytest.raises(InsufficientFunds):
            await transactions.broadcast(legacy)
        assert await transactions.lane.get_rows() == []


async def test_calls_that_are_alike_are_estimated_once() -> None:
    node, clock = Node(Chain()), JumpClock()
    async with sending_on(node, clock) as sending:
        calls = [Call(TO, bytes([number])) for number in range(20)]
        offers = await asyncio.gather(*(sending.estimate(call, what="it", like="x") for call in calls))
        assert len(set(offers)) == 1
        assert node.asked["eth_estimateGas"] == 1
        await sending.estimate(CALL, what="it", like="x")
        assert node.asked["eth_estimateGas"] == 1
        clock.seconds += 1.1  # it is old now
        await sending.estimate(CALL, what="it", like="x")
        await sending.estimate(CALL, what="it")  # and alone, each is asked for
        await sending.estimate(CALL, what="it")
        assert node.asked["eth_estimateGas"] == 4


async def test_a_failed_estimate_is_nobodys_later() -> None:
    node = Node(Chain(), statuses=[502])
    async with sending_on(node, JumpClock()) as sending:
        told = await asyncio.gather(
            *(sending.estimate(CALL, what="it", like="x") for _ in range(3)), return_exceptions=True
        )
        assert len({type(one) for one in told}) == 1
        assert isinstance(told[0], Exception)
        assert (await sending.estimate(CALL, what="it", like="x")).gas == 60_000


class Indexing(Node):
    """A node that is asked for a receipt too early for its index, as geth's say it."""

    busy = 2

    def on_getTransactionReceipt(self, wanted: str) -> Any:  # noqa: N802
        if self.busy:
            self.busy -= 1
            raise KeyError("transaction indexing is in progress")
        return super().on_getTransactionReceipt(wanted)


async def test_a_refusal_to_show_a_receipt_is_no_refusal_of_what_was_sent() -> None:
    node = Indexing(Chain())
    async with sending_on(node) as sending:
        prepared = await sending.prepare(CALL, owner="a", what="it")
        assert (await sending.deliver(prepared, within=timedelta(minutes=1))).hash == prepared.hash
        node.busy = 10**6
        late = await sending.prepare(CALL, owner="b", what="it")
        with pytest.raises(InDoubt) as told:
            await sending.deliver(late, within=timedelta(minutes=1))
        assert told.value.detail == {"transaction": late.hash}


async def test_those_that_are_coming_are_waited_for() -> None:
    node = Node(Chain())
    async with sending_on(node, SystemClock()) as sending:

        async def publish(number: int) -> None:
            with sending.muster.expect(str(number)):
                await asyncio.sleep(0.002 * number)  # its upload
                prepared = await sending.prepare(CALL, owner=str(number), what="it", offer=offer)
            await sending.broadcast(prepared, owner=str(number))

        offer = await sending.estimate(CALL, what="it")
        await asyncio.gather(*(publish(number) for number in range(10)))
        assert len(node.chain.pool) == 10
        assert sum("eth_sendRawTransaction" in request for request in node.requests) <= 2


async def test_who_does_not_come_is_not_waited_for() -> None:
    clock = JumpClock()
    muster = Muster(clock)
    with pytest.raises(InDoubt), muster.expect("failed"):
        raise InDoubt("its upload")
    await muster.join("a")
    with muster.expect("slow"):
        clock.seconds += 2  # an upload that takes too long to be waited for
        await muster.join("b")
    assert not muster._coming
