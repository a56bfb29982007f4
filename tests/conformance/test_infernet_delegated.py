"""Delegated subscriptions from end to end: adapter, node, local chain, and back by way of the chain.

Needs anvil: `npm install --prefix .ci/node @foundry-rs/anvil`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from local_chain import make_anvil

from gateway.adapter import Capabilities, Feature, Landed, NotLanded, Unknown
from gateway.chain.rpc import Head
from gateway.devnet.chain.anvil import NODE, SIGNER, Anvil
from gateway.devnet.chain.delegate import CoordinatorSide
from gateway.devnet.chain.deploy import Addresses, deploy
from gateway.devnet.faults import Fault, Operation
from gateway.devnet.infernet import InfernetNode
from gateway.errors import InDoubt, Rejected
from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle, Snapshot, Task
from gateway.testing.case import ConformanceCase, Sample
from gateway.testing.conformance import AdapterConformance
from gateway.types import JSON, AttemptId
from gateway_infernet import InfernetAdapter, InfernetConfig
from gateway_infernet.delegated import Delegation, NonceUsed, SignerMismatch
from gateway_infernet.onchain import CoordinatorReader

pytestmark = pytest.mark.anyio

NAME = "node1"


class DelegatingAdapter(InfernetAdapter):
    """The adapter, as far as delegated subscriptions go: they are known once they are on the chain."""

    async def capabilities(self) -> Capabilities:
        known = await super().capabilities()
        return replace(known, features=known.features - {Feature.RECALL})


@dataclass
class Place:
    """A node with its chain."""

    anvil: Anvil
    addresses: Addresses
    node: InfernetNode

    def make_adapter(self, key: str = SIGNER.key, **chain: Any) -> InfernetAdapter:
        table = {"rpc_url": self.anvil.url, "registry": self.addresses.registry, "private_key": key, **chain}
        return DelegatingAdapter(NAME, InfernetConfig.model_validate({"url": self.node.url, "chain": table}))

    def make_target(self, *containers: str, **words: JSON) -> dict[str, JSON]:
        return {
            "containers": [*containers],
            "delegated": {"owner": self.addresses.consumer, "active_at": 1, **words},
        }


async def mine(anvil: Anvil) -> None:
    """Let the chain's time go on; answers get blocks of their own at once."""
    while True:
        await anvil.mine()
        await asyncio.sleep(0.1)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with make_anvil() as anvil:
        addresses = await deploy(anvil.web3)
        side = CoordinatorSide(anvil.web3, addresses.coordinator, account=NODE)
        node = InfernetNode(NAME, chain=side, rate_limit=None)
        await node.start()
        mining = asyncio.create_task(mine(anvil))
        yield Place(anvil, addresses, node)
        mining.cancel()
        with suppress(asyncio.CancelledError):
            await mining
        await node.stop()


class TestDelegated(AdapterConformance):
    @pytest.fixture
    def case(self, place: Place) -> ConformanceCase:
        node = place.node

        def sample(container: str, **words: JSON) -> Sample:
            task = Task(input={"text": "hello", "seconds": 0.3})
            return Sample(task=task, target=place.make_target(container, **words))

        return ConformanceCase(
            good=sample("echo"),
            expected={"text": "hello", "seconds": 0.3},
            bad_target=place.make_target("echo", redundancy=0),
            accepted=lambda: len(node.journal),
            failing=sample("fail", expires_in_seconds=5),
            slow=sample("sleep"),
            refused=sample("no-such-container"),
            # No `go_down`: while the node is away the chain still has news.
            lose_answer=lambda: node.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT),
            make_adapter=place.make_adapter,
            secrets=(SIGNER.key, SIGNER.key[2:]),
            volatile=frozenset({"delegation"}),
        )

    @pytest.fixture
    async def adapter(self, place: Place) -> AsyncIterator[InfernetAdapter]:
        adapter = place.make_adapter()
        yield adapter
        await adapter.aclose()


@pytest.fixture
async def adapter(place: Place) -> AsyncIterator[InfernetAdapter]:
    adapter = place.make_adapter()
    yield adapter
    await adapter.aclose()


async def follow(adapter: InfernetAdapter, handle: Handle) -> Snapshot:
    for _ in range(1000):
        snapshot = (await adapter.poll([handle]))[handle]
        if snapshot.status.is_final:
            return snapshot
        await adapter.clock.sleep(0.02)
    raise AssertionError(f"it did not end: {snapshot}")


async def run(adapter: InfernetAdapter, target: dict[str, JSON], number: int) -> Snapshot:
    attempt_id = AttemptId(f"run-{number}-{target}")
    envelope = await adapter.prepare(Task(input={"text": "hello"}), target, attempt_id=attempt_id)
    return await follow(adapter, await adapter.submit(envelope))


async def test_real_inference_comes_back_by_way_of_the_chain(place: Place, adapter: InfernetAdapter) -> None:
    task = Task(input={"text": "VADER is smart, handsome, and funny."})
    target = place.make_target("sentiment")
    envelope = await adapter.prepare(task, target, attempt_id=AttemptId("sentiment"))
    snapshot = await follow(adapter, await adapter.submit(envelope))

    assert snapshot.status is Status.COMPLETED
    assert snapshot.output["output"]["compound"] == 0.8316


async def test_lazy_and_the_five_keys(place: Place, adapter: InfernetAdapter) -> None:
    snapshot = await run(adapter, place.make_target("echo", "prover", lazy=True), 1)

    assert snapshot.status is Status.COMPLETED
    assert bytes.fromhex(snapshot.output["raw_output"]) == b"HELLO"


async def test_recovery_knows(place: Place, adapter: InfernetAdapter) -> None:
    envelope = await adapter.prepare(
        Task(input={}), place.make_target("echo"), attempt_id=AttemptId("recovery")
    )
    before = await adapter.recover(envelope)
    place.node.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT)
    with pytest.raises(InDoubt):
        await adapter.submit(envelope)
    for _ in range(1000):
        after = await adapter.recover(envelope)
        if not isinstance(after, Unknown):
            break
        await adapter.clock.sleep(0.02)
    assert isinstance(before, Unknown)
    assert isinstance(after, Landed)
    # Sending it again changes nothing.
    handle = await adapter.submit(envelope)
    done = await follow(adapter, handle)

    assert handle == after.handle
    assert len(done.detail["delegated"]["deliveries"]) == 1


async def test_a_failing_container_ends_as_expired(place: Place, adapter: InfernetAdapter) -> None:
    target = place.make_target("fail", expires_in_seconds=5)
    envelope = await adapter.prepare(Task(input={}), target, attempt_id=AttemptId("expired"))
    snapshot = await follow(adapter, await adapter.submit(envelope))

    assert snapshot.status is Status.FAILED
    assert snapshot.failure is not None
    assert snapshot.failure.kind is FailureKind.EXPIRED
    assert await adapter.recover(envelope) == NotLanded(final=True)


async def test_a_wrong_key_is_found_out_before_anything_is_sent(place: Place) -> None:
    adapter = place.make_adapter(NODE.key)
    with pytest.raises(SignerMismatch) as caught:
        await run(adapter, place.make_target("echo"), 2)
    await adapter.aclose()

    assert caught.value.backend == NAME
    assert place.node.journal == []


async def test_a_used_nonce_is_found_out_before_anything_is_sent(
    place: Place, adapter: InfernetAdapter
) -> None:
    target = place.make_target("echo", nonce=4242)
    await run(adapter, target, 3)
    with pytest.raises(NonceUsed):
        await run(adapter, target, 4)

    assert len(place.node.journal) == 1


async def test_another_chain_than_the_configured_one(place: Place) -> None:
    adapter = place.make_adapter(chain_id=1)
    with pytest.raises(Rejected, match="31337"):
        await run(adapter, place.make_target("echo"), 5)
    await adapter.aclose()


async def test_an_id_before_its_subscription_is_not_another_ones(
    place: Place, adapter: InfernetAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An RPC that makes a block, or is many, may answer two questions from different states."""
    target = place.make_target("echo")
    envelope = await adapter.prepare(Task(input={"text": "hello"}), target, attempt_id=AttemptId("run"))
    handle = await adapter.submit(envelope)
    ended = await follow(adapter, handle)
    before = Head(Delegation.parse(handle.detail["delegation"]).from_block, 0)
    monkeypatch.setattr(CoordinatorReader, "fetch_head", AsyncMock(return_value=before))
    monkeypatch.setattr(
        CoordinatorReader, "_fetch_ids", AsyncMock(side_effect=lambda of, *_: dict.fromkeys(of, 1))
    )
    assert (await adapter.poll([handle]))[handle].status is Status.QUEUED
    monkeypatch.undo()
    assert (await adapter.poll([handle]))[handle] == ended
