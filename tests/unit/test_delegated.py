from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data as encode_for_eth_account
from eth_utils.crypto import keccak

from gateway.errors import ConfigError, Misbehaved, Rejected
from gateway_infernet import delegated
from gateway_infernet.delegated import (
    BadSignature,
    BadSubscription,
    Delegation,
    Signature,
    SignatureExpired,
    Subscription,
)

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "infernet-eip712-vectors.json").read_text()
)
SIGNER_KEY = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"
SIGNER = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
COORDINATOR = "0x2E983A1Ba5e8b38AAAeC4B440B9dDcFBf72E15d1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_subscription(vector: Mapping[str, Any] = VECTORS[0], **changes: Any) -> Subscription:
    names = Subscription.__dataclass_fields__
    fields = {name: vector[name] for name in names} | {"containers": tuple(vector["containers"])} | changes
    return Subscription(**fields)


def make_signature(vector: Mapping[str, Any] = VECTORS[0], **changes: Any) -> Signature:
    fields = {
        "nonce": vector["nonce"],
        "expiry": vector["expiry"],
        "v": vector["v"],
        "r": int(vector["r"], 16),
        "s": int(vector["s"], 16),
    }
    return Signature(**fields | changes)


# What was measured on the deployed coordinator.


@pytest.mark.parametrize("vector", VECTORS, ids=["one_off", "recurring_lazy"])
class TestVectors:
    def test_the_hashes(self, vector: dict[str, Any]) -> None:
        sub, nonce, expiry = make_subscription(vector), vector["nonce"], vector["expiry"]
        chain_id, coordinator = vector["chainId"], vector["verifyingContract"]

        assert delegated.encode_subscription_hash(sub) == vector["subHash"]
        assert delegated.encode_struct_hash(sub, nonce, expiry) == vector["structHash"]
        assert delegated.encode_digest(sub, nonce, expiry, chain_id, coordinator) == vector["digest"]

    @pytest.mark.parametrize("of", ["key", "key_without_0x", "account"])
    def test_the_signature(self, vector: dict[str, Any], of: str) -> None:
        key: Any = {
            "key": SIGNER_KEY,
            "key_without_0x": SIGNER_KEY[2:],
            "account": Account.from_key(SIGNER_KEY),
        }[of]
        signature = delegated.sign(
            make_subscription(vector),
            vector["nonce"],
            vector["expiry"],
            key,
            vector["chainId"],
            vector["verifyingContract"],
        )

        assert signature == make_signature(vector)

    def test_the_signer_is_found_again(self, vector: dict[str, Any]) -> None:
        signer = delegated.recover_signer(
            make_subscription(vector), make_signature(vector), vector["chainId"], vector["verifyingContract"]
        )

        assert signer == vector["signer"] == SIGNER

    def test_it_passes_the_local_checks(self, vector: dict[str, Any]) -> None:
        delegated.check_locally(make_subscription(vector), make_signature(vector), now=NOW)


def test_the_type_hashes() -> None:
    assert keccak(text=delegated.SUBSCRIPTION_TYPE).hex() == (
        "3da81ed66ee47395e568c52867826ec137777eef9c1bdfb6bf972dd4385bc5a9"
    )
    assert keccak(text=delegated.DELEGATE_TYPE).hex() == (
        "ba9ff1aef2b048b42767aade2b901745a3acf14f698a9ec13952098cfd03d0b6"
    )


def test_the_domain_separator() -> None:
    assert delegated.encode_domain_separator(31337, COORDINATOR) == (
        "0x10c951d595d1a987d17c9170c1eae194ce8a52d760f2ef8c7f4120f9c4fe0554"
    )


@pytest.mark.parametrize(
    ("containers", "container_id"),
    [
        (["echo"], "0xe6bc11afcedb3f26d7fb181f4c6dd2e98781d79f965a4777058412b58f788ec8"),
        (["echo", "prover"], "0x15e924e46aaddd159b12df8443995b13d97670052e94043deb00faf7fb90eb40"),
        (
            ["openai-client-inference-0.0.1"],
            "0xca988b584c40f0247d10e2f6e76a151de1768920692ba7c729f388ab6f8f293d",
        ),
    ],
)
def test_the_container_hashes(containers: list[str], container_id: str) -> None:
    assert delegated.encode_container_id(containers) == container_id


def test_the_order_of_containers_matters() -> None:
    assert delegated.encode_container_id(["a", "b"]) != delegated.encode_container_id(["b", "a"])


# What is sent.


def test_the_request_body() -> None:
    vector = VECTORS[1]
    sub = make_subscription(vector, owner=vector["owner"].lower())
    body = delegated.encode_request(sub, make_signature(vector), {"text": "hi"})

    assert body == {
        "subscription": {
            "owner": vector["owner"],  # checksummed: the node's web3 drops others in silence
            "active_at": 1700000000,
            "period": 60,
            "frequency": 3,
            "redundancy": 2,
            "containers": "0x15e924e46aaddd159b12df8443995b13d97670052e94043deb00faf7fb90eb40",
            "lazy": True,
            "verifier": "0x3333333333333333333333333333333333333333",
            "payment_amount": 10**18,
            "payment_token": "0x1111111111111111111111111111111111111111",
            "wallet": "0x2222222222222222222222222222222222222222",
        },
        "signature": {
            "nonce": 7,
            "expiry": 4102444800,
            "v": 28,
            "r": int(vector["r"], 16),
            "s": int(vector["s"], 16),
        },
        "data": {"text": "hi"},
    }
    assert f'"r": {int(vector["r"], 16)}' in json.dumps(body)


def test_the_typed_data_is_what_other_wallets_hash() -> None:
    vector = VECTORS[1]
    message = delegated.encode_typed_data(make_subscription(vector), 7, 4102444800, 31337, COORDINATOR)
    signable = encode_for_eth_account(full_message=json.loads(json.dumps(message)))

    assert (
        "0x" + keccak(b"\x19" + signable.version + signable.header + signable.body).hex() == vector["digest"]
    )


# What is refused before anything is sent.

ADDRESS_FIELDS = ["owner", "verifier", "payment_token", "wallet"]


@pytest.mark.parametrize("name", ADDRESS_FIELDS)
@pytest.mark.parametrize(
    "value",
    [
        "",
        "0x",
        "0x12",
        "0x" + "g" * 40,
        "bdEd0D2bf404bdcBa897a74E6657f1f12e5C6fb6",  # without 0x
        "0xBDEd0D2bf404bdcBa897a74E6657f1f12e5C6fb6",  # one letter in the wrong case
        None,
        0,
    ],
)
def test_bad_addresses(name: str, value: Any) -> None:
    with pytest.raises(BadSubscription) as caught:
        delegated.check_subscription(make_subscription(**{name: value}))
    assert caught.value.code == name


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"owner": delegated.ZERO_ADDRESS}, "owner"),
        ({"containers": ()}, "containers"),
        ({"containers": ("",)}, "containers"),
        ({"containers": ("a,b",)}, "containers"),
        ({"containers": "echo"}, "containers"),
        ({"containers": (1,)}, "containers"),
        ({"active_at": -1}, "active_at"),
        ({"active_at": 2**32}, "active_at"),
        ({"active_at": 2**32 - 1}, "active_at"),
        ({"active_at": 1.5}, "active_at"),
        ({"period": 2**32}, "period"),
        ({"frequency": 2**32}, "frequency"),
        ({"frequency": 0}, "frequency"),
        ({"frequency": 2}, "frequency"),  # without a period
        ({"redundancy": 2**16}, "redundancy"),
        ({"redundancy": 0}, "redundancy"),
        ({"redundancy": True}, "redundancy"),
        ({"payment_amount": 2**256}, "payment_amount"),
        ({"payment_amount": -1}, "payment_amount"),
        ({"lazy": 0}, "lazy"),
    ],
)
def test_bad_subscriptions(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(BadSubscription) as caught:
        delegated.check_locally(make_subscription(**changes), make_signature(), now=NOW)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"nonce": -1}, "nonce"),
        ({"nonce": 2**32}, "nonce"),
        ({"nonce": "1"}, "nonce"),
        ({"expiry": 2**32}, "expiry"),
        ({"v": 0}, "v"),
        ({"v": 1}, "v"),
        ({"v": 29}, "v"),
        ({"v": True}, "v"),
        ({"r": 0}, "r"),
        ({"r": 2**256}, "r"),
        ({"r": "0x12"}, "r"),
        ({"s": 2**256 - 1}, "s"),
    ],
)
def test_bad_signatures(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(BadSignature) as caught:
        delegated.check_locally(make_subscription(), make_signature(**changes), now=NOW)
    assert caught.value.code == code


@pytest.mark.parametrize("nonce", [0, 2**32 - 1])
def test_the_ends_of_the_nonces_are_good(nonce: int) -> None:
    delegated.check_locally(make_subscription(), make_signature(nonce=nonce), now=NOW)


def test_an_expired_signature() -> None:
    sub, at = make_subscription(), int(NOW.timestamp())
    with pytest.raises(SignatureExpired) as caught:
        delegated.check_locally(sub, make_signature(expiry=at), now=NOW)
    delegated.check_locally(sub, make_signature(expiry=at + 1), now=NOW)

    assert isinstance(caught.value, Rejected)
    assert caught.value.landed is False


def test_a_signature_that_is_over_before_it_begins() -> None:
    with pytest.raises(BadSubscription, match="becomes active"):
        delegated.sign(
            make_subscription(active_at=2_000_000_000), 1, 2_000_000_000, SIGNER_KEY, 31337, COORDINATOR
        )


def test_nothing_bad_is_signed() -> None:
    with pytest.raises(BadSubscription):
        delegated.sign(make_subscription(containers=()), 1, 4102444800, SIGNER_KEY, 31337, COORDINATOR)
    with pytest.raises(BadSignature):
        delegated.sign(make_subscription(), 2**32, 4102444800, SIGNER_KEY, 31337, COORDINATOR)
    with pytest.raises(BadSubscription):
        delegated.sign(make_subscription(), 1, 4102444800, SIGNER_KEY, 31337, "coordinator")


def test_a_bad_key_is_never_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        delegated.sign(make_subscription(), 1, 4102444800, SIGNER_KEY + "77", 31337, COORDINATOR)

    assert SIGNER_KEY[4:20] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_garbage_has_no_signer() -> None:
    with pytest.raises(BadSignature):
        delegated.recover_signer(make_subscription(), make_signature(r=5, s=0), 31337, COORDINATOR)


@pytest.mark.parametrize("module", ["eth_account", "eth_utils", "eth_abi"])
def test_a_missing_extra_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"inference-gateway\[infernet-chain\]"):
        delegated.sign(make_subscription(), 1, 4102444800, SIGNER_KEY, 31337, COORDINATOR)


def test_what_is_no_delegation() -> None:
    stored: list[dict[str, Any]] = [{}, {"subscription": {}, "signature": {}}, {"subscription": 3}]
    for data in stored:
        with pytest.raises(Misbehaved):
            Delegation.parse(data)


def test_one_job_id_whatever_the_case_of_the_addresses() -> None:
    vector = VECTORS[0]
    one = Delegation(
        subscription=make_subscription(),
        signature=make_signature(),
        chain_id=31337,
        coordinator=COORDINATOR,
    )
    other = replace(
        one,
        coordinator=COORDINATOR.lower(),
        subscription=make_subscription(owner=vector["owner"].lower()),
    )

    assert one.job_id == other.job_id
    assert one.job_id != replace(one, signature=make_signature(nonce=2)).job_id
