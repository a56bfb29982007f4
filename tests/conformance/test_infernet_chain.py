"""Delegated subscriptions followed on a real EVM: anvil, with the contracts of the local chain.

Needs `npm install --prefix .ci/node @foundry-rs/anvil solc@0.8.28`; without it, it fails and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from local_chain import Chain, echo, start_chain

from gateway.chain import rpc
from gateway.chain.pool import RpcPool
from gateway.chain.rpc import Question, RpcRefused
from gateway.devnet.chain.anvil import NODE, NODE_2, SIGNER
from gateway.devnet.chain.chain_faults import ChainFault
from gateway.devnet.chain.delegate import encode_output
from gateway.devnet.chain.deploy import make_contract
from gateway.devnet.chain.rpc_front import RpcFront
from gateway.errors import Misbehaved
from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle
from gateway.types import JSON
from gateway_infernet import InfernetAdapter, InfernetConfig, delegated
from gateway_infernet.answers import Form
from gateway_infernet.onchain import CoordinatorReader
from gateway_infernet.progress import BEHIND_SECONDS, Stage, make_snapshot

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def chain() -> AsyncIterator[Chain]:
    async with start_chain() as chain:
        yield chain


# Following.

OUTPUTS: list[JSON] = [
    {"label": "positive", "scores": [0.1, None, True], "text": 'it\'s "quoted" ünïcode'},
    "text",
    [],
    12,
    None,
    2**200,
]


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: type(output).__name__)
async def test_from_waiting_to_fulfilled(chain: Chain, output: JSON, lazy: bool) -> None:  # noqa: FBT001
    one = await chain.delegation(lazy=lazy)
    before = await chain.look(one)
    asked: list[JSON] = []

    async def output_of(data: JSON) -> JSON:
        asked.append(data)
        return output

    await chain.deliver(one, output_of)
    after = await chain.look(one)
    snapshot = make_snapshot(one, after, backend="node1")

    assert (before.stage, before.missing, before.subscription_id) == (Stage.WAITING, 1, None)
    assert make_snapshot(one, before, backend="node1").status is Status.QUEUED
    assert asked == [{"text": "hi"}]
    assert (after.stage, after.missing) == (Stage.FULFILLED, 0)
    assert [(d.interval, d.node, d.form, d.output) for d in after.deliveries] == [
        (1, NODE.address, Form.OBJECT, output)
    ]
    assert (snapshot.status, snapshot.output, snapshot.failure) == (Status.COMPLETED, output, None)


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
async def test_the_five_keys(chain: Chain, lazy: bool) -> None:  # noqa: FBT001
    output = {
        "raw_input": "0102",
        "processed_input": "",
        "raw_output": "ff" * 40,
        "processed_output": "03",
        "proof": "04",
    }
    one = await chain.delegation(lazy=lazy)
    await chain.deliver(one, echo(output))
    [delivery] = (await chain.look(one)).deliveries

    assert (delivery.form, delivery.output) == (Form.PROOF, output)


async def test_what_the_owner_gets(chain: Chain) -> None:
    consumer = make_contract(chain.anvil.web3, "Consumer", chain.addresses.consumer)
    eager, lazy = await chain.delegation(), await chain.delegation(lazy=True)
    await chain.deliver(eager, echo("x"))
    got = await consumer.functions.last().call()
    await chain.deliver(lazy, echo("y"))
    left = await consumer.functions.last().call()

    _, output, _ = encode_output("x")
    container_id = bytes.fromhex(delegated.encode_container_id(["echo"])[2:])
    assert (got[1], got[3], got[5], got[7]) == (1, NODE.address, output, bytes(32))
    assert (left[5], left[7]) == (b"", container_id)


async def test_expired_and_never_created(chain: Chain) -> None:
    one = await chain.delegation(expires_in=50)
    await chain.anvil.advance(50 + BEHIND_SECONDS - 1)
    waiting = await chain.look(one)
    await chain.anvil.advance(1)
    expired = await chain.look(one)
    snapshot = make_snapshot(one, expired, backend="node1")

    assert waiting.stage is Stage.WAITING
    assert expired.stage is Stage.EXPIRED
    assert snapshot.status is Status.FAILED
    assert snapshot.failure is not None
    assert snapshot.failure.kind is FailureKind.EXPIRED


async def test_an_expiry_after_the_answer_changes_nothing(chain: Chain) -> None:
    one = await chain.delegation(expires_in=50)
    await chain.deliver(one, echo("x"))
    await chain.anvil.advance(60)

    assert (await chain.look(one)).stage is Stage.FULFILLED


async def test_created_is_not_fulfilled(chain: Chain) -> None:
    one = await chain.delegation()
    sub, signature = one.subscription, one.signature
    await chain.tell(
        "Coordinator",
        chain.addresses.coordinator,
        "createSubscriptionDelegatee",
        signature.nonce,
        signature.expiry,
        delegated.encode_subscription_tuple(sub),
        signature.v,
        signature.r.to_bytes(32, "big"),
        signature.s.to_bytes(32, "big"),
    )
    await chain.anvil.advance(1000)
    created = await chain.look(one)
    await chain.deliver(one, echo("late"))

    assert created.stage is Stage.RUNNING
    assert created.subscription_id is not None
    assert make_snapshot(one, created, backend="node1").status is Status.RUNNING
    assert (await chain.look(one)).stage is Stage.FULFILLED


async def test_two_nodes_must_answer(chain: Chain) -> None:
    one = await chain.delegation(redundancy=2)
    await chain.deliver(one, echo("a"))
    half = await chain.look(one)
    await chain.deliver(one, echo("a again"))  # the same node counts once
    still_half = await chain.look(one)
    await chain.deliver(one, echo("b"), NODE_2)
    whole = await chain.look(one)

    assert (half.stage, half.missing) == (Stage.RUNNING, 1) == (still_half.stage, still_half.missing)
    assert whole.stage is Stage.FULFILLED
    assert make_snapshot(one, whole, backend="node1").output == [
        {"interval": 1, "node": NODE.address, "output": "a"},
        {"interval": 1, "node": NODE_2.address, "output": "b"},
    ]


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
async def test_recurring(chain: Chain, lazy: bool) -> None:  # noqa: FBT001
    await chain.tell("Consumer", chain.addresses.consumer, "setInputs", b"\xca\xfe")
    one = await chain.delegation(period=1000, frequency=3, lazy=lazy)
    answered = asyncio.Event()
    asked: list[JSON] = []

    async def output_of(data: JSON) -> JSON:
        asked.append(data)
        answered.set()
        return len(asked)

    work = asyncio.create_task(chain.deliver(one, output_of))
    stages = []
    for number in range(3):
        await answered.wait()
        answered.clear()
        stages.append((await chain.wait_until_missing(one, 2 - number)).stage)
        await chain.anvil.advance(1000)
    await work
    done = await chain.look(one)

    assert asked == [{"text": "hi"}, "cafe", "cafe"]
    assert stages == [Stage.RUNNING, Stage.RUNNING, Stage.FULFILLED]
    assert [(d.interval, d.output) for d in done.deliveries] == [(1, 1), (2, 2), (3, 3)]


async def test_an_interval_that_nobody_answered(chain: Chain) -> None:
    one = await chain.delegation(period=1000, frequency=2)
    answered = asyncio.Event()

    async def output_of(data: JSON) -> JSON:
        answered.set()
        return "only one"

    work = asyncio.create_task(chain.deliver(one, output_of))
    await answered.wait()
    await chain.wait_until_missing(one, 1)
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    await chain.anvil.advance(2000 + BEHIND_SECONDS)
    over = await chain.look(one)
    snapshot = make_snapshot(one, over, backend="node1")

    assert (over.stage, over.missing) == (Stage.INCOMPLETE, 1)
    assert snapshot.failure is not None
    assert snapshot.failure.kind is FailureKind.EXPIRED
    assert snapshot.output == [{"interval": 1, "node": NODE.address, "output": "only one"}]


async def test_cancelled_by_its_owner(chain: Chain) -> None:
    one = await chain.delegation(redundancy=2)
    await chain.deliver(one, echo("a"))
    await chain.tell("Consumer", chain.addresses.consumer, "cancel", (await chain.look(one)).subscription_id)
    progress = await chain.look(one)

    assert progress.stage is Stage.CANCELLED
    assert make_snapshot(one, progress, backend="node1").status is Status.CANCELLED


async def test_a_used_nonce_is_never_taken_for_ours(chain: Chain) -> None:
    one = await chain.delegation()
    other = await chain.delegation(nonce=one.signature.nonce, containers=("other",), lazy=True)
    await chain.deliver(one, echo("the first one's"))
    progress = await chain.reader.fetch_progress([other, one])
    snapshot = make_snapshot(other, progress[other], backend="node1")

    assert progress[one].stage is Stage.FULFILLED
    assert progress[other].stage is Stage.FOREIGN
    assert (snapshot.status, snapshot.output) == (Status.REJECTED, None)


async def test_an_answer_by_way_of_another_contract_is_not_made_up(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await chain.delegation()
    await chain.deliver(one, echo("x"))
    ask = rpc.request_many

    async def through_a_contract(web3: Any, questions: Any) -> list[JSON]:
        results = await ask(web3, questions)
        for (method, _), result in zip(questions, results, strict=True):
            if method == "eth_getTransactionByHash":
                result["to"] = chain.addresses.consumer
        return results

    monkeypatch.setattr(rpc, "request_many", through_a_contract)
    progress = await chain.look(one)
    snapshot = make_snapshot(one, progress, backend="node1")

    assert [(d.form, d.interval, d.output) for d in progress.deliveries] == [(Form.UNREADABLE, 1, None)]
    assert progress.deliveries[0].transaction in (snapshot.message or "")


async def test_a_log_that_lags_is_no_end(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await chain.delegation(period=1000, frequency=1)
    await chain.deliver(one, echo("x"))
    await chain.anvil.advance(1000)

    async def nothing(*args: Any, **kwargs: Any) -> list[Any]:
        return []

    with monkeypatch.context() as patch:
        patch.setattr(rpc, "fetch_logs", nothing)
        lagging = await chain.look(one)

    assert (lagging.stage, lagging.missing) == (Stage.RUNNING, 1)
    assert (await chain.look(one)).stage is Stage.FULFILLED


async def test_many_in_few_requests(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [await chain.delegation(lazy=number % 2 == 0) for number in range(30)]
    side = chain.side()
    for number, one in enumerate(many[:20]):
        body = delegated.encode_request(one.subscription, one.signature, {})
        await side.deliver(body["subscription"], body["signature"], {}, echo(number))
    reader = chain.reader
    await reader.resolve()
    requests = 0
    provider = chain.anvil.web3.provider
    for name in ("make_request", "make_batch_request"):
        original = getattr(provider, name)

        async def counting(*args: Any, _original: Any = original) -> Any:
            nonlocal requests
            requests += 1
            return await _original(*args)

        monkeypatch.setattr(provider, name, counting)
    progress = await reader.fetch_progress(many)
    first, requests = requests, 0
    again = await reader.fetch_progress(many)

    assert [progress[one].stage for one in many] == [Stage.FULFILLED] * 20 + [Stage.WAITING] * 10
    assert [progress[one].deliveries[0].output for one in many[:20]] == list(range(20))
    assert again == progress
    assert first <= 8
    assert requests <= 5  # what lies in a block is not read twice


async def test_an_rpc_without_batches_is_enough(chain: Chain) -> None:
    many = [await chain.delegation(lazy=number % 2 == 0) for number in range(3)]
    for one in many:
        await chain.deliver(one, echo("x"))
    front = RpcFront()
    await front.start(chain.anvil.url)
    front.faults.arm(ChainFault.NO_BATCH, times=None)
    told = {"registry": chain.addresses.registry, "rpc_url": front.url, "private_key": SIGNER.key}
    config = InfernetConfig.model_validate({"url": "http://127.0.0.1:9", "version": "1.4.0", "chain": told})
    adapter = InfernetAdapter("node1", config)
    handles = [Handle("node1", one.job_id, {"kind": "delegated", "delegation": one.encode()}) for one in many]
    try:
        seen = await adapter.poll(handles)
    finally:
        await adapter.aclose()
        await front.stop()
    assert [seen[handle].output for handle in handles] == ["x"] * 3


class Narrow:
    """An RPC that tells of twenty blocks at a time."""

    def __init__(self, pool: RpcPool) -> None:
        self._pool = pool
        self.refused = 0

    async def ask(self, questions: Sequence[Question]) -> list[Any]:
        outcomes = await self._pool.ask(questions)
        for place, (method, params) in enumerate(questions):
            asked: Any = params[0] if method == "eth_getLogs" else None
            if asked is not None and int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) >= 20:
                self.refused += 1
                outcomes[place] = RpcRefused("up to a 20 block range is allowed", code="-32600")
        return outcomes


async def test_answers_are_found_in_narrow_ranges(chain: Chain) -> None:
    many = [await chain.delegation(lazy=lazy) for lazy in (False, True)]
    for one in many:
        await chain.deliver(one, echo("x"))
        for _ in range(30):
            await chain.anvil.mine()
    async with RpcPool([chain.anvil.url]) as pool:
        narrow = Narrow(pool)
        reader = CoordinatorReader(narrow, chain.addresses.registry)
        progress = await reader.fetch_progress(many)
        refused = narrow.refused
        assert await reader.fetch_progress(many) == progress
    assert [[d.output for d in progress[one].deliveries] for one in many] == [["x"], ["x"]]
    assert narrow.refused == refused > 0  # the lesson is learnt


async def test_confirmations(chain: Chain) -> None:
    one = await chain.delegation()
    await chain.deliver(one, echo("x"))
    reader = CoordinatorReader(chain.anvil.web3, chain.addresses.registry, confirmations=2)
    early = (await reader.fetch_progress([one]))[one]
    await chain.anvil.mine()
    await chain.anvil.mine()
    later = (await reader.fetch_progress([one]))[one]

    assert (early.stage, later.stage) == (Stage.WAITING, Stage.FULFILLED)


async def test_a_delegation_of_another_chain(chain: Chain) -> None:
    one = replace(await chain.delegation(), chain_id=1)
    with pytest.raises(Misbehaved, match="chain 1"):
        await chain.reader.fetch_progress([one])
    assert await chain.reader.fetch_progress([]) == {}
