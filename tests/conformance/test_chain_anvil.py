"""The chain kit on real EVMs: twenty transactions in a block or two, gaps, replacements, reorgs, crashes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import local_chain
import pytest
from pydantic import SecretStr

from gateway.chain.fees import FeePolicy, Fees, FeeTooHigh, Market
from gateway.chain.heads import Heads
from gateway.chain.nonces import LaneKey, NonceLane
from gateway.chain.pool import RpcPool
from gateway.chain.prepared import Call, Offer, Prepared
from gateway.chain.receipts import Receipts
from gateway.chain.refusals import InsufficientFunds, NonceTaken
from gateway.chain.replay import fetch_reason
from gateway.chain.reverts import Reason, ReasonKind
from gateway.chain.rpc import Log, Reverted
from gateway.chain.scan import LogFilter, LogScan
from gateway.chain.signer import make_key_signer
from gateway.chain.transactions import Transactions
from gateway.chain.whereabouts import Whereabouts
from gateway.devnet.chain.accounts import ACCOUNTS
from gateway.devnet.chain.anvil import CHAIN_ID
from gateway.devnet.chain.chain import Chain
from gateway.devnet.chain.revm import Revm, has_revm

pytestmark = pytest.mark.anyio

TOPIC = bytes(range(32))
# Emits its calldata as the data of one event with TOPIC; the other reverts with its calldata.
EMITTER = bytes.fromhex("602c600c600039602c6000f3" + "3660006000377f" + TOPIC.hex() + "366000a100")
REVERTER = bytes.fromhex("600a600c600039600a6000f3" + "3660006000373660" + "00fd")
ENDLESS = bytes.fromhex("6004600c60003960046000f3" + "5b600056")


@dataclass
class Bench:
    """A chain, an account on it, and a count of the HTTP requests."""

    anvil: Chain
    pool: RpcPool
    methods: list[list[str]] = field(default_factory=list)

    def transactions(self, account: int = 0, **options: Any) -> Transactions:
        signer = make_key_signer(SecretStr(ACCOUNTS[account].key))
        lane = NonceLane(self.pool, LaneKey(CHAIN_ID, signer.address), fresh_for=timedelta(0))
        return Transactions(self.pool, signer, lane, **options)

    def heads(self) -> Heads:
        return Heads(self.pool, fresh_for=timedelta(0))

    async def create(self, transactions: Transactions, code: bytes) -> str:
        prepared = await transactions.prepare(Call(None, code))
        await transactions.broadcast(prepared)
        await self.anvil.mine()
        receipt = (await transactions.look_up(prepared)).receipt
        assert receipt is not None
        assert receipt.contract is not None
        return receipt.contract

    async def mine(self, blocks: int) -> None:
        for _ in range(blocks):
            await self.anvil.mine()

    async def land(self, transactions: Transactions, prepared: Prepared) -> Whereabouts:
        await transactions.broadcast(prepared)
        await self.anvil.mine()
        return (await transactions.look_up(prepared)).where


@pytest.fixture(params=["anvil", "revm"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "revm" and not has_revm():
        pytest.skip("pyrevm has no wheel for this Python")
    # Blocks come when a test says so.
    chain = Revm(block_seconds=1000) if request.param == "revm" else local_chain.make_anvil(1000)
    async with chain as anvil, RpcPool([anvil.url], chain_id=CHAIN_ID) as pool:
        made = Bench(anvil, pool)
        sessions: Any = pool.endpoints[0].web3.provider._request_session_manager
        post = sessions.async_make_post_request

        async def count(uri: Any, data: bytes, **options: Any) -> Any:
            asked = json.loads(data)
            made.methods.append([one["method"] for one in (asked if isinstance(asked, list) else [asked])])
            return await post(uri, data, **options)

        sessions.async_make_post_request = count
        yield made


async def test_twenty_transactions_fit_in_one_block_and_few_requests(bench: Bench) -> None:
    transactions = bench.transactions()
    receipts = Receipts(bench.pool, bench.heads())
    to = ACCOUNTS[1].address

    async def publish(number: int) -> Prepared:
        prepared = await transactions.prepare(Call(to, value=number + 1), owner=str(number))
        await transactions.broadcast(prepared)
        return prepared

    prepared = await asyncio.gather(*(publish(number) for number in range(20)))
    await bench.anvil.mine()
    found = await receipts.look([one.hash for one in prepared])

    blocks = {receipt.block_number for receipt in found.values() if receipt is not None}
    assert None not in found.values()
    assert len(blocks) == 1
    assert sorted(one.nonce for one in prepared) == list(range(20))
    assert len(bench.methods) <= 6, bench.methods


async def test_ticking_blocks_take_them_too() -> None:
    async with local_chain.make_anvil(block_seconds=1) as anvil, RpcPool([anvil.url]) as pool:
        bench = Bench(anvil, pool)
        assert await pool.fetch_chain_id() == CHAIN_ID
        transactions = bench.transactions()
        receipts = Receipts(pool, Heads(pool))
        call = Call(ACCOUNTS[1].address, value=1)
        prepared = await asyncio.gather(*(transactions.prepare(call) for _ in range(20)))
        assert await transactions.broadcast_many(prepared) == [None] * 20
        found = await receipts.look([one.hash for one in prepared])
        while None in found.values():
            await asyncio.sleep(0.05)
            found = await receipts.look([one.hash for one in prepared])
        assert len({receipt.block_number for receipt in found.values() if receipt}) <= 2


async def test_the_same_bytes_twice_are_one_transaction(bench: Bench) -> None:
    transactions = bench.transactions()
    prepared = await transactions.prepare(Call(ACCOUNTS[1].address, value=7))
    assert (await transactions.look_up(prepared)).where is Whereabouts.ABSENT

    await transactions.broadcast(prepared)
    await transactions.broadcast(prepared)  # "transaction already imported"
    assert (await transactions.look_up(prepared)).where is Whereabouts.POOLED
    await bench.anvil.mine()
    with pytest.raises(NonceTaken):  # "nonce too low": whose nonce it was, only a look tells
        await transactions.broadcast(prepared)
    look = await transactions.look_up(prepared)

    assert (look.where, look.landed) == (Whereabouts.MINED, True)
    assert look.receipt is not None
    assert look.receipt.succeeded
    assert look.receipt.cost > 0


async def test_a_crash_between_prepare_and_broadcast(bench: Bench) -> None:
    stored = json.dumps((await bench.transactions().prepare(Call(ACCOUNTS[1].address, value=7))).encode())

    after = bench.transactions()  # a process that has only what was stored
    prepared = Prepared.parse(json.loads(stored))
    assert (await after.look_up(prepared)).where is Whereabouts.ABSENT
    assert await bench.land(after, prepared) is Whereabouts.MINED
    assert (await after.prepare(Call(ACCOUNTS[1].address))).nonce == prepared.nonce + 1


async def test_a_nonce_given_back_is_given_out_again_and_a_gap_is_filled(bench: Bench) -> None:
    transactions = bench.transactions()
    call = Call(ACCOUNTS[1].address, value=1)
    first, second, third = [await transactions.prepare(call) for _ in range(3)]
    await transactions.discard(first)
    assert (await transactions.prepare(call)).nonce == first.nonce
    await transactions.discard(first)

    await transactions.broadcast_many([second, third])
    await bench.anvil.mine()
    assert (await transactions.look_up(second)).where is Whereabouts.POOLED  # it waits for the gap
    assert await transactions.mend() == 1
    await bench.anvil.mine()
    assert (await transactions.look_up(third)).where is Whereabouts.MINED
    look = await transactions.look_up(first)
    assert (look.where, look.landed) == (Whereabouts.DEAD, False)
    assert await transactions.mend() == 0


async def test_what_the_pool_lost_is_sent_again(bench: Bench) -> None:
    transactions = bench.transactions()
    call = Call(ACCOUNTS[1].address, value=1)
    first, second = [await transactions.prepare(call) for _ in range(2)]
    await transactions.broadcast_many([first, second])
    await bench.anvil.ask("anvil_dropTransaction", first.hash)
    assert await transactions.mend() in (1, 2)  # anvil drops what came after it too
    await bench.anvil.mine()
    for one in (first, second):
        assert (await transactions.look_up(one)).where is Whereabouts.MINED


async def test_a_replacement_has_the_same_nonce_and_one_lands(bench: Bench) -> None:
    transactions = bench.transactions()
    prepared = await transactions.prepare(Call(ACCOUNTS[1].address, b"\x01\x02", value=9))
    await transactions.broadcast(prepared)
    dearer = await transactions.replace(prepared)
    await transactions.broadcast(dearer)
    await bench.anvil.mine()

    assert (dearer.nonce, dearer.gas) == (prepared.nonce, prepared.gas)
    assert (await transactions.look_up(dearer)).where is Whereabouts.MINED
    look = await transactions.look_up(prepared)  # the same act, and so no rival
    assert look.where is Whereabouts.MINED
    assert look.receipt is not None
    assert look.receipt.hash == dearer.hash
    with pytest.raises(NonceTaken):
        await transactions.broadcast(prepared)


async def test_dead_is_proven_from_many_blocks_away(bench: Bench) -> None:
    mine, other = bench.transactions(), bench.transactions()
    call = Call(ACCOUNTS[1].address, value=1)
    dead, winner = await mine.prepare(call), await other.prepare(Call(ACCOUNTS[2].address, value=2))
    await bench.land(other, winner)
    await bench.mine(100)
    look = await mine.look_up(dead)
    assert (look.where, look.by) == (Whereabouts.DEAD, winner.hash)

    careful = bench.transactions(confirmations=1000)
    assert (await careful.look_up(dead)).where is Whereabouts.UNKNOWN  # it could be undone yet


async def test_transactions_without_base_fees_land() -> None:
    async with local_chain.make_anvil() as anvil, RpcPool([anvil.url]) as pool:
        bench = Bench(anvil, pool)
        transactions = bench.transactions()
        offer = Offer(50_000, FeePolicy().choose(Market(10**10)))
        prepared = await transactions.prepare(Call(ACCOUNTS[1].address, b"hi", value=1), offer=offer)
        assert prepared.fees == Fees(10**10)
        assert await bench.land(transactions, prepared) is Whereabouts.MINED


async def test_without_funds_and_above_the_caps(bench: Bench) -> None:
    poor = make_key_signer(SecretStr("0x" + "11" * 32))
    lane = NonceLane(bench.pool, LaneKey(CHAIN_ID, poor.address))
    transactions = Transactions(bench.pool, poor, lane)
    with pytest.raises(InsufficientFunds):
        await transactions.prepare(Call(ACCOUNTS[1].address, value=1))
    offer = Offer(21_000, Fees(10**10, 1))
    prepared = await transactions.prepare(Call(ACCOUNTS[1].address), offer=offer)
    with pytest.raises(InsufficientFunds) as caught:
        await transactions.broadcast(prepared)
    assert caught.value.landed is False
    assert await lane.get_rows() == []  # refused before it was ever sent: the nonce is free

    for policy in (FeePolicy(max_fee=1), FeePolicy(max_gas=20_000), FeePolicy(max_cost=1)):
        capped = bench.transactions(policy=policy)
        with pytest.raises(FeeTooHigh):
            await capped.prepare(Call(ACCOUNTS[1].address, value=1))
        assert await capped.lane.get_rows() == []


async def test_reverts_are_told_before_anything_is_signed(bench: Bench) -> None:
    from eth_abi.abi import encode
    from eth_utils.crypto import keccak

    transactions = bench.transactions()
    contract = await bench.create(transactions, REVERTER)
    abi = [{"type": "error", "name": "TooSmall", "inputs": [{"name": "least", "type": "uint256"}]}]
    cases = {
        bytes.fromhex("08c379a0") + encode(["string"], ["SourceInactive"]): "SourceInactive",
        bytes.fromhex("4e487b71") + encode(["uint256"], [0x32]): "panic 0x32: array index out of bounds",
        keccak(text="TooSmall(uint256)")[:4] + encode(["uint256"], [5]): "TooSmall(5)",
        b"": "no reason given",
    }
    for data, words in cases.items():
        with pytest.raises(Reverted) as caught:
            await transactions.prepare(Call(contract, data))
        assert str(caught.value.explain(abi)) == words
    assert caught.value.reason == Reason(ReasonKind.EMPTY)


async def test_why_a_transaction_reverted_in_its_block(bench: Bench) -> None:
    from eth_abi.abi import encode

    transactions = bench.transactions()
    data = bytes.fromhex("08c379a0") + encode(["string"], ["SourceInactive"])
    for code, words in ((REVERTER, "SourceInactive"), (ENDLESS, "out of gas")):
        contract = await bench.create(transactions, code)
        prepared = await transactions.prepare(Call(contract, data, gas=100_000))
        await transactions.broadcast(prepared)
        await bench.anvil.mine()
        receipt = (await transactions.look_up(prepared)).receipt
        assert receipt is not None
        assert not receipt.succeeded
        assert str(await fetch_reason(bench.pool, prepared, receipt)) == words


def _keys_of(log: Log) -> list[str]:
    return [log.data.decode()]


async def test_one_scan_for_all_and_a_reorg_is_survived(bench: Bench) -> None:
    transactions = bench.transactions()
    contract = await bench.create(transactions, EMITTER)
    heads = bench.heads()
    receipts = Receipts(bench.pool, heads, confirmations=3)
    scan = LogScan(bench.pool, heads, LogFilter((contract,), (TOPIC,)), keys_of=_keys_of)
    for number in range(50):
        scan.watch(f"task{number}", since=0)
    safe = await transactions.prepare(Call(contract, b"task7"))
    await bench.land(transactions, safe)
    assert [len(logs) for logs in (await scan.look(["task7", "task8"])).values()] == [1, 0]

    undone = await transactions.prepare(Call(contract, b"task8"))
    await bench.land(transactions, undone)
    assert [len(logs) for logs in (await scan.look(["task7", "task8"])).values()] == [1, 1]
    assert await receipts.look([undone.hash]) == {undone.hash: None}  # not deep enough
    assert receipts.get_early(undone.hash) is not None

    await bench.anvil.reorganize(1)
    await bench.mine(1)
    assert [len(logs) for logs in (await scan.look(["task7", "task8"])).values()] == [1, 0]
    await receipts.look([undone.hash])
    assert receipts.get_early(undone.hash) is None
    assert (await transactions.look_up(undone)).where is Whereabouts.ABSENT

    assert await bench.land(transactions, undone) is Whereabouts.MINED  # the same bytes
    await bench.mine(2)
    assert (await receipts.look([undone.hash]))[undone.hash] is not None
    assert len((await scan.look(["task8"]))["task8"]) == 1


async def test_a_deep_reorg_is_noticed(bench: Bench) -> None:
    transactions = bench.transactions()
    contract = await bench.create(transactions, EMITTER)
    scan = LogScan(
        bench.pool, bench.heads(), LogFilter((contract,), (TOPIC,)), keys_of=_keys_of, again_blocks=3
    )
    scan.watch("a", since=0)
    await scan.look(["a"])
    await bench.land(transactions, await transactions.prepare(Call(contract, b"a")))
    for _ in range(10):
        await bench.anvil.mine()
        assert len((await scan.look(["a"]))["a"]) == 1
    await bench.anvil.reorganize(11)
    await bench.mine(2)
    assert (await scan.look(["a"]))["a"] == ()


async def test_a_thousand_waiters_cost_one_scan_per_block(bench: Bench) -> None:
    transactions = bench.transactions()
    contract = await bench.create(transactions, EMITTER)
    scan = LogScan(bench.pool, bench.heads(), LogFilter((contract,), (TOPIC,)), keys_of=_keys_of)
    keys = [f"task{number}" for number in range(1000)]
    for key in keys:
        scan.watch(key, since=0)
    bench.methods.clear()
    for _ in range(3):
        await bench.anvil.mine()
        await asyncio.gather(*(scan.look([key]) for key in keys))
    asked = [method for methods in bench.methods for method in methods]
    assert asked.count("eth_getLogs") == 3
