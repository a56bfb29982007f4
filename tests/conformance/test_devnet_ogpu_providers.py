"""OGPU's devnet as a whole: providers that answer, and those that don't, on both EVMs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ogpu_place import EVMS, PRICE, Place, make_test_chain

from gateway.content.cid import find_cid, parse_cid
from gateway.content.errors import BadCid
from gateway.content.unixfs import V0_2015, compute_cid
from gateway.devnet.ogpu import ChainFault, Manner, OgpuDevnet
from gateway.devnet.ogpu.setup import FIRST_RESPONSE, publish_source

pytestmark = pytest.mark.anyio
TEXT = "VADER is smart, handsome, and funny."
PREDICT = {"function_name": "predict", "data": {"text": TEXT}}
SCORES = {"label": "positive", "neg": 0.0, "neu": 0.254, "pos": 0.746, "compound": 0.8316}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=EVMS)
async def shared(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Place]:
    async with OgpuDevnet(make_test_chain(request.param)) as ogpu:
        yield Place(ogpu)


@pytest.fixture
def place(shared: Place) -> Place:
    for provider in shared.ogpu.providers:
        provider.manner = Manner.HONEST
        provider.resume()
    return shared


async def responses(place: Place, task: str) -> list[Any]:
    """Return the parameters of a task's responses: (task, provider, data, payment)."""
    count = await place.ask("Task", "getAttemptCount", at=task)
    slots = await place.ask("Task", "getResponsesOf", 0, count - 1, at=task) if count else []
    return [await place.ask("Response", "getResponseParams", at=slot) for slot in slots if int(slot, 16)]


async def wait_for(look: Any, expected: Any) -> None:
    for _ in range(3000):
        if (got := await look()) == expected:
            return
        await asyncio.sleep(0.02)
    assert got == expected


async def test_the_first_of_them_answers_with_the_demo_model(place: Place) -> None:
    task = await place.publish(config=PREDICT)
    await wait_for(lambda: place.status(task), "FINALIZED")
    [(_, provider, link, _)] = await responses(place, task)

    assert json.loads(place.ogpu.content.get(find_cid(link))) == SCORES
    [on_chain] = [each for each in await place.ogpu.tasks_on_chain() if each.address == task]
    assert (on_chain.winner, on_chain.payment) == (provider, PRICE)


async def test_all_of_them_bid_what_they_want(place: Place) -> None:
    task = await place.publish(place.ogpu.manual, config=PREDICT)

    async def count() -> int:
        return len(await responses(place, task))

    await wait_for(count, 3)
    bids = {provider: payment for _, provider, _, payment in await responses(place, task)}
    assert bids == {
        provider.account.address: PRICE * share // 100
        for provider, share in zip(place.ogpu.providers, (100, 80, 60), strict=True)
    }


async def test_sources_of_others_are_served_too(place: Place) -> None:
    ogpu = place.ogpu
    source = await publish_source(
        ogpu.abi, ogpu.contracts, ogpu.stranger, ogpu.content, delivery=FIRST_RESPONSE
    )
    task = await place.publish(source, wallet=place.stranger)
    await wait_for(lambda: place.status(task), "FINALIZED")


@pytest.mark.parametrize("name", ["fail", "no such function"])
async def test_a_function_that_fails_says_nothing(place: Place, name: str) -> None:
    task = await place.publish(config={"function_name": name, "data": {"error": "on purpose"}})

    async def attempts() -> int:
        return int(await place.ask("Task", "getAttemptCount", at=task))

    await wait_for(attempts, 3)
    sound = await place.publish(config=PREDICT)
    await wait_for(lambda: place.status(sound), "FINALIZED")
    assert (await place.status(task), await responses(place, task)) == ("ATTEMPTED", [])


async def test_providers_that_pause_and_that_ignore(place: Place) -> None:
    first, *others = place.ogpu.providers
    for other in others:
        other.manner = Manner.IGNORE
    first.pause()
    task = await place.publish(config=PREDICT)
    await asyncio.sleep(0.3)  # three looks of theirs at the chain
    assert await place.status(task) == "NEW"
    first.resume()
    await wait_for(lambda: place.status(task), "FINALIZED")
    await wait_for(lambda: answer(task in first.answered), expected=True)  # its receipt comes a little later
    assert all(task not in other.attempted for other in others)


@pytest.mark.parametrize(
    "manner", [Manner.GARBAGE, Manner.WRONG_CID, Manner.MISSING, Manner.FOREIGN_URL, Manner.UNPINNED_HOST]
)
async def test_answers_that_are_wrong(place: Place, manner: Manner) -> None:
    first, *others = place.ogpu.providers
    first.manner = manner
    for other in others:
        other.manner = Manner.IGNORE
    config = {"function_name": "echo", "data": {"manner": manner.value}}
    task = await place.publish(place.ogpu.manual, config=config)
    await wait_for(lambda: place.status(task), "RESPONDED")
    [(_, _, link, _)] = await responses(place, task)
    output = json.dumps(config["data"]).encode()

    if manner is Manner.FOREIGN_URL:
        with pytest.raises(BadCid):
            find_cid(link)
    elif manner is Manner.MISSING:
        with pytest.raises(KeyError):
            place.ogpu.content.get(find_cid(link))
    elif manner is Manner.GARBAGE:
        assert b"html" in place.ogpu.content.get(find_cid(link))
    else:
        assert find_cid(link) == compute_cid(output, V0_2015)
        assert (place.ogpu.content.get(find_cid(link)) == output) is (manner is Manner.UNPINNED_HOST)
        assert link.startswith(place.ogpu.gateway_url) is (manner is Manner.WRONG_CID)


async def test_providers_that_all_pause_leave_the_chain_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    async def look() -> None:
        looks.append(len(looks))

    for provider in place.ogpu.providers:
        provider.pause()
    await asyncio.sleep(0.3)  # a look that had begun is over
    monkeypatch.setattr(place.ogpu.bots, "_look", look)
    await asyncio.sleep(0.3)
    assert looks == []
    place.ogpu.providers[0].resume()
    await wait_for(lambda: answer(bool(looks)), expected=True)


async def answer(value: object) -> object:
    return value


async def test_the_providers_ask_around_all_faults(place: Place) -> None:
    place.ogpu.faults.arm(ChainFault.SERVER_ERROR, times=None)
    place.ogpu.counters.reset()
    try:
        task = await place.publish(config=PREDICT)
        await wait_for(lambda: place.status(task), "FINALIZED")
    finally:
        place.ogpu.faults.clear()
    assert place.ogpu.counters.http_requests == 0


async def test_the_sources_say_what_they_are(place: Place) -> None:
    for source, delivery in ((place.ogpu.first_response, 1), (place.ogpu.manual, 0)):
        params = await place.ask("Source", "getSourceParams", at=source)
        metadata = json.loads(place.ogpu.content.get(find_cid(params[1])))
        assert (params[0], params[8]) == (place.client.address, delivery)
        assert set(metadata) == {"cpu", "nvidia", "amd", "name", "description", "logoUrl"}
        assert parse_cid(metadata["cpu"].rsplit("/", 1)[1])


async def test_it_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with OgpuDevnet(make_test_chain("anvil"), providers=1, client_confirms=True) as ogpu:
        place = Place(ogpu)
        task = await place.publish(config=PREDICT)
        await wait_for(lambda: place.status(task), "RESPONDED")
        assert len(ogpu.providers) == 1
    assert asyncio.all_tasks() == before
