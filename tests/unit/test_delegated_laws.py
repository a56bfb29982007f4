"""What holds for every delegated subscription."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime

from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_infernet import delegated
from gateway_infernet.delegated import (
    Delegation,
    Signature,
    Subscription,
)

COORDINATOR = "0x2E983A1Ba5e8b38AAAeC4B440B9dDcFBf72E15d1"
ADDRESS_FIELDS = ["owner", "verifier", "payment_token", "wallet"]

uint32 = st.integers(0, 2**32 - 1)
addresses = st.binary(min_size=20, max_size=20).filter(any).map(lambda raw: "0x" + raw.hex())
container_ids = st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), min_size=1)


@st.composite
def subscriptions(draw: st.DrawFn) -> Subscription:
    period = draw(uint32)
    return Subscription(
        owner=draw(addresses),
        containers=tuple(draw(st.lists(container_ids, min_size=1, max_size=4))),
        active_at=draw(st.integers(0, 2**32 - 3)),
        period=period,
        frequency=draw(st.integers(1, 2**32 - 1)) if period else 1,
        redundancy=draw(st.integers(1, 2**16 - 1)),
        lazy=draw(st.booleans()),
        verifier=draw(addresses),
        payment_amount=draw(st.integers(0, 2**256 - 1)),
        payment_token=draw(addresses),
        wallet=draw(addresses),
    )


keys = st.integers(1, 2**128).map(lambda number: "0x" + number.to_bytes(32, "big").hex())


@given(sub=subscriptions(), nonce=uint32, key=keys, chain_id=st.integers(1, 2**53), coordinator=addresses)
@settings(max_examples=40, deadline=None)
def test_what_is_signed_leads_back_to_its_signer(
    sub: Subscription, nonce: int, key: str, chain_id: int, coordinator: str
) -> None:
    expiry = sub.active_at + 1
    signature = delegated.sign(sub, nonce, expiry, key, chain_id, coordinator)
    signer = Account.from_key(key).address

    assert delegated.recover_signer(sub, signature, chain_id, coordinator) == signer
    assert delegated.recover_signer(sub, signature, chain_id + 1, coordinator) != signer
    assert (
        delegated.recover_signer(replace(sub, lazy=not sub.lazy), signature, chain_id, coordinator) != signer
    )
    delegated.check_locally(sub, signature, now=datetime.fromtimestamp(sub.active_at, UTC))


@given(sub=subscriptions(), nonce=uint32, r=st.integers(1, 2**256 - 1), s=st.integers(1, 2**256 - 1))
@settings(max_examples=50, deadline=None)
def test_a_delegation_survives_json(sub: Subscription, nonce: int, r: int, s: int) -> None:
    delegation = Delegation(
        subscription=sub,
        signature=Signature(nonce=nonce, expiry=sub.active_at + 1, v=27, r=r, s=s),
        chain_id=31337,
        coordinator=COORDINATOR,
        from_block=12,
    )
    data = json.loads(json.dumps(delegation.encode()))

    assert Delegation.parse(data) == delegation
    # r and s are text: a store that keeps numbers as doubles would round them.
    assert all(value < 2**53 for value in data["signature"].values() if isinstance(value, int))


@given(sub=subscriptions(), nonce=uint32)
@settings(max_examples=50, deadline=None)
def test_a_request_says_what_the_subscription_says(sub: Subscription, nonce: int) -> None:
    signature = Signature(nonce=nonce, expiry=sub.active_at + 1, v=28, r=2**255 + 1, s=2**254 + 1)
    body = json.loads(json.dumps(delegated.encode_request(sub, signature, {})))
    said = body["subscription"]

    assert body["signature"] == asdict(signature)
    assert set(said) == set(asdict(sub))
    assert said["containers"] == delegated.encode_container_id(sub.containers)
    for name in set(said) - {"containers", *ADDRESS_FIELDS}:
        assert said[name] == getattr(sub, name)
    for name in ADDRESS_FIELDS:
        assert said[name].lower() == getattr(sub, name)


@given(st.lists(container_ids, min_size=1, max_size=3), st.lists(container_ids, min_size=1, max_size=3))
@settings(deadline=None)
def test_container_ids_are_equal_only_for_equal_containers(one: list[str], other: list[str]) -> None:
    assert (delegated.encode_container_id(one) == delegated.encode_container_id(other)) == (one == other)


@given(st.text())
def test_a_nonce_is_the_attempts_own_and_leaves_room(attempt_id: str) -> None:
    nonce = delegated.make_nonce(attempt_id)

    assert 0 <= nonce < 2**31
    assert nonce == delegated.make_nonce(attempt_id)


def test_nonces_of_many_attempts_differ() -> None:
    assert len({delegated.make_nonce(f"attempt-{number}") for number in range(1000)}) == 1000
