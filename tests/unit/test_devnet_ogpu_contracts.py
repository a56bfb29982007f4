"""OGPU's ABI as it was measured, and that our contracts have it. No chain is needed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak

from gateway.devnet.chain import compile_contracts
from gateway.devnet.chain.compile_contracts import OGPU_CONTRACTS
from gateway.devnet.ogpu.contracts import encode_type, get_event, load_contracts

VECTORS = Path(__file__).parents[1] / "vectors"
SIGNATURES: dict[str, list[str]] = json.loads((VECTORS / "ogpu-abi-signatures.json").read_text())
SELECTORS = {
    "Controller": {"publishTask": "90d93b1d", "confirmResponse": "45fac6ec", "cancelTask": "76aafbdb"},
    "Nexus": {
        "publishSource": "4912f56d",
        "updateSource": "2ce65e26",
        "inactivateSource": "b3a85451",
        "register": "e97791e6",
        "attempt": "84895f34",
        "submitResponse": "2cbb753b",
    },
    "Task": {
        "getStatus": "4e69d560",
        "getAttemptCount": "f5653690",
        "getResponsesOf": "961dc61e",
        "responseOf": "e2c116da",
        "winningProvider": "ae7c03cd",
    },
    "Response": {"getResponseParams": "c3c1fa65", "confirmedFinal": "2300403b"},
    "Vault": {"deposit": "f340fa01", "frozenPayment": "818e0155"},
}
TOPICS = {
    "TaskPublished": "3bf5b04cf8ed447db6fda0a63a96369fd5dde6b366b6b480e784be44b26a6c22",
    "TaskStatusChanged": "004961faf5705b2d0656e64b56064817b7e3f00eefca17906d2d1600b20b73ec",
    "Attempted": "88c89788e8b61b93ed2a66e02b36e04d60275b78893674aa6134fad20874022d",
    "ResponseSubmitted": "f6a0b941311aeaa4102f64c379955a62cca24a7cb0cf54e6203ca75075588554",
    "ResponseStatusChanged": "0af3a4721b2eaed49a7bcd503459564e37cd4b6825d633c60f12ba26c2397f4c",
    "SourcePublished": "aed6dbe0b027f2c996fbb0c72ea0549a1b18ee6bd48549fbce971a7027503a57",
    "SourceStatusChanged": "d67fb784e94c7730f8d719043be4a40dcc6786aded1760f77aa46716193421a2",
    "SourceUpdated": "5f9bf4e8a1679156115361af50849b7807ce9be1880b79fc30ded34053274895",
    "Registered": "d336e6f66ca18b8522dabc6be4828055a35190f0152ae2b125ad0cb6c9a0c120",
}
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
