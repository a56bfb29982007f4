"""OGPU's ABI as it was measured, and that our contracts have it. No chain is needed here."""

from __future__ import annotations

from typing import Any

import pytest
from eth_utils.crypto import keccak
from ogpu_abi import SELECTORS, SIGNATURES, TOPICS

from gateway.devnet.chain import compile_contracts
from gateway.devnet.chain.compile_contracts import OGPU_CONTRACTS
from gateway.devnet.ogpu.contracts import encode_type, get_event, load_contracts

OURS_ALONE = {  # switches and inner calls; nothing of theirs has these names
    "Nexus": {"clientConfirms", "setClientConfirms", "takeResponse"},
    "Task": {"setWinner"},
    "Terminal": {"defaultAgent", "setDefaultAgent"},
}


def describe(entry: dict[str, Any]) -> str:
    """Write an ABI entry as one line: kind, name, types, what is indexed, mutability, what it returns."""
    taken = ",".join(
        encode_type(each) + (" indexed" if each.get("indexed") else "") for each in entry.get("inputs", [])
    )
    line = f"{entry['type']} {entry.get('name', '')}({taken})"
    if entry["type"] in ("function", "constructor"):
        line += f" {entry['stateMutability']}"
    if entry["type"] == "function":
        line += f" -> ({','.join(encode_type(each) for each in entry['outputs'])})"
    return line


def get_selector(contract: str, function: str) -> str:
    [entry] = [
        entry
        for entry in load_contracts()[contract]["abi"]
        if entry["type"] == "function" and entry["name"] == function
    ]
    types = ",".join(encode_type(each) for each in entry["inputs"])
    return keccak(text=f"{function}({types})")[:4].hex()


@pytest.mark.parametrize("contract", sorted(SIGNATURES))
def test_a_contract_has_the_whole_abi_and_little_more(contract: str) -> None:
    abi = load_contracts()[contract]["abi"]
    assert set(SIGNATURES[contract]) <= {describe(entry) for entry in abi}
    more = {entry["name"] for entry in abi if describe(entry) not in SIGNATURES[contract]}
    assert more == OURS_ALONE.get(contract, set())


@pytest.mark.parametrize(
    ("contract", "function", "selector"),
    [(contract, name, value) for contract, some in SELECTORS.items() for name, value in some.items()],
)
def test_selectors(contract: str, function: str, selector: str) -> None:
    assert get_selector(contract, function) == selector


@pytest.mark.parametrize("event", TOPICS)
def test_topics(event: str) -> None:
    assert get_event(event)[0].hex() == TOPICS[event]


def test_no_event_of_a_tasks_life_has_an_indexed_argument() -> None:
    indexed = {
        (contract, entry["name"])
        for contract, compiled in load_contracts().items()
        for entry in compiled["abi"]
        if entry["type"] == "event" and any(each["indexed"] for each in entry["inputs"])
    }
    assert {name for _, name in indexed} == {
        "OwnershipTransferred",
        "RoleAdminChanged",
        "RoleGranted",
        "RoleRevoked",
    }


def test_the_vaults_and_terminals_topics_and_the_errors() -> None:
    def topic(contract: str, name: str) -> str:
        [entry] = [e for e in load_contracts()[contract]["abi"] if e.get("name") == name]
        types = ",".join(encode_type(each) for each in entry["inputs"])
        return keccak(text=f"{name}({types})").hex()

    assert topic("Vault", "Deposited").startswith("2da466a7")
    assert topic("Terminal", "AgentSet").startswith("629d84cd")
    assert topic("Source", "OwnableUnauthorizedAccount").startswith("118cdaa7")
    assert topic("Manager", "AccessControlUnauthorizedAccount").startswith("e2517d3f")


def test_compiled_json_is_of_these_sources() -> None:
    fingerprint = compile_contracts.encode_fingerprint(compile_contracts.load_sources(OGPU_CONTRACTS))
    assert compile_contracts.load_compiled(OGPU_CONTRACTS)["fingerprint"] == fingerprint, (
        "a contract changed: run python -m gateway.devnet.chain.compile_contracts"
    )


def test_every_contract_fits_onto_a_chain() -> None:
    for name, compiled in load_contracts().items():
        assert len(compiled["bytecode"]) // 2 < 24_576, name
