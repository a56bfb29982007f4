"""OGPU's contracts do what was measured and documented of theirs, on both EVMs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from eth_abi.abi import decode
from eth_utils.crypto import keccak
from ogpu_place import EVMS, PRICE, Place, open_place

from gateway.chain.rpc import Reverted, fetch_head
from gateway.devnet.chain import compile_contracts, node_tools
from gateway.devnet.chain.compile_contracts import OGPU_CONTRACTS
from gateway.devnet.chain.wallet import Wallet
from gateway.devnet.ogpu.setup import FIRST_RESPONSE, LOCKUP_WEI, publish_source

pytestmark = pytest.mark.anyio
NOBODY = "0x" + "12" * 20
PANIC_INDEX = bytes.fromhex("4e487b71") + (0x32).to_bytes(32, "big")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=EVMS)
async def place(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Place]:
    async with open_place(request.param) as place:
        yield place


def make_error(text: str) -> bytes:
    """Encode what `require(..., text)` reverts with."""
    return keccak(text="Error(string)")[:4] + (32).to_bytes(32, "big") + _encode_text(text)


def _encode_text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(32, "big") + raw + bytes(-len(raw) % 32)


async def refusal(act: Any) -> str:
    """Run what must be refused with a string; return that."""
    with pytest.raises(Reverted) as caught:
        await act
    assert caught.value.data[:4] == keccak(text="Error(string)")[:4], caught.value.data
    [text] = decode(["string"], caught.value.data[4:])
    assert caught.value.data == make_error(text)
    return str(text)


def test_compiling_again_gives_the_same() -> None:
    again = compile_contracts.compile_contracts(node_tools.find_solc(), OGPU_CONTRACTS)
    assert again == compile_contracts.load_compiled(OGPU_CONTRACTS)


async def test_publishing_freezes_the_price_and_the_nexus_says_so(place: Place) -> None:
    before, head = await place.balance(), await fetch_head(place.ogpu.chain.web3)
    task = await place.publish()

    assert await place.events(head.number) == ["TaskPublished"]
    assert await place.balance() == before - PRICE
    assert await place.ask("Vault", "frozenPayment", task) == PRICE
    assert await place.status(task) == "NEW"
    assert await place.ask("Task", "owner", at=task) == place.ogpu.contracts.nexus


async def test_the_first_response_is_taken_and_paid_in_full(place: Place) -> None:
    provider = place.ogpu.providers[1].account.address
    earned = await place.ask("Vault", "totalEarningsOf", provider)
    task = await place.publish()
    head = await fetch_head(place.ogpu.chain.web3)
    response = await place.answer(task, 1, payment=PRICE // 2)

    assert await place.events(head.number) == [
        "Attempted",
        "TaskStatusChanged",
        "ResponseSubmitted",
        "TaskStatusChanged",
        "ResponseStatusChanged",
        "TaskStatusChanged",
    ]
    assert await place.status(task) == "FINALIZED"
    assert await place.ask("Response", "confirmedFinal", at=response) is True
    assert await place.ask("Vault", "totalEarningsOf", provider) == earned + PRICE
    assert await place.ask("Vault", "frozenPayment", task) == 0
    assert await place.ask("Task", "winningProvider", at=task) == provider
    refused = await refusal(place.ogpu.bots.attempt(place.ogpu.providers[0], task))
    assert refused == "AlreadyFinalized"


async def test_the_client_may_have_to_confirm_the_first_response(place: Place) -> None:
    await place.tell(place.owner, "Nexus", "setClientConfirms", True)
    try:
        task = await place.publish()
        response = await place.answer(task)
        assert await place.status(task) == "RESPONDED"
        assert await place.ask("Response", "confirmedFinal", at=response) is False
        await place.tell(place.client, "Controller", "confirmResponse", response)
        assert await place.status(task) == "FINALIZED"
        again = await refusal(place.tell(place.client, "Controller", "confirmResponse", response))
        assert again == "AlreadyConfirmed"
    finally:
        await place.tell(place.owner, "Nexus", "setClientConfirms", False)


async def test_a_chosen_answer_is_paid_what_it_asks_for(place: Place) -> None:
    before = await place.balance()
    task = await place.publish(place.ogpu.manual)
    dear = await place.answer(task, 0, payment=PRICE)
    cheap = await place.answer(task, 2, payment=PRICE // 4)

    assert await place.status(task) == "RESPONDED"
    wrong = await refusal(place.tell(place.stranger, "Controller", "confirmResponse", cheap))
    assert wrong == "NotOwner"
    await place.tell(place.client, "Controller", "confirmResponse", cheap)
    assert await place.status(task) == "FINALIZED"
    assert await place.balance() == before - PRICE // 4
    late = await refusal(place.tell(place.client, "Controller", "confirmResponse", dear))
    assert late == "AlreadyFinalized"


async def test_an_answer_cannot_ask_for_more_than_the_price(place: Place) -> None:
    task = await place.publish(place.ogpu.manual)
    assert await refusal(place.answer(task, payment=PRICE + 1)) == "InsufficientPayment"


async def test_cancelling_is_possible_while_nobody_has_attempted(place: Place) -> None:
    before = await place.balance()
    task = await place.publish()
    assert await refusal(place.tell(place.stranger, "Controller", "cancelTask", task)) == "NotOwner"
    await place.tell(place.agent, "Controller", "cancelTask", task)
    assert (await place.status(task), await place.balance()) == ("CANCELED", before)
    assert await refusal(place.tell(place.client, "Controller", "cancelTask", task)) == "AlreadyFinalized"

    attempted = await place.publish(place.ogpu.manual)
    await place.ogpu.bots.attempt(place.ogpu.providers[0], attempted)
    late = await refusal(place.tell(place.client, "Controller", "cancelTask", attempted))
    assert (late, await place.status(attempted)) == ("AlreadyFinalized", "ATTEMPTED")


async def test_expiry_is_lazy(place: Place) -> None:
    before = await place.balance()
    task = await place.publish(expires_in=100)
    await place.ogpu.chain.advance(101)
    assert await place.status(task) == "NEW"

    head = await fetch_head(place.ogpu.chain.web3)
    await place.ogpu.bots.attempt(place.ogpu.providers[0], task)
    assert await place.events(head.number) == ["TaskStatusChanged"]
    assert (await place.status(task), await place.balance()) == ("EXPIRED", before)


async def test_an_answer_that_is_too_late(place: Place) -> None:
    task = await place.publish(expires_in=100)
    await place.ogpu.bots.attempt(place.ogpu.providers[0], task)
    await place.ogpu.chain.advance(101)
    late = await refusal(place.ogpu.bots.submit(place.ogpu.providers[0], task, "x", PRICE))
    assert (late, await place.status(task)) == ("Expired", "ATTEMPTED")


async def test_tasks_that_are_refused(place: Place) -> None:
    count = len(await place.ogpu.tasks_on_chain())
    assert await refusal(place.publish(payment=1)) == "InsufficientPayment"
    assert await refusal(place.publish(payment=10**24)) == "InsufficientBalance"
    assert await refusal(place.publish(expires_in=-1)) == "Expired"
    assert await refusal(place.publish(expires_in=90_000)) == "ExpiryTooLong"
    assert await refusal(place.publish(wallet=place.stranger)) == "NotOwner"
    assert len(await place.ogpu.tasks_on_chain()) == count


async def test_what_is_no_source_refuses_without_a_word(place: Place) -> None:
    with pytest.raises(Reverted) as caught:
        await place.publish(NOBODY)
    assert caught.value.data == b""


async def test_agents_sign_and_the_client_pays(place: Place) -> None:
    before = await place.balance()
    await place.publish(wallet=place.agent)
    assert await place.balance() == before - PRICE
    await place.tell(place.client, "Terminal", "setAgent", place.agent.address, False)
    assert await refusal(place.publish(wallet=place.agent)) == "NotOwner"
    await place.tell(place.client, "Terminal", "setAgent", place.agent.address, True)
    provider = Wallet(place.ogpu.chain.web3, place.ogpu.providers[0].account)
    no = await refusal(place.tell(provider, "Terminal", "setAgent", place.agent.address, True))
    assert no == "NotMaster"


async def test_a_source_is_closed_once(place: Place) -> None:
    ogpu = place.ogpu
    source = await publish_source(
        ogpu.abi, ogpu.contracts, ogpu.client, ogpu.content, delivery=FIRST_RESPONSE
    )
    assert await refusal(place.tell(place.stranger, "Nexus", "inactivateSource", source)) == "NotOwner"
    running = await place.publish(source)
    await place.tell(place.client, "Nexus", "inactivateSource", source)
    assert await refusal(place.publish(source)) == "SourceInactive"
    assert await refusal(place.tell(place.client, "Nexus", "inactivateSource", source)) == "SourceInactive"
    assert await place.status(running) == "NEW"


async def test_who_may_not_answer(place: Place) -> None:
    task = await place.publish(place.ogpu.manual)
    first, second = place.ogpu.providers[:2]
    no = await refusal(place.tell(place.stranger, "Nexus", "attempt", task, first.account.address, 0))
    assert no == "NotProvider"
    assert await refusal(place.ogpu.bots.submit(first, task, "x", 1)) == "NotAttempted"
    await place.ogpu.bots.attempt(first, task)
    assert await refusal(place.ogpu.bots.attempt(first, task)) == "AlreadyAttempted"
    answer = (task, first.account.address, "x", 1)
    other = Wallet(place.ogpu.chain.web3, second.account)
    assert await refusal(place.tell(other, "Nexus", "submitResponse", answer)) == "NotProvider"
    await place.ogpu.bots.submit(first, task, "x", 1)
    assert await refusal(place.ogpu.bots.submit(first, task, "y", 1)) == "AlreadySubmitted"


async def test_pages_include_both_ends_and_panic_beyond(place: Place) -> None:
    task = await place.publish(place.ogpu.manual)
    for provider in place.ogpu.providers:
        await place.ogpu.bots.attempt(provider, task)
    attempters = [provider.account.address for provider in place.ogpu.providers]

    assert await place.ask("Task", "getAttempters", 0, 2, at=task) == attempters
    assert await place.ask("Task", "getAttempters", 1, 2, at=task) == attempters[1:]
    assert len(await place.ask("Task", "getAttemptTimestamps", 1, 1, at=task)) == 1
    assert await panics(place, "Task", task, "getAttempters", 0, 3)

    await place.ogpu.bots.submit(place.ogpu.providers[1], task, "x", 1)
    slots = await place.ask("Task", "getResponsesOf", 0, 2, at=task)
    assert [int(slot, 16) != 0 for slot in slots] == [False, True, False]


async def test_lists_of_a_source_are_read_from_their_beginning_only(place: Place) -> None:
    source = place.ogpu.manual
    await place.publish(source)
    await place.publish(source)
    count = await place.ask("Source", "getTaskCount", at=source)
    tasks = await place.ask("Source", "getTasks", 0, count - 1, at=source)
    assert len(set(tasks)) == count
    assert await panics(place, "Source", source, "getTasks", 1, count - 1)
    assert await panics(place, "Source", source, "getTasks", 0, count)


async def test_who_leaves_leaves_a_hole(place: Place) -> None:
    source, provider = place.ogpu.manual, place.ogpu.providers[0]
    wallet = Wallet(place.ogpu.chain.web3, provider.account)
    number = await place.ask("Source", "getRegistrantId", provider.account.address, at=source)
    await place.tell(wallet, "Nexus", "unregister", source, provider.account.address)
    registrants = await place.ask("Source", "getRegistrants", 0, 2, at=source)
    assert [at for at, each in enumerate(registrants, 1) if not int(each, 16)] == [number]
    assert await place.ask("Source", "getRegistrantId", provider.account.address, at=source) == 0
    task = await place.publish(source)
    assert await refusal(place.ogpu.bots.attempt(provider, task)) == "NotRegistered"
    await place.tell(wallet, "Nexus", "register", source, provider.account.address, 1)
    assert await place.ask("Source", "getRegistrantId", provider.account.address, at=source) == 4


async def test_custom_errors(place: Place) -> None:
    with pytest.raises(Reverted) as caught:
        await place.ogpu.say(place.client, "Source", place.ogpu.manual, "setStatus", 1)
    unauthorized = keccak(text="OwnableUnauthorizedAccount(address)")[:4]
    assert caught.value.data == unauthorized + bytes(12) + bytes.fromhex(place.client.address[2:])
    with pytest.raises(Reverted) as caught:
        await place.tell(place.client, "Manager", "grantRole", bytes(32), place.client.address)
    assert caught.value.data[:4].hex() == "e2517d3f"


async def test_the_vault_keeps_its_books(place: Place) -> None:
    me = place.stranger.address
    before = await place.balance(me)
    assert await refusal(place.tell(place.stranger, "Vault", "withdraw", before + 1)) == "InsufficientBalance"
    await place.tell(place.stranger, "Vault", "lock", 100)
    assert await refusal(place.tell(place.stranger, "Vault", "unbond", 101)) == "InsufficientLockup"
    await place.tell(place.stranger, "Vault", "unbond", 60)
    assert await refusal(place.tell(place.stranger, "Vault", "claim")) == "UnbondingNotElapsed"
    await place.ogpu.chain.advance(await place.ask("Vault", "UNBONDING_PERIOD"))
    await place.tell(place.stranger, "Vault", "claim")
    assert await place.balance(me) == before - 40
    assert await place.ask("Vault", "lockupOf", me) == 40
    no = await refusal(place.tell(place.stranger, "Vault", "releasePayment", me, NOBODY))
    assert no == "NotOwner"


async def test_a_lockup_may_be_wanted(place: Place) -> None:
    assert await place.ask("Vault", "isEligible", place.client.address) is True
    await place.tell(place.owner, "Vault", "setMinLockupPerSource", LOCKUP_WEI)
    try:
        ogpu = place.ogpu
        publishing = publish_source(
            ogpu.abi, ogpu.contracts, ogpu.client, ogpu.content, delivery=FIRST_RESPONSE
        )
        assert await refusal(publishing) == "NotEligible"
    finally:
        await place.tell(place.owner, "Vault", "setMinLockupPerSource", 0)


async def panics(place: Place, kind: str, at: str, function: str, *arguments: int) -> bool:
    """Say whether a view panics as an array does that is read beyond its end."""
    from gateway.chain.rpc import fetch_calls

    data = place.ogpu.abi.encode(kind, function, *arguments)
    with pytest.raises(Reverted) as caught:
        await fetch_calls(place.ogpu.chain.web3, [(at, data)])
    return caught.value.data == PANIC_INDEX
