"""Delegated subscriptions against a real EVM: anvil, with the contracts of the local chain.

`npm install --prefix .ci/node @foundry-rs/anvil solc@0.8.28` puts what they need where it is looked for;
without it they fail and say so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from gateway.chain import rpc
from gateway.chain.rpc import Reverted, RpcRefused, make_web3
from gateway.devnet.chain import compile_contracts, node_tools
from gateway.devnet.chain.anvil import ACCOUNTS, CHAIN_ID, DEPLOYER, NODE, NODE_2, SIGNER, Anvil
from gateway.devnet.chain.delegate import CoordinatorSide, Dropped, encode_output
from gateway.devnet.chain.deploy import Addresses, deploy, make_contract
from gateway.devnet.chain.wallet import Wallet
from gateway.devnet.infernet.containers import ContainerError
from gateway.errors import ConfigError, Misbehaved, Unavailable
from gateway.lifecycle import Status
from gateway.task import FailureKind
from gateway.types import JSON
from gateway_infernet import contracts, delegated
from gateway_infernet.answers import Form
from gateway_infernet.delegated import (
    BadSignature,
    BadSubscription,
    Delegation,
    NonceUsed,
    OwnerNotDelegator,
    Signature,
    SignatureExpired,
    SignerMismatch,
    Subscription,
)
from gateway_infernet.onchain import CoordinatorReader
from gateway_infernet.progress import Progress, Stage, make_snapshot

pytestmark = pytest.mark.anyio

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "infernet-eip712-vectors.json").read_text()
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Chain:
    """One chain for all tests of this file; each subscription has a nonce of its own."""

    anvil: Anvil
    addresses: Addresses
    nonce: int = 0

    @property
    def reader(self) -> CoordinatorReader:
        return CoordinatorReader(self.anvil.web3, self.addresses.registry)

    def side(self, account: Any = NODE) -> CoordinatorSide:
        quick = timedelta(milliseconds=5)
        return CoordinatorSide(
            self.anvil.web3,
            self.addresses.coordinator,
            account=account,
            rerun_every=quick,
            look_every=quick,
        )

    async def delegation(
        self, *, expires_in: int = 100, key: str = SIGNER.key, nonce: int | None = None, **changes: Any
    ) -> Delegation:
        self.nonce += 1
        head = await rpc.fetch_head(self.anvil.web3)
        fields: dict[str, Any] = {
            "owner": self.addresses.consumer,
            "containers": ("echo",),
            "active_at": head.timestamp - 1,
        }
        sub = Subscription(**fields | changes)
        expiry = max(head.timestamp, sub.active_at) + expires_in
        number = self.nonce if nonce is None else nonce
        signature = delegated.sign(sub, number, expiry, key, CHAIN_ID, self.addresses.coordinator)
        return Delegation(
            subscription=sub,
            signature=signature,
            chain_id=CHAIN_ID,
            coordinator=self.addresses.coordinator,
            from_block=head.number,
        )

    async def deliver(
        self, delegation: Delegation, output_of: Callable[[JSON], Awaitable[JSON]], account: Any = NODE
    ) -> None:
        body = delegated.encode_request(delegation.subscription, delegation.signature, {"text": "hi"})
        await self.side(account).deliver(body["subscription"], body["signature"], body["data"], output_of)

    async def look(self, delegation: Delegation) -> Progress:
        return (await self.reader.fetch_progress([delegation]))[delegation]

    async def wait_until_missing(self, delegation: Delegation, missing: int) -> Progress:
        for _ in range(2000):
            progress = await self.look(delegation)
            if progress.missing == missing:
                return progress
            await asyncio.sleep(0.005)
        raise AssertionError(f"{progress}")

    async def tell(self, contract: str, address: str, function: str, *arguments: Any) -> None:
        data = make_contract(self.anvil.web3, contract, address).encode_abi(function, args=arguments)
        await Wallet(self.anvil.web3, DEPLOYER).send(address, bytes.fromhex(data[2:]))


@pytest.fixture(scope="module")
async def chain() -> AsyncIterator[Chain]:
    async with Anvil(block_seconds=None) as anvil:
        yield Chain(anvil, await deploy(anvil.web3))


def echo(output: JSON) -> Callable[[JSON], Awaitable[JSON]]:
    async def output_of(data: JSON) -> JSON:
        return output

    return output_of


# The contracts speak as Infernet's do (measured on SDK 1.1.0).


async def test_the_addresses_are_those_of_infernets_own_local_chain(chain: Chain) -> None:
    assert chain.addresses.registry == "0x663F3ad617193148711d28f5334eE4Ed07016602"
    assert chain.addresses.coordinator == "0x2E983A1Ba5e8b38AAAeC4B440B9dDcFBf72E15d1"
    assert chain.addresses.inbox == "0x8438Ad1C834623CfF278AB6829a248E37C2D7E3f"


def test_selectors() -> None:
    measured = {
        "createSubscriptionDelegatee": "9c092514",
        "deliverComputeDelegatee": "9fff314a",
        "deliverCompute": "c509543d",
        "getSigner": "7ac3c02f",
    }
    assert {name: contracts.get_selector(name).hex() for name in measured} == measured


def test_topics() -> None:
    measured = {
        "SubscriptionCreated": ("04344ed7", "b48e"),
        "SubscriptionFulfilled": ("c68fb0ae", "e4c8"),
        "SubscriptionCancelled": ("f4126e31", "ac3e"),
    }
    topics = {name: contracts.get_topic(name).hex() for name in measured}
    assert {name: (topic[:8], topic[-4:]) for name, topic in topics.items()} == measured
    assert contracts.get_topic("NewInboxItem").hex().startswith("ac56b74e")


def test_errors() -> None:
    assert contracts.get_error(bytes.fromhex("10c74b03")) == "SignerMismatch"
    assert contracts.get_error(bytes.fromhex("0819bdcd")) == "SignatureExpired"
    assert contracts.get_error(bytes.fromhex("8baa579f")) == "InvalidSignature"
    assert contracts.get_error(b"") is None


def test_the_contracts_have_the_abi_that_the_reader_speaks() -> None:
    abi = [
        entry
        for contract in compile_contracts.load_compiled()["contracts"].values()
        for entry in contract["abi"]
    ]
    spoken = {
        (entry["name"], tuple(_type(i) for i in entry["inputs"]), tuple(_type(o) for o in entry["outputs"]))
        for entry in abi
        if entry["type"] == "function"
    }
    assert {(name, *types) for name, types in contracts.FUNCTIONS.items()} <= spoken
    events = {
        f"{entry['name']}({','.join(_type(i) for i in entry['inputs'])})"
        for entry in abi
        if entry["type"] == "event"
    }
    assert set(contracts.EVENTS.values()) <= events
    assert set(contracts.ERRORS) <= {entry["name"] for entry in abi if entry["type"] == "error"}


def _type(entry: dict[str, Any]) -> str:
    if entry["type"] == "tuple":
        return "(" + ",".join(_type(component) for component in entry["components"]) + ")"
    return str(entry["type"])


def test_compiled_json_is_of_these_sources() -> None:
    fingerprint = compile_contracts.encode_fingerprint(compile_contracts.load_sources())
    assert compile_contracts.load_compiled()["fingerprint"] == fingerprint, (
        "a contract changed: run python -m gateway.devnet.chain.compile_contracts"
    )


def test_compiling_again_gives_the_same() -> None:
    assert compile_contracts.compile_contracts(node_tools.find_solc()) == compile_contracts.load_compiled()


def test_the_accounts_are_those_of_their_keys() -> None:
    assert [Account.from_key(account.key).address for account in ACCOUNTS] == [a.address for a in ACCOUNTS]


async def test_the_domain_separator_is_the_contracts(chain: Chain) -> None:
    coordinator = make_contract(chain.anvil.web3, "Coordinator", chain.addresses.coordinator)
    (
        fields,
        name,
        version,
        chain_id,
        contract,
        salt,
        extensions,
    ) = await coordinator.functions.eip712Domain().call()

    assert (fields, name, version, chain_id) == (b"\x0f", "InfernetCoordinator", "1", 31337)
    assert (contract, salt, extensions) == (chain.addresses.coordinator, bytes(32), [])


@pytest.mark.parametrize("vector", VECTORS, ids=["one_off", "recurring_lazy"])
async def test_the_measured_signatures_are_accepted(chain: Chain, vector: dict[str, Any]) -> None:
    # The vectors' owner is put where it was: its signer is the one of our consumer.
    code = await chain.anvil.ask("eth_getCode", chain.addresses.consumer, "latest")
    await chain.anvil.ask("anvil_setCode", vector["owner"], code)
    names = Subscription.__dataclass_fields__
    sub = Subscription(**{name: vector[name] for name in names} | {"containers": tuple(vector["containers"])})
    signature = Signature(
        nonce=vector["nonce"],
        expiry=vector["expiry"],
        v=vector["v"],
        r=int(vector["r"], 16),
        s=int(vector["s"], 16),
    )

    assert await chain.reader.preflight(sub, signature) > 0
    with pytest.raises(SignerMismatch):
        await chain.reader.preflight(replace(sub, redundancy=9), signature)


# Finding the contracts.


async def test_the_registry_leads_to_the_others(chain: Chain) -> None:
    deployment = await chain.reader.resolve()

    assert deployment.chain_id == CHAIN_ID
    assert deployment.coordinator == chain.addresses.coordinator
    assert deployment.inbox == chain.addresses.inbox


async def test_a_coordinator_of_ones_own(chain: Chain) -> None:
    reader = CoordinatorReader(chain.anvil.web3, chain.addresses.coordinator.lower())
    deployment = await reader.resolve()

    assert (deployment.coordinator, deployment.inbox) == (chain.addresses.coordinator, None)
    one = await chain.delegation(lazy=True)
    with pytest.raises(BadSubscription, match="Inbox"):
        await reader.preflight(one.subscription, one.signature)


async def test_addresses_that_are_no_coordinators(chain: Chain) -> None:
    for address in (SIGNER.address, chain.addresses.inbox, chain.addresses.consumer):
        with pytest.raises(ConfigError, match="neither a Registry nor a Coordinator"):
            await CoordinatorReader(chain.anvil.web3, address).resolve()


async def test_a_chain_that_is_not_the_configured_one(chain: Chain) -> None:
    with pytest.raises(ConfigError, match="31337, and 8453 is configured"):
        await CoordinatorReader(chain.anvil.web3, chain.addresses.registry, chain_id=8453).resolve()


# Pre-flight.


async def test_preflight_of_a_good_signature_sends_nothing(chain: Chain) -> None:
    one = await chain.delegation()
    first = await chain.reader.preflight(one.subscription, one.signature)

    assert first == await chain.reader.preflight(one.subscription, one.signature)
    assert await chain.reader.fetch_subscription_id(one.subscription.owner, one.signature.nonce) is None


@pytest.mark.parametrize("nonce", [0, 2**32 - 1])
async def test_preflight_of_the_first_and_last_nonce(chain: Chain, nonce: int) -> None:
    one = await chain.delegation(nonce=nonce)
    assert await chain.reader.preflight(one.subscription, one.signature) > 0


async def test_preflight_of_somebody_elses_signature(chain: Chain) -> None:
    one = await chain.delegation(key=NODE.key)
    with pytest.raises(SignerMismatch) as caught:
        await chain.reader.preflight(one.subscription, one.signature)

    assert NODE.address in str(caught.value)
    assert SIGNER.address in str(caught.value)
    assert caught.value.landed is False


async def test_preflight_of_a_signature_for_another_chain(chain: Chain) -> None:
    one = await chain.delegation()
    elsewhere = delegated.sign(
        one.subscription, 77, one.signature.expiry, SIGNER.key, 1, chain.addresses.coordinator
    )
    with pytest.raises(SignerMismatch):
        await chain.reader.preflight(one.subscription, elsewhere)


async def test_preflight_of_an_expired_signature(chain: Chain) -> None:
    one = await chain.delegation(expires_in=10)
    await chain.anvil.advance(11)
    with pytest.raises(SignatureExpired):
        await chain.reader.preflight(one.subscription, one.signature)


async def test_preflight_of_what_is_no_signature(chain: Chain) -> None:
    one = await chain.delegation()
    with pytest.raises(BadSignature):
        await chain.reader.preflight(one.subscription, replace(one.signature, v=0))


async def test_preflight_of_an_owner_without_code(chain: Chain) -> None:
    one = await chain.delegation(owner=DEPLOYER.address)
    with pytest.raises(OwnerNotDelegator, match="not a contract"):
        await chain.reader.preflight(one.subscription, one.signature)


async def test_preflight_of_an_owner_without_a_signer(chain: Chain) -> None:
    one = await chain.delegation(owner=chain.addresses.inbox)
    with pytest.raises(OwnerNotDelegator, match="getSigner"):
        await chain.reader.preflight(one.subscription, one.signature)


async def test_preflight_of_a_used_nonce(chain: Chain) -> None:
    one = await chain.delegation()
    await chain.deliver(one, echo("first"))
    again = await chain.delegation(nonce=one.signature.nonce, redundancy=2)
    with pytest.raises(NonceUsed) as caught:
        await chain.reader.preflight(again.subscription, again.signature)

    created = await chain.reader.fetch_subscription_id(one.subscription.owner, one.signature.nonce)
    assert caught.value.detail == {"subscription_id": created}


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
    await chain.anvil.advance(49)
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
    await chain.anvil.advance(2000)
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


# What the node does in silence.


async def test_three_posts_are_one_delivery(chain: Chain) -> None:
    one = await chain.delegation()
    runs = 0

    async def output_of(data: JSON) -> JSON:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.02)
        return "once"

    body = delegated.encode_request(one.subscription, one.signature, {})
    side = chain.side()
    posts = [side.deliver(body["subscription"], body["signature"], {}, output_of) for _ in range(3)]
    await asyncio.gather(*posts)
    await side.deliver(body["subscription"], body["signature"], {}, output_of)

    assert runs == 1
    assert len((await chain.look(one)).deliveries) == 1


async def test_a_container_that_fails_for_a_while(chain: Chain) -> None:
    one = await chain.delegation()
    runs = 0

    async def output_of(data: JSON) -> JSON:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ContainerError("not yet")
        return {"code": "500", "description": "nor so"} if runs < 5 else {"code": "200"}

    await chain.deliver(one, output_of)

    assert runs == 5
    assert (await chain.look(one)).deliveries[0].output == {"code": "200"}


async def test_a_container_that_always_fails_ends_with_the_signature(chain: Chain) -> None:
    one = await chain.delegation(expires_in=30)
    runs = 0

    async def output_of(data: JSON) -> JSON:
        nonlocal runs
        runs += 1
        if runs == 4:
            await chain.anvil.advance(30)
        raise ContainerError("never")

    with pytest.raises(Dropped, match="expired"):
        await chain.deliver(one, output_of)

    assert runs == 4
    assert (await chain.look(one)).stage is Stage.EXPIRED


async def test_a_consumer_that_reverts_is_given_up_until_the_next_post(chain: Chain) -> None:
    one = await chain.delegation()
    await chain.tell("Consumer", chain.addresses.consumer, "setRefusing", True)
    with pytest.raises(Dropped, match="Refused"):
        await chain.deliver(one, echo("x"))
    refused = await chain.look(one)
    await chain.tell("Consumer", chain.addresses.consumer, "setRefusing", False)
    await chain.deliver(one, echo("x"))

    assert refused.stage is Stage.WAITING
    assert (await chain.look(one)).stage is Stage.FULFILLED


@pytest.mark.parametrize(
    ("key", "v", "owner", "why"),
    [
        (NODE.key, None, None, "SignerMismatch"),
        (SIGNER.key, 0, None, "InvalidSignature"),
        (SIGNER.key, None, DEPLOYER.address, "given up"),
    ],
)
async def test_bad_signatures_run_no_container(
    chain: Chain, key: str, v: int | None, owner: str | None, why: str
) -> None:
    one = await chain.delegation(key=key, owner=owner or chain.addresses.consumer)
    one = replace(one, signature=replace(one.signature, v=one.signature.v if v is None else v))

    async def output_of(data: JSON) -> JSON:
        raise AssertionError("a container was run")

    with pytest.raises(Dropped, match=why):
        await chain.deliver(one, output_of)
    assert (await chain.look(one)).stage is Stage.WAITING


async def test_a_payment_that_nobody_can_make_is_dropped(chain: Chain) -> None:
    one = await chain.delegation(payment_amount=1)
    with pytest.raises(Dropped, match="InvalidWallet"):
        await chain.deliver(one, echo("x"))


# The RPC.


async def test_nothing_listens() -> None:
    web3 = make_web3("http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="can't be reached"):
        await CoordinatorReader(web3, SIGNER.address).fetch_head()
    await web3.provider.disconnect()


async def test_refusals_and_reverts_are_told_apart(chain: Chain) -> None:
    with pytest.raises(RpcRefused) as refused:
        await rpc.request(chain.anvil.web3, "eth_nonsense", [])
    call = contracts.encode_call("deliverCompute", 4_000_000, 1, b"", b"", b"", SIGNER.address)
    with pytest.raises(Reverted) as reverted:
        await rpc.fetch_calls(chain.anvil.web3, [(chain.addresses.coordinator, call)])
    with pytest.raises(Reverted):
        await rpc.fetch_calls(chain.anvil.web3, [(chain.addresses.coordinator, call)] * 2)

    assert not isinstance(refused.value, Reverted)
    assert contracts.get_error(reverted.value.data) == "SubscriptionNotFound"


async def test_web3s_own_errors_come_out_as_ours(chain: Chain) -> None:
    coordinator = make_contract(chain.anvil.web3, "Coordinator", chain.addresses.coordinator)
    with pytest.raises(Reverted) as reverted, rpc.translated("delivering"):
        await coordinator.functions.deliverCompute(4_000_000, 1, b"", b"", b"", SIGNER.address).call()
    assert reverted.value.data == keccak(text="SubscriptionNotFound()")[:4]


async def test_long_scans_come_in_windows(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await chain.delegation()
    await chain.deliver(one, echo("x"))
    monkeypatch.setattr(rpc, "_SCAN_BLOCKS", 1)
    assert (await chain.look(replace(one, from_block=0))).stage is Stage.FULFILLED


# Anvil itself.


async def test_blocks_come_by_themselves() -> None:
    async with Anvil(block_seconds=1) as anvil:
        first = await rpc.fetch_head(anvil.web3)
        for _ in range(400):
            head = await rpc.fetch_head(anvil.web3)
            if head.number > first.number:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("no block came")


async def test_it_comes_back_at_its_url() -> None:
    anvil = Anvil(block_seconds=None)
    await anvil.start()
    url = anvil.url
    await anvil.stop()
    with pytest.raises(Unavailable):
        await anvil.mine()
    await anvil.stop()
    await anvil.start()
    assert anvil.url == url
    await anvil.mine()
    await anvil.stop()


async def test_a_program_that_is_no_anvil() -> None:
    with pytest.raises(Unavailable, match="does not start"):
        await Anvil(program=Path("/bin/false")).start()


def test_a_missing_anvil_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_tools, "_list_folders", lambda: iter(()))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(node_tools.ToolMissing, match="npm install @foundry-rs/anvil"):
        node_tools.find_anvil()
    with pytest.raises(node_tools.ToolMissing, match=r"npm install solc@0\.8\.28"):
        node_tools.find_solc()
    monkeypatch.setenv("GATEWAY_ANVIL", "/nowhere/anvil")
    with pytest.raises(node_tools.ToolMissing, match="GATEWAY_ANVIL"):
        node_tools.find_anvil()
