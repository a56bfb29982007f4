"""The local chain, its contracts, and how they are found and read.

Needs `npm install --prefix .ci/node @foundry-rs/anvil solc@0.8.28`; without it, it fails and says so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_utils.crypto import keccak
from local_chain import Chain, echo, make_anvil, start_chain

from gateway.chain import rpc
from gateway.chain.rpc import Reverted, RpcRefused, make_web3
from gateway.devnet.chain import compile_contracts, node_tools
from gateway.devnet.chain.accounts import ACCOUNTS
from gateway.devnet.chain.anvil import CHAIN_ID, SIGNER, Anvil
from gateway.devnet.chain.deploy import make_contract
from gateway.errors import ConfigError, Unavailable
from gateway_infernet import contracts
from gateway_infernet.delegated import (
    BadSubscription,
    Signature,
    SignerMismatch,
    Subscription,
)
from gateway_infernet.onchain import CoordinatorReader
from gateway_infernet.progress import Stage

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "infernet-eip712-vectors.json").read_text()
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def chain() -> AsyncIterator[Chain]:
    async with start_chain() as chain:
        yield chain


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
    async with make_anvil(1) as anvil:
        first = await rpc.fetch_head(anvil.web3)
        for _ in range(400):
            head = await rpc.fetch_head(anvil.web3)
            if head.number > first.number:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("no block came")


async def test_it_comes_back_at_its_url() -> None:
    anvil = make_anvil()
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
    with pytest.raises(node_tools.ToolMissing, match="GATEWAY_ANVIL"):
        node_tools.find_anvil({"GATEWAY_ANVIL": "/nowhere/anvil"})
