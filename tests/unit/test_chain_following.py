"""Heads, receipts and logs: few questions, and a reorg changes what is seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from scripted_chain import CHAIN_ID, TOPIC, Chain, Node, serve
from test_chain_pool import JumpClock

from gateway.chain.heads import Heads
from gateway.chain.pool import RpcPool
from gateway.chain.receipts import Receipt, Receipts
from gateway.chain.rpc import Log, RpcRefused
from gateway.chain.scan import LogFilter, LogScan
from gateway.chain.signer import make_key_signer
from gateway.errors import Misbehaved, Unavailable

pytestmark = pytest.mark.anyio

TO = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"


class Site:
    """A chain, one RPC of it, and what follows it."""

    def __init__(self, node: Node, pool: RpcPool, clock: JumpClock) -> None:
        self.node, self.chain, self.pool, self.clock = node, node.chain, pool, clock
        self.heads = Heads(pool, clock=clock, fresh_for=timedelta(0))
        self.signer = make_key_signer(SecretStr("0x" + "5e" * 32))
        self.nonce = 0

    async def put(self, text: str) -> str:
        """Put a transaction with this data into the pool."""
        fees = {"gasPrice": 10**9, "chainId": CHAIN_ID, "gas": 50_000, "value": 0}
        data = {"to": TO, "nonce": self.nonce, "data": "0x" + text.encode().hex()}
        self.nonce += 1
        return self.chain.take("0x" + (await self.signer.sign({**fees, **data})).hex())

    async def emit(self, text: str) -> str:
        transaction = await self.put(text)
        self.chain.mine()
        return transaction

    def scan(self, **options: Any) -> LogScan:
        wanted = LogFilter((TO,), (TOPIC,))
        return LogScan(self.pool, self.heads, wanted, keys_of=keys_of, clock=self.clock, **options)

    def receipts(self, **options: Any) -> Receipts:
        return Receipts(self.pool, self.heads, clock=self.clock, **options)


def keys_of(log: Log) -> list[str]:
    return [log.data.decode()]


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    node, clock = Node(Chain()), JumpClock()
    async with serve(node) as urls, RpcPool(urls, chain_id=CHAIN_ID, clock=clock) as pool:
        yield Site(node, pool, clock)


def count(found: dict[str, tuple[Log, ...]]) -> list[int]:
    return [len(logs) for logs in found.values()]


async def test_a_head_is_believed_for_a_while() -> None:
    async with site() as at:
        heads = Heads(at.pool, clock=at.clock, fresh_for=timedelta(seconds=1))
        assert (await heads.fetch()).number == 0
        at.chain.mine()
        assert (await heads.fetch()).number == 0
        at.clock.seconds += 1
        assert (await heads.fetch()).number == 1
        assert at.node.asked["eth_getBlockByNumber"] == 2


async def test_who_asks_while_it_is_asked_for_shares_the_newest_block() -> None:
    """However old an answer may be: else forty at once ask one after another, each for all that it waits."""
    async with site() as at:
        found = await asyncio.gather(*(at.heads.fetch() for _ in range(40)))
        assert {block.number for block in found} == {0}
        assert at.node.asked["eth_getBlockByNumber"] == 1
        at.node.statuses = [502]
        failed = await asyncio.gather(*(at.heads.fetch() for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in failed] == [Unavailable] * 3
        assert (await at.heads.fetch()).number == 0


async def test_a_lagging_replica_moves_no_head_back_and_a_reorg_does() -> None:
    async with site() as at:
        at.chain.mine(5)
        for _ in range(2):
            at.chain.mine()
            newest = await at.heads.fetch()
        at.node.lag = 1
        assert await at.heads.fetch() == newest
        at.node.lag = 0
        at.chain.reorg(3, longer=0)
        at.node.lag = 1
        reorged = await at.heads.fetch()
        assert reorged.number == newest.number - 1
        assert at.heads.get_hash(newest.number) is None


async def test_a_few_receipts_come_with_the_newest_block() -> None:
    async with site() as at:
        receipts = at.receipts()
        hashes = [await at.put(f"{number}") for number in range(20)]
        before = len(at.node.requests)
        assert set((await receipts.look(hashes)).values()) == {None}
        at.chain.mine()
        assert None not in (await receipts.look(hashes)).values()
        assert len(at.node.requests) == before + 2
        await receipts.look(hashes)
        assert at.node.asked["eth_getTransactionReceipt"] == 40


async def test_receipts_cost_one_batch_per_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.chain.receipts._ALONG", 0)
    async with site() as at:
        receipts = at.receipts()
        hashes = [await at.put(f"{number}") for number in range(50)]
        for _ in range(3):
            assert set((await receipts.look(hashes)).values()) == {None}
        assert at.node.asked["eth_getTransactionReceipt"] == 50
        at.chain.mine()
        for _ in range(3):
            assert None not in (await receipts.look(hashes)).values()
        assert at.node.asked["eth_getTransactionReceipt"] == 100
        assert len([one for one in at.node.requests if "eth_getTransactionReceipt" in one]) == 2


async def test_a_receipt_that_is_hidden_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.chain.receipts._ALONG", 0)
    async with site() as at:
        receipts = at.receipts(ask_again_in=timedelta(seconds=1))
        transaction = await at.emit("a")
        at.node.hidden = 1
        assert (await receipts.look([transaction]))[transaction] is None
        assert (await receipts.look([transaction]))[transaction] is None
        at.clock.seconds += 1
        assert (await receipts.look([transaction]))[transaction] is not None  # though there is no new block


async def test_a_receipt_counts_when_it_is_deep_and_not_if_a_reorg_takes_it() -> None:
    async with site() as at:
        receipts = at.receipts(confirmations=3)
        transaction = await at.emit("a")
        for _ in range(2):
            assert (await receipts.look([transaction]))[transaction] is None
            assert receipts.get_early(transaction) is not None
            at.chain.mine()
        at.chain.reorg(3, lose=True)
        assert (await receipts.look([transaction]))[transaction] is None
        assert receipts.get_early(transaction) is None
        at.chain.pool.append(transaction)
        at.chain.mine(3)
        receipt = (await receipts.look([transaction]))[transaction]
        assert receipt is not None
        assert receipt.block_number == len(at.chain.blocks) - 3
        before = len(at.node.requests)
        at.chain.mine()
        await receipts.look([transaction])
        assert len(at.node.requests) == before + 1  # the head; what is final is not asked for
        receipts.forget([transaction])
        assert receipts.get_early(transaction) is None


async def test_a_receipt_of_a_block_that_is_gone_is_not_final() -> None:
    async with site() as at:
        receipts = at.receipts(confirmations=2)
        transaction = await at.emit("a")
        await receipts.look([transaction])
        old = at.chain.blocks[-1]
        at.chain.reorg(1, longer=0, lose=True)
        await at.heads.fetch()
        at.chain.blocks[-1].hashes.append(transaction)  # a replica that has not seen the reorg
        hash_now, at.chain.blocks[-1].hash = at.chain.blocks[-1].hash, old.hash
        block = at.node.on_getTransactionReceipt(transaction)
        at.chain.blocks[-1].hash = hash_now
        at.node.on_getTransactionReceipt = lambda _: block  # type: ignore[method-assign]
        at.chain.mine()
        assert (await receipts.look([transaction]))[transaction] is None


@pytest.mark.parametrize("data", [3, {}, {"blockNumber": "0x1"}, {"blockNumber": 7}, "receipt"])
def test_what_is_no_receipt(data: Any) -> None:
    if data == {}:
        assert Receipt.parse(data) is None
        return
    with pytest.raises(Misbehaved):
        Receipt.parse(data)


async def test_each_waiter_gets_its_own() -> None:
    async with site() as at:
        scan = at.scan()
        for key in ("a", "b", "c"):
            scan.watch(key, since=0)
        await at.emit("a")
        for text in ("b", "a"):
            await at.put(text)
        at.chain.mine()
        found = await scan.look(["a", "b", "c", "unheard"])
        assert count(found) == [2, 1, 0, 0]
        assert [log.block_number for log in found["a"]] == [1, 2]
        scan.drop("a")
        assert count(await scan.look(["a", "b"])) == [0, 1]


async def test_one_scan_per_block_whatever_the_number_of_waiters() -> None:
    async with site() as at:
        scan = at.scan()
        for number in range(1000):
            scan.watch(f"{number}", since=0)
        for _ in range(5):
            at.chain.mine()
            for number in range(20):
                await scan.look([f"{number}"])
        assert at.node.asked["eth_getLogs"] == 5


async def test_nobody_waits_and_nothing_is_scanned() -> None:
    async with site() as at:
        assert await at.scan().look([]) == {}
        assert at.node.asked["eth_getLogs"] == 0


async def test_who_comes_late_sees_the_past() -> None:
    async with site() as at:
        scan = at.scan(again_blocks=3)
        scan.watch("a", since=0)
        await at.emit("old")
        at.chain.mine(10)
        await at.emit("new")
        await scan.look(["a"])
        scan.watch("new", since=len(at.chain.blocks) - 1)  # within the last blocks: no scan is needed
        assert count(await scan.look(["new"])) == [1]
        assert at.node.asked["eth_getLogs"] == 1
        scan.watch("old", since=1)
        assert count(await scan.look(["old"])) == [0]  # not twice for one block in the same moment
        at.clock.seconds += 1
        assert count(await scan.look(["old"])) == [1]
        assert at.node.asked["eth_getLogs"] == 2


async def test_events_count_when_they_are_deep() -> None:
    async with site() as at:
        scan = at.scan(confirmations=3)
        scan.watch("a", since=0)
        await at.emit("a")
        for seen in (0, 0, 1):
            assert count(await scan.look(["a"])) == [seen]
            at.chain.mine()


@pytest.mark.parametrize("again_blocks", [2, 12])
@pytest.mark.parametrize("depth", [1, 2, 5, 9])
async def test_a_reorg_of_any_depth_is_survived(again_blocks: int, depth: int) -> None:
    async with site() as at:
        scan = at.scan(again_blocks=again_blocks)
        for key in ("a", "b"):
            scan.watch(key, since=0)
        await at.emit("a")
        at.chain.mine(10)
        await scan.look(["a"])
        await at.emit("b")
        for _ in range(depth - 1):
            await scan.look(["a"])
            at.chain.mine()
        assert count(await scan.look(["a", "b"])) == [1, 1]
        at.chain.reorg(depth, lose=True, longer=2)
        assert count(await scan.look(["a", "b"])) == [1, 0]
        at.chain.mine(2)
        assert count(await scan.look(["a", "b"])) == [1, 0]
        at.chain.pool = [one for one in at.chain.known if at.chain.find(one) is None]
        at.chain.mine()
        found = await scan.look(["a", "b"])
        assert count(found) == [1, 1]
        assert found["b"][0].block_number == len(at.chain.blocks) - 1


async def test_a_replica_that_lags_hides_no_event_for_good() -> None:
    async with site() as at:
        scan = at.scan()
        scan.watch("a", since=0)
        at.chain.mine()
        await scan.look(["a"])
        await at.emit("a")
        head = await at.heads.fetch()
        at.node.lag = 1  # the head came from one replica, the scan goes to another
        at.heads.fetch = lambda: _give(head)  # type: ignore[method-assign]
        assert count(await scan.look(["a"])) == [0]
        at.node.lag = 0
        at.clock.seconds += 1
        assert count(await scan.look(["a"])) == [1]


async def _give(head: Any) -> Any:
    return head


async def test_a_limit_on_ranges_is_learned() -> None:
    async with site() as at:
        at.chain.mine(100)
        await at.emit("a")
        at.node.widest_logs = 30
        scan = at.scan()
        scan.watch("a", since=0)
        assert count(await scan.look(["a"])) == [1]
        at.chain.mine()
        before = at.node.asked["eth_getLogs"]
        await scan.look(["a"])
        assert at.node.asked["eth_getLogs"] == before + 1


async def test_a_scan_that_fails_forgets_nothing() -> None:
    async with site() as at:
        scan = at.scan()
        scan.watch("a", since=0)
        await at.emit("a")
        await scan.look(["a"])
        at.chain.mine()
        head = await at.heads.fetch()
        at.heads.fetch = lambda: _give(head)  # type: ignore[method-assign]
        at.node.statuses = [502]
        with pytest.raises(Unavailable):
            await scan.look(["a"])
        at.node.widest_logs = 0
        at.clock.seconds += 1
        with pytest.raises(RpcRefused):
            await scan.look(["a"])
        at.node.widest_logs = 20
        at.clock.seconds += 1
        assert count(await scan.look(["a"])) == [1]
