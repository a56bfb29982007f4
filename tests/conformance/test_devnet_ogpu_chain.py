"""The local chain behaves like a node, on either EVM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from eth_account import Account
from ogpu_place import CHAIN_ID, EVMS, GWEI, make_test_chain, sign
from ogpu_rpc import ADDRESS, KEY, OTHER, Rpc, hash_of, open_rpc

from gateway.devnet.chain.accounts import ACCOUNTS
from gateway.devnet.chain.chain import make_chain
from gateway.devnet.chain.rpc_front import RpcFront
from gateway.types import JSON

pytestmark = pytest.mark.anyio
# A contract that emits one event with the first word of what it is sent as its topic.
EMITTER = "0x" + "6008600c60003960086000f3" + "60003560006000a1"


@pytest.fixture(params=EVMS)
async def rpc(request: pytest.FixtureRequest) -> AsyncIterator[Rpc]:
    async with open_rpc(request.param) as rpc:
        yield rpc


async def test_what_a_node_says_of_itself(rpc: Rpc) -> None:
    assert await rpc.ask("eth_chainId") == hex(CHAIN_ID)
    assert await rpc.ask("net_version") == str(CHAIN_ID)
    assert int(await rpc.ask("eth_gasPrice"), 16) > 0
    assert int(await rpc.ask("eth_getBalance", ADDRESS, "latest"), 16) == 10_000 * 10**18
    assert await rpc.ask("eth_getCode", ADDRESS, "latest") == "0x"
    assert "error" in await rpc.answer("eth_noSuchThing")
    block = await rpc.ask("eth_getBlockByNumber", "latest", False)
    assert int(block["baseFeePerGas"], 16) == GWEI
    assert await rpc.ask("eth_getBlockByNumber", "0x999", False) is None


async def test_a_transaction_from_its_bytes_to_its_receipt(rpc: Rpc) -> None:
    raw = sign(KEY, 0, to=OTHER, value=5)
    receipt = await rpc.send(raw)
    sent = receipt["transactionHash"]
    found = await rpc.ask("eth_getTransactionByHash", sent)

    assert sent == hash_of(raw)
    assert (receipt["status"], receipt["gasUsed"], receipt["type"]) == ("0x1", hex(21_000), "0x2")
    assert int(receipt["effectiveGasPrice"], 16) == 2 * GWEI
    assert found["nonce"] == "0x0"
    assert found["blockHash"] == receipt["blockHash"]
    assert await rpc.ask("eth_getBalance", OTHER, "latest") == "0x5"
    paid = 10_000 * 10**18 - int(await rpc.ask("eth_getBalance", ADDRESS, "latest"), 16)
    assert paid == 5 + 21_000 * 2 * GWEI
    assert await rpc.nonce() == 1
    assert await rpc.ask("eth_getTransactionReceipt", hash_of("0x00")) is None


async def test_a_legacy_transaction(rpc: Rpc) -> None:
    old = sign(KEY, 0, maxFeePerGas=None, maxPriorityFeePerGas=None, gasPrice=3 * GWEI)
    receipt = await rpc.send(old)
    assert (receipt["type"], int(receipt["effectiveGasPrice"], 16)) == ("0x0", 3 * GWEI)


async def test_twenty_nonces_in_one_batch_and_one_block(rpc: Rpc) -> None:
    await rpc.chain.ask("evm_setAutomine", False)
    raws = [sign(KEY, number) for number in range(20)]
    answers = await rpc.batch(*[("eth_sendRawTransaction", [raw]) for raw in raws])
    assert [answer["result"] for answer in answers] == [hash_of(raw) for raw in raws]
    assert (await rpc.nonce(), await rpc.nonce("pending")) == (0, 20)
    assert await rpc.ask("eth_getTransactionReceipt", hash_of(raws[0])) is None

    head = await rpc.head()
    await rpc.chain.mine()
    block = await rpc.ask("eth_getBlockByNumber", hex(head + 1), False)
    assert block["transactions"] == [hash_of(raw) for raw in raws]
    assert await rpc.nonce() == 20


async def test_the_same_bytes_again(rpc: Rpc) -> None:
    await rpc.chain.ask("evm_setAutomine", False)
    raw = sign(KEY, 0)
    await rpc.ask("eth_sendRawTransaction", raw)
    again = await rpc.refusal("eth_sendRawTransaction", raw)
    assert "already known" in again or "already imported" in again
    await rpc.chain.mine()
    assert "nonce too low" in await rpc.refusal("eth_sendRawTransaction", raw)


async def test_a_gap_is_waited_for(rpc: Rpc) -> None:
    await rpc.chain.ask("evm_setAutomine", False)
    await rpc.ask("eth_sendRawTransaction", sign(KEY, 1))
    await rpc.chain.mine()
    assert (await rpc.nonce(), await rpc.nonce("pending")) == (0, 0)
    await rpc.ask("eth_sendRawTransaction", sign(KEY, 0))
    await rpc.chain.mine()
    assert await rpc.nonce() == 2


async def test_a_replacement_must_pay_more(rpc: Rpc) -> None:
    await rpc.chain.ask("evm_setAutomine", False)
    await rpc.ask("eth_sendRawTransaction", sign(KEY, 0, to=OTHER, value=1))
    cheap = sign(KEY, 0, to=OTHER, value=2)
    assert "underpriced" in await rpc.refusal("eth_sendRawTransaction", cheap)
    dear = sign(KEY, 0, to=OTHER, value=3, maxFeePerGas=12 * GWEI, maxPriorityFeePerGas=2 * GWEI)
    await rpc.ask("eth_sendRawTransaction", dear)
    await rpc.chain.mine()
    assert await rpc.ask("eth_getBalance", OTHER, "latest") == "0x3"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chainId": 5}, "chain id"),
        ({"value": 10**24}, "insufficient funds"),
        ({"gas": 20_999}, "intrinsic gas too low"),
    ],
)
async def test_transactions_that_are_refused(rpc: Rpc, changes: dict[str, Any], said: str) -> None:
    refused = await rpc.refusal("eth_sendRawTransaction", sign(KEY, 0, **changes))
    assert said in refused
    assert await rpc.nonce("pending") == 0


async def test_logs_are_found_by_address_and_topic(rpc: Rpc) -> None:
    create = sign(KEY, 0, to=None, data=EMITTER, gas=200_000)
    receipt = await rpc.send(create)
    contract = receipt["contractAddress"]
    topics = [f"0x{number:064x}" for number in (1, 2)]
    for nonce, topic in enumerate(topics, start=1):
        await rpc.send(sign(KEY, nonce, to=contract_of(contract), data=topic, gas=90_000))

    async def scan(**wanted: JSON) -> list[str]:
        logs = await rpc.ask("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", **wanted})
        return [log["topics"][0] for log in logs]

    assert await scan(address=contract) == topics
    assert await scan(address=[contract], topics=[[topics[1], "0x" + "99" * 32]]) == [topics[1]]
    assert await scan(topics=[topics[0]]) == [topics[0]]
    assert await scan(topics=[None]) == topics
    assert await scan(address=OTHER) == []
    assert await scan(fromBlock="0x3") == [topics[1]]
    [log] = await rpc.ask(
        "eth_getLogs", {"blockHash": (await rpc.ask("eth_getBlockByNumber", "0x2", False))["hash"]}
    )
    assert (log["blockNumber"], log["logIndex"], log["removed"]) == ("0x2", "0x0", False)


async def test_calls_estimates_and_refusals(rpc: Rpc) -> None:
    create = sign(KEY, 0, to=None, data=EMITTER, gas=200_000)
    receipt = await rpc.send(create)
    call = {"from": ADDRESS, "to": receipt["contractAddress"], "data": f"0x{1:064x}"}
    gas = int(await rpc.ask("eth_estimateGas", call), 16)
    assert await rpc.ask("eth_call", call, "latest") == "0x"
    exact = sign(KEY, 1, to=contract_of(call["to"]), data=call["data"], gas=gas)
    receipt = await rpc.send(exact)
    assert receipt["status"] == "0x1"
    short = sign(KEY, 2, to=contract_of(call["to"]), data=call["data"], gas=gas - 200)
    receipt = await rpc.send(short)
    assert (receipt["status"], receipt["logs"]) == ("0x0", [])


async def test_a_reorganization_takes_transactions_away(rpc: Rpc) -> None:
    first, second = sign(KEY, 0, to=OTHER, value=1), sign(KEY, 1, to=OTHER, value=2)
    await rpc.send(first)
    await rpc.send(second)
    head = await rpc.ask("eth_getBlockByNumber", "latest", False)

    await rpc.chain.reorganize(1)
    now = await rpc.ask("eth_getBlockByNumber", "latest", False)
    assert now["number"] == head["number"]
    assert now["hash"] != head["hash"]
    assert await rpc.ask("eth_getTransactionReceipt", hash_of(second)) is None
    assert (await rpc.ask("eth_getTransactionReceipt", hash_of(first)))["status"] == "0x1"
    assert await rpc.ask("eth_getBalance", OTHER, "latest") == "0x1"
    assert await rpc.nonce() == 1
    await rpc.send(second)
    assert await rpc.ask("eth_getBalance", OTHER, "latest") == "0x3"


async def test_time_jumps(rpc: Rpc) -> None:
    before = await rpc.ask("eth_getBlockByNumber", "latest", False)
    await rpc.chain.advance(1000)
    after = await rpc.ask("eth_getBlockByNumber", "latest", False)
    assert int(after["timestamp"], 16) == int(before["timestamp"], 16) + 1000


@pytest.mark.parametrize("evm", EVMS)
async def test_blocks_come_by_themselves(evm: str) -> None:
    chain, front = make_test_chain(evm, block_seconds=1), RpcFront()
    await chain.start()
    rpc = Rpc(chain, front)
    try:
        raw = sign(KEY, 0)
        await chain.ask("eth_sendRawTransaction", raw)
        assert (await rpc.receipt(raw))["status"] == "0x1"
    finally:
        await rpc.aclose()
        await chain.stop()


def test_a_chain_that_is_not_there_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.devnet.chain import chain, node_tools, revm

    def find_nothing() -> None:
        raise node_tools.ToolMissing("no anvil")

    monkeypatch.setattr(chain, "find_anvil", find_nothing)
    monkeypatch.setattr(revm, "has_revm", lambda: False)
    with pytest.raises(node_tools.ToolMissing, match="pyrevm"):
        make_chain(chain_id=1)
    with pytest.raises(node_tools.ToolMissing, match="no anvil"):
        make_chain(evm="anvil", chain_id=1)


def contract_of(address: str) -> str:
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(address))


def test_the_accounts_are_those_of_their_keys() -> None:
    assert [Account.from_key(each.key).address for each in ACCOUNTS] == [each.address for each in ACCOUNTS]
