"""What OgpuClient reads beside runs: a source's tasks and providers, agents, and what a response says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from ogpu_place import Place
from ogpu_setup import make_config, start_ogpu

from gateway.devnet.chain.wallet import Wallet
from gateway.devnet.ogpu import ContentFault, Manner
from gateway.errors import InvalidInput
from gateway_ogpu import OgpuClient
from gateway_ogpu.errors import SourceUnknown
from gateway_ogpu.reading import Response

pytestmark = pytest.mark.anyio

NOBODY = "0x" + "ab" * 20


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with start_ogpu() as ogpu:
        for provider in ogpu.providers:
            provider.manner = Manner.IGNORE
        yield Place(ogpu)


@pytest.fixture
async def client(place: Place) -> AsyncIterator[OgpuClient]:
    async with OgpuClient(make_config(place.ogpu)) as client:
        yield client


async def fetch_response(place: Place, client: OgpuClient) -> Response:
    """Have a task answered by the first provider, and return its response."""
    task = await place.publish(place.ogpu.manual)
    address = await place.answer(task)
    [response] = await client.get_task_responses(task)
    assert response.address == address
    return response


async def test_a_sources_tasks_are_listed_oldest_first(place: Place, client: OgpuClient) -> None:
    assert list(await client.get_source_tasks(place.ogpu.manual)) == []
    tasks = [await place.publish(place.ogpu.manual) for _ in range(3)]
    other = await place.publish(place.ogpu.first_response)
    assert list(await client.get_source_tasks(place.ogpu.manual)) == tasks
    assert list(await client.get_source_tasks(place.ogpu.first_response)) == [other]


async def test_a_sources_providers_are_listed_without_those_that_left(
    place: Place, client: OgpuClient
) -> None:
    source, (first, *others) = place.ogpu.manual, place.ogpu.providers
    names = [provider.account.address for provider in (first, *others)]
    assert sorted(await client.get_source_registrants(source)) == sorted(names)
    wallet = Wallet(place.ogpu.chain.web3, first.account)
    await place.tell(wallet, "Nexus", "unregister", source, first.account.address)
    assert sorted(await client.get_source_registrants(source)) == sorted(names[1:])


@pytest.mark.parametrize("name", ["get_source", "get_source_tasks", "get_source_registrants"])
async def test_what_is_no_source_is_said_to_be_none(place: Place, client: OgpuClient, name: str) -> None:
    task = await place.publish(place.ogpu.manual)
    for address in (NOBODY, task, place.ogpu.client.address):
        with pytest.raises(SourceUnknown, match="no source"):
            await getattr(client, name)(address)
    with pytest.raises(InvalidInput):
        await getattr(client, name)("0x12")


async def test_agents_are_known(place: Place, client: OgpuClient) -> None:
    agent = place.ogpu.stranger.address
    assert not await client.is_agent(agent)
    assert (await client.set_agent(agent, True)).succeeded
    assert await client.is_agent(agent)
    assert await client.is_agent(agent, place.ogpu.client.address)
    assert not await client.is_agent(agent, place.ogpu.deployer.address)
    await client.set_agent(agent, False)
    assert not await client.is_agent(agent)
    for wrong in ("me", "0x12"):
        with pytest.raises(InvalidInput):
            await client.is_agent(wrong)


async def test_what_a_response_says_is_read_and_verified(place: Place, client: OgpuClient) -> None:
    response = await fetch_response(place, client)
    content = await client.get_content(response)
    assert (content.output, content.reason, content.code) == ({"by": 0}, None, None)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ContentFault.TAMPER, "ContentTampered"),
        (ContentFault.TRUNCATE, "ContentTruncated"),
        (ContentFault.SWAP, "ContentSwapped"),
        (ContentFault.SERVER_ERROR, "Unavailable"),
    ],
)
async def test_content_that_can_not_be_had_now_may_come(
    place: Place, client: OgpuClient, fault: ContentFault, code: str
) -> None:
    response = await fetch_response(place, client)
    place.ogpu.content.faults.arm(fault, times=None)
    content = await client.get_content(response)
    assert (content.output, content.code, content.may_come) == (None, code, True), content
    place.ogpu.content.faults.clear()
    assert (await client.get_content(response)).output == {"by": 0}
