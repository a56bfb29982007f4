"""Delegated subscriptions that can't work, on a real EVM: before they are sent, and after.

Needs `npm install --prefix .ci/node @foundry-rs/anvil solc@0.8.28`; without it, it fails and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from local_chain import Chain, echo, start_chain

from gateway.devnet.chain.anvil import DEPLOYER, NODE, SIGNER
from gateway.devnet.chain.delegate import Dropped
from gateway.devnet.infernet.containers import ContainerError
from gateway.types import JSON
from gateway_infernet import delegated
from gateway_infernet.delegated import (
    BadSignature,
    NonceUsed,
    OwnerNotDelegator,
    SignatureExpired,
    SignerMismatch,
)
from gateway_infernet.progress import BEHIND_SECONDS, Stage

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def chain() -> AsyncIterator[Chain]:
    async with start_chain() as chain:
        yield chain


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
    await chain.anvil.advance(BEHIND_SECONDS)
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
