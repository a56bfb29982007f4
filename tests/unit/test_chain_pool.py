"""Several RPCs as one: failover, health, batches that are refused, replicas that lag, a wrong chain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from scripted_chain import CHAIN_ID, FUNDS, Chain, Node, serve

from gateway.chain import rpc
from gateway.chain.endpoint import InternalError, WrongChain
from gateway.chain.pool import Lagging, RpcPool
from gateway.chain.rpc import Question, RpcRefused
from gateway.errors import ConfigError, Misbehaved, Rejected, Throttled, Unavailable

pytestmark = pytest.mark.anyio


class JumpClock:
    """Sleeping is over at once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@asynccontextmanager
async def pool_of(*nodes: Node, **options: Any) -> AsyncIterator[RpcPool]:
    options = {"chain_id": CHAIN_ID, "clock": JumpClock()} | options
    async with serve(*nodes) as urls, RpcPool(urls, **options) as pool:
        yield pool


NUMBER: Question = ("eth_blockNumber", [])


def blocks(count: int) -> list[Question]:
    return [("eth_getTransactionCount", ["0x" + "00" * 20, hex(number)]) for number in range(count)]


async def test_what_is_asked_at_once_is_one_request_and_asked_once() -> None:
    node = Node(Chain())
    async with pool_of(node) as pool:
        questions = [rpc.request(pool, *NUMBER), rpc.fetch_chain_id(pool), rpc.request(pool, *NUMBER)]
        assert await asyncio.gather(*questions) == ["0x0", CHAIN_ID, "0x0"]
        assert await pool.ask([]) == []
        assert await pool.ask([NUMBER]) == ["0x0"]
    assert [sorted(request) for request in node.requests] == [
        ["eth_blockNumber", "eth_chainId", "eth_chainId"],  # ours, and the check of a URL that is new
        ["eth_blockNumber"],
    ]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 401])
async def test_a_sick_rpc_is_left_alone_for_a_while(status: int) -> None:
    sick, well = Node(Chain(), statuses=[status] * 2), Node(Chain())
    clock = JumpClock()
    async with pool_of(sick, well, clock=clock) as pool:
        assert await pool.ask([NUMBER]) == ["0x0"]
        assert await pool.ask([NUMBER]) == ["0x0"]
        assert len(sick.requests) == 1
        clock.seconds += 0.6
        assert await pool.ask([NUMBER]) == ["0x0"]  # it is asked again, and is ill again: for longer
        clock.seconds += 0.6
        assert await pool.ask([NUMBER]) == ["0x0"]
        assert len(sick.requests) == 2
        clock.seconds += 1.0
        before = len(well.requests)
        assert await pool.ask([NUMBER]) == ["0x0"]
        assert len(well.requests) == before  # it is well, and the first choice again


async def test_with_nobody_else_the_sick_one_is_asked_once_per_question() -> None:
    node = Node(Chain(), statuses=[502, 429])
    async with pool_of(node) as pool:
        [first], [second], [third] = [await pool.ask([NUMBER]) for _ in range(3)]
    assert type(first) is Unavailable
    assert type(second) is Throttled
    assert third == "0x0"
    assert len(node.requests) == 3


async def test_nobody_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with RpcPool(["http://127.0.0.1:1/secret-key"], chain_id=1, clock=JumpClock()) as pool:
        with pytest.raises(Unavailable) as caught:
            await rpc.request(pool, *NUMBER)
        assert "secret-key" not in f"{caught.value!r} {caplog.text} {pool!r}"
        assert "RPC 1 of 1 failed" in caplog.text
    with pytest.raises(ConfigError):
        RpcPool([])


async def test_a_wrong_chain_is_never_believed() -> None:
    wrong, right = Node(Chain(), chain_id=1), Node(Chain())
    async with pool_of(wrong, right) as pool:
        assert await pool.ask([NUMBER]) == ["0x0"]
    assert wrong.asked == {"eth_chainId": 1, "eth_blockNumber": 1}
    assert right.asked == {"eth_chainId": 1, "eth_blockNumber": 1}


async def test_only_wrong_chains() -> None:
    nodes = Node(Chain(), chain_id=1), Node(Chain(), chain_id=5)
    async with pool_of(*nodes) as pool:
        with pytest.raises(WrongChain, match="on chain 5, and chain 1071 is configured") as caught:
            await rpc.request(pool, *NUMBER)
        assert isinstance(caught.value, Rejected)
        [[*told]] = await pool.send(["0x00"])
        assert [type(one) for one in told] == [WrongChain, WrongChain]
    assert nodes[0].asked["eth_sendRawTransaction"] == 0


async def test_a_url_that_moves_to_another_chain_is_noticed() -> None:
    node = Node(Chain())
    async with pool_of(node) as pool:
        assert await pool.ask([NUMBER]) == ["0x0"]
        node.statuses, node.chain_id = [502], 1
        assert isinstance((await pool.ask([NUMBER]))[0], Unavailable)
        assert isinstance((await pool.ask([NUMBER]))[0], WrongChain)


async def test_without_a_chain_id_the_first_rpc_decides() -> None:
    first, second = Node(Chain()), Node(Chain(), chain_id=1)
    async with pool_of(first, second, chain_id=None) as pool:
        assert await pool.fetch_chain_id() == await pool.fetch_chain_id() == CHAIN_ID
        first.statuses = [502]
        assert isinstance((await pool.ask([NUMBER]))[0], Unavailable)
    assert second.asked["eth_chainId"] == 1


LIMITS = [
    {"code": -32600, "message": "batch too large"},
    {"code": -32005, "message": "Batch size limit exceeded"},
    {"code": -32000, "message": "maximum batch size is 10"},
]


@pytest.mark.parametrize("words", LIMITS, ids=lambda words: str(words["message"]))
async def test_a_batch_limit_is_learned(words: dict[str, Any]) -> None:
    node = Node(Chain(), batch_limit=10, batch_words=words)
    async with pool_of(node) as pool:
        await pool.ask([NUMBER])
        assert await pool.ask(blocks(40)) == ["0x0"] * 40
        learned = [len(request) for request in node.requests[1:]]
        assert learned == [40, 20, 10, 10, 10, 10]
        assert await pool.ask(blocks(20)) == ["0x0"] * 20
    assert [len(request) for request in node.requests[7:]] == [10, 10]


@pytest.mark.parametrize(
    "words", [{"code": -32600, "message": "invalid request"}, {"code": -32601, "message": "not supported"}]
)
async def test_an_rpc_without_batches(words: dict[str, Any]) -> None:
    node = Node(Chain(), batch_limit=0, batch_words=words)
    async with pool_of(node) as pool:
        assert await pool.ask(blocks(5)) == ["0x0"] * 5
        assert await pool.ask(blocks(5)) == ["0x0"] * 5
    assert [len(request) for request in node.requests] == [6, 1] + [1] * 10


@pytest.mark.parametrize(("status", "sizes"), [(413, [8, 4, 4]), (400, [8] + [1] * 8)])
async def test_a_batch_refused_by_http(status: int, sizes: list[int]) -> None:
    node = Node(Chain())
    async with pool_of(node) as pool:
        await pool.ask([NUMBER])
        node.statuses = [status]
        assert await pool.ask(blocks(8)) == ["0x0"] * 8
    assert [len(request) for request in node.requests[1:]] == sizes


async def test_a_limit_on_the_pace_is_no_limit_on_batches() -> None:
    words = {"code": -32005, "message": "limit exceeded"}
    node = Node(Chain(), batch_limit=1, batch_words=words)
    async with pool_of(node) as pool:
        assert [type(one) for one in await pool.ask(blocks(3))] == [Throttled] * 3
        assert pool.endpoints[0].batch_size == rpc.BATCH_SIZE


async def test_one_question_fails_alone() -> None:
    node = Node(Chain())
    async with pool_of(node) as pool:
        good, bad = await pool.ask([NUMBER, ("eth_nothing", [])])
    assert good == "0x0"
    assert type(bad) is RpcRefused


@pytest.mark.parametrize("stale", [1, 2])
async def test_a_replica_that_lags_is_asked_again(stale: int) -> None:
    node, clock = Node(Chain(), stale=stale), JumpClock()
    async with pool_of(node, clock=clock) as pool:
        assert await pool.ask([NUMBER]) == ["0x0"]
    assert len(clock.slept) == stale
    assert node.asked["eth_blockNumber"] == stale + 1


async def test_another_rpc_knows_the_block() -> None:
    lagging, ahead, clock = Node(Chain(), stale=1), Node(Chain()), JumpClock()
    async with pool_of(lagging, ahead, clock=clock) as pool:
        assert await pool.ask([NUMBER]) == ["0x0"]
    assert clock.slept == []


async def test_nobody_knows_the_block() -> None:
    node = Node(Chain(), stale=1000)
    async with pool_of(node) as pool:
        with pytest.raises(Lagging) as caught:
            await rpc.request(pool, *NUMBER)
    assert isinstance(caught.value, Unavailable)
    assert node.asked["eth_blockNumber"] == 3


async def test_a_caller_that_leaves_takes_nobody_along() -> None:
    node = Node(Chain())
    async with pool_of(node) as pool:
        leaving = asyncio.create_task(pool.ask([NUMBER]))
        staying = asyncio.create_task(pool.ask([NUMBER]))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == ["0x0"]
    assert leaving.cancelled()


async def test_garbage_is_the_rpcs_failure() -> None:
    node, other = Node(Chain()), Node(Chain())
    async with pool_of(node, other) as pool:
        await pool.ask([NUMBER])
        node.on_blockNumber = lambda: (_ for _ in ()).throw(AttributeError)  # type: ignore[method-assign]
        node.answer = lambda question: {"id": question["id"], "garbage": True}  # type: ignore[method-assign]
        assert await pool.ask([NUMBER]) == ["0x0"]
    async with pool_of(node, chain_id=None) as pool:
        assert type((await pool.ask([NUMBER]))[0]) is Misbehaved


async def test_an_internal_error_is_the_rpcs_own_trouble_and_another_is_asked() -> None:
    sick, well = Node(Chain(), sick=1), Node(Chain())
    async with pool_of(sick, well) as pool:
        assert await rpc.request(pool, "eth_getBalance", ["0x" + "00" * 20, "latest"]) == hex(FUNDS)
    assert well.asked["eth_getBalance"] == 1


async def test_an_internal_error_everywhere_is_for_later() -> None:
    node = Node(Chain(), sick=1)
    async with pool_of(node) as pool:
        with pytest.raises(InternalError) as caught:
            await rpc.request(pool, "eth_getBalance", ["0x" + "00" * 20, "latest"])
        assert isinstance(caught.value, Unavailable)
        assert await rpc.request(pool, "eth_getBalance", ["0x" + "00" * 20, "latest"]) == hex(FUNDS)


@pytest.mark.parametrize("questions", [1, 3])
async def test_the_log_of_web3_hides_the_url(caplog: pytest.LogCaptureFixture, questions: int) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(Node(Chain())) as [url], RpcPool([url + "/?key=hush"], clock=JumpClock()) as pool:
        await pool.ask([NUMBER, *blocks(questions - 1)])
    said = [caplog.handler.format(record) for record in caplog.records if record.name.startswith("web3.")]
    assert any("://..." in one for one in said), "web3 names URLs another way now"
    assert not any("hush" in one for one in said)
