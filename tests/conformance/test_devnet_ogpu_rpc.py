"""The RPC in front of the local chain misbehaves as it is told to, on either EVM, and counts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from ogpu_place import CHAIN_ID, EVMS, sign
from ogpu_rpc import KEY, OTHER, Rpc, hash_of, open_rpc

from gateway.devnet.chain.chain_faults import ChainFault

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVMS)
async def rpc(request: pytest.FixtureRequest) -> AsyncIterator[Rpc]:
    async with open_rpc(request.param) as rpc:
        yield rpc


@pytest.mark.parametrize("fault", [ChainFault.ANSWER_LOST, ChainFault.ERROR_AFTER, ChainFault.GARBAGE])
async def test_a_lost_answer_has_landed(rpc: Rpc, fault: ChainFault) -> None:
    rpc.front.faults.arm(fault)
    raw = sign(KEY, 0)
    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [raw]}
    if fault is ChainFault.ANSWER_LOST:
        with pytest.raises(httpx2.TransportError):
            await rpc.post(question)
    else:
        assert "html" in (await rpc.post(question)).text
    assert (await rpc.receipt(raw))["status"] == "0x1"


async def test_a_lost_answer_of_a_batch_has_landed(rpc: Rpc) -> None:
    rpc.front.faults.arm(ChainFault.ANSWER_LOST)
    raws = [sign(KEY, number) for number in range(3)]
    with pytest.raises(httpx2.TransportError):
        await rpc.batch(*[("eth_sendRawTransaction", [raw]) for raw in raws])
    for raw in raws:
        await rpc.receipt(raw)
    assert await rpc.nonce() == 3


@pytest.mark.parametrize(
    ("fault", "said", "landed"),
    [
        (ChainFault.ALREADY_KNOWN, "already known", 1),
        (ChainFault.NONCE_TOO_LOW, "nonce too low", 1),
        (ChainFault.KNOWN_AND_DROPPED, "already known", 0),
        (ChainFault.REFUSE_TIPS, "transaction type not supported", 0),
    ],
)
async def test_odd_refusals(rpc: Rpc, fault: ChainFault, said: str, landed: int) -> None:
    rpc.front.faults.arm(fault)
    assert await rpc.refusal("eth_sendRawTransaction", sign(KEY, 0)) == said
    assert await rpc.nonce("pending") == landed


async def test_a_transaction_that_is_taken_and_dropped(rpc: Rpc) -> None:
    rpc.front.faults.arm(ChainFault.DROPPED)
    raw = sign(KEY, 0)
    assert await rpc.ask("eth_sendRawTransaction", raw) == hash_of(raw)
    assert await rpc.ask("eth_getTransactionByHash", hash_of(raw)) is None
    await rpc.send(raw)
    assert await rpc.nonce() == 1


async def test_a_replica_that_lags(rpc: Rpc) -> None:
    assert await rpc.nonce("pending") == 0
    for number in range(3):
        await rpc.send(sign(KEY, number))
    rpc.front.faults.arm(ChainFault.STALE_NONCE)
    assert [await rpc.nonce("pending") for _ in range(2)] == [0, 3]


async def test_receipts_and_blocks_that_are_not_there_yet(rpc: Rpc) -> None:
    raw = sign(KEY, 0)
    await rpc.send(raw)
    rpc.front.faults.arm(ChainFault.RECEIPT_MISSING, times=2)
    receipts = [await rpc.ask("eth_getTransactionReceipt", hash_of(raw)) for _ in range(3)]
    assert [receipt is None for receipt in receipts] == [True, True, False]

    rpc.front.faults.arm(ChainFault.BLOCK_NOT_FOUND, on="eth_estimateGas")
    assert await rpc.ask("eth_call", {"to": OTHER}, "latest") == "0x"
    assert await rpc.refusal("eth_estimateGas", {"to": OTHER}) == "block not found"
    assert int(await rpc.ask("eth_estimateGas", {"to": OTHER}), 16) >= 21_000


async def test_a_receipt_that_a_reorganization_takes_back(rpc: Rpc) -> None:
    raw = sign(KEY, 0)
    await rpc.send(raw)
    rpc.front.faults.arm(ChainFault.REORG)
    assert (await rpc.ask("eth_getTransactionReceipt", hash_of(raw)))["status"] == "0x1"
    assert await rpc.ask("eth_getTransactionReceipt", hash_of(raw)) is None
    await rpc.send(raw)
    assert await rpc.nonce() == 1


async def test_a_node_without_batches(rpc: Rpc) -> None:
    answers = await rpc.batch(("eth_chainId", []), ("eth_blockNumber", []))
    assert [answer["id"] for answer in answers] == [0, 1]
    rpc.front.faults.arm(ChainFault.NO_BATCH, times=None)
    for _ in range(2):
        answer = await rpc.batch(("eth_chainId", []), ("eth_blockNumber", []))
        assert "batch" in answer["error"]["message"]
    assert await rpc.ask("eth_chainId") == hex(CHAIN_ID)


async def test_a_node_of_the_old_kind(rpc: Rpc) -> None:
    rpc.front.faults.arm(ChainFault.LEGACY_ONLY, times=None)
    assert "does not exist" in await rpc.refusal("eth_maxPriorityFeePerGas")
    assert "does not exist" in await rpc.refusal("eth_feeHistory", "0x1", "latest", [50])
    assert "baseFeePerGas" not in await rpc.ask("eth_getBlockByNumber", "latest", False)
    assert "not supported" in await rpc.refusal("eth_sendRawTransaction", sign(KEY, 0))
    price = int(await rpc.ask("eth_gasPrice"), 16)
    old = sign(KEY, 0, maxFeePerGas=None, maxPriorityFeePerGas=None, gasPrice=price)
    assert await rpc.ask("eth_sendRawTransaction", old) == hash_of(old)


@pytest.mark.parametrize(("fault", "status"), [(ChainFault.RATE_LIMIT, 429), (ChainFault.SERVER_ERROR, 502)])
async def test_requests_that_nothing_comes_of(rpc: Rpc, fault: ChainFault, status: int) -> None:
    rpc.front.faults.arm(fault, on="eth_sendRawTransaction")
    assert (await rpc.ask("eth_chainId")) == hex(CHAIN_ID)
    raw = sign(KEY, 0)
    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [raw]}
    assert (await rpc.post(question)).status_code == status
    assert await rpc.nonce() == 0


async def test_refused_connections_and_error_objects(rpc: Rpc) -> None:
    rpc.front.faults.arm(ChainFault.REFUSE)
    with pytest.raises(httpx2.TransportError):
        await rpc.ask("eth_chainId")
    rpc.front.faults.arm(ChainFault.ERROR_OBJECT, on="eth_getTransactionReceipt")
    assert await rpc.refusal("eth_getTransactionReceipt", hash_of("0x00")) == "internal error"
    rpc.front.faults.arm(ChainFault.HANG, skip=1)
    assert await rpc.ask("eth_chainId") == hex(CHAIN_ID)
    with pytest.raises(httpx2.TimeoutException):
        await rpc._client.post(rpc.front.url, json={"method": "eth_chainId"}, timeout=0.2)


async def test_requests_and_calls_are_counted(rpc: Rpc) -> None:
    rpc.front.counters.reset()
    await rpc.ask("eth_chainId")
    await rpc.batch(("eth_chainId", []), ("eth_blockNumber", []))
    assert rpc.front.counters.http_requests == 2
    assert rpc.front.counters.calls == {"eth_chainId": 2, "eth_blockNumber": 1}
