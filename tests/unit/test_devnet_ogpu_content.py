"""The pin service and gateway of OGPU's stand-in, and the functions of its providers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.content.car import CarReader
from gateway.content.cid import Cid, find_cid, parse_cid
from gateway.content.errors import ContentTampered, ContentTruncated
from gateway.content.unixfs import V0_2015, compute_cid
from gateway.devnet.ogpu.content import READ, ContentFault, ContentHost
from gateway.devnet.ogpu.functions import run_function

pytestmark = pytest.mark.anyio
DATA = b'{"result": 42}'
LARGE = bytes(range(256)) * 4096  # four leaves and a node over them


@pytest.fixture
async def host() -> AsyncIterator[ContentHost]:
    host = ContentHost()
    await host.start()
    yield host
    await host.stop()


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        yield client


async def pin(host: ContentHost, client: httpx2.AsyncClient, data: bytes = DATA) -> httpx2.Response:
    return await client.post(host.pin_url, files={"file": ("taskConfig.json", data, "application/json")})


async def read(host: ContentHost, client: httpx2.AsyncClient, cid: Cid, form: str) -> httpx2.Response:
    return await client.get(f"{host.gateway_url}/ipfs/{cid}", params={"format": form} if form else {})


def read_car(cid: Cid, body: bytes) -> bytes:
    reader = CarReader(cid, max_bytes=2**21)
    reader.feed(body)
    return reader.finish()


async def test_what_is_pinned_has_its_real_name(host: ContentHost, client: httpx2.AsyncClient) -> None:
    answer = await pin(host, client)
    link = answer.json()["link"]

    assert answer.status_code == 201
    assert link == f"{host.gateway_url}/ipfs/{compute_cid(DATA, V0_2015)}"
    assert host.journal == [str(find_cid(link))]
    assert (await client.get(link)).content == DATA
    assert host.counters.calls == {"pin": 1, "read": 1}


async def test_a_name_that_others_measured(host: ContentHost) -> None:
    assert str(host.put(b"hello world\n")) == "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"


async def test_a_post_without_a_file(host: ContentHost, client: httpx2.AsyncClient) -> None:
    answer = await client.post(host.pin_url, data={"other": "x"})
    assert answer.status_code == 400


@pytest.mark.parametrize("data", [DATA, LARGE], ids=["one block", "five blocks"])
async def test_trustless_reads(host: ContentHost, client: httpx2.AsyncClient, data: bytes) -> None:
    cid = host.put(data)
    raw = await read(host, client, cid, "raw")
    car = await read(host, client, cid, "car")

    assert cid.matches(raw.content)
    assert raw.headers["content-type"] == "application/vnd.ipld.raw"
    assert read_car(cid, car.content) == data
    assert (await read(host, client, parse_cid(cid.key), "")).content == data


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ContentFault.TAMPER, ContentTampered),
        (ContentFault.SWAP, ContentTampered),
        (ContentFault.TRUNCATE, ContentTruncated),
    ],
)
async def test_spoiled_reads_are_caught_by_those_who_check(
    host: ContentHost, client: httpx2.AsyncClient, fault: ContentFault, error: type[Exception]
) -> None:
    cid = host.put(LARGE)
    host.faults.arm(fault)
    body = (await read(host, client, cid, "car")).content
    with pytest.raises(error):
        read_car(cid, body)
    assert read_car(cid, (await read(host, client, cid, "car")).content) == LARGE


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (ContentFault.DOWN, 503),
        (ContentFault.SERVER_ERROR, 500),
        (ContentFault.RATE_LIMIT, 429),
        (ContentFault.TOO_LARGE, 413),
    ],
)
async def test_the_pin_service_refuses(
    host: ContentHost, client: httpx2.AsyncClient, fault: ContentFault, status: int
) -> None:
    host.faults.arm(fault, on="pin")
    assert (await pin(host, client)).status_code == status
    assert host.journal == []
    assert (await pin(host, client)).status_code == 201


async def test_a_lost_answer_of_the_pin_service_has_pinned(
    host: ContentHost, client: httpx2.AsyncClient
) -> None:
    host.faults.arm(ContentFault.ANSWER_LOST)
    with pytest.raises(httpx2.TransportError):
        await pin(host, client)
    assert len(host.journal) == 1


async def test_odd_answers_of_the_pin_service(host: ContentHost, client: httpx2.AsyncClient) -> None:
    for fault in (ContentFault.NO_LINK, ContentFault.GARBAGE, ContentFault.WRONG_LINK):
        host.faults.arm(fault, on="pin")
    assert "link" not in (await pin(host, client)).json()
    assert (await pin(host, client)).text.startswith("<!doctype")
    assert find_cid((await pin(host, client)).json()["link"]) != host.put(DATA)

    host.faults.arm(ContentFault.FOREIGN_LINK)
    link = (await pin(host, client)).json()["link"]
    assert not link.startswith(host.gateway_url)
    assert find_cid(link) == host.put(DATA)


async def test_content_that_nobody_has_and_content_without_end(
    host: ContentHost, client: httpx2.AsyncClient
) -> None:
    assert (await read(host, client, compute_cid(b"nobody has this"), "")).status_code == 404
    host.faults.arm(ContentFault.HUGE)
    taken = 0
    async with client.stream("GET", f"{host.gateway_url}/ipfs/{host.put(DATA)}") as answer:
        async for piece in answer.aiter_bytes():
            taken += len(piece)
            if taken > 2**21:
                break
    assert taken > 2**21


async def test_spoiled_for_everybody(host: ContentHost, client: httpx2.AsyncClient) -> None:
    cid = host.put(DATA)
    host.spoil(cid)
    body = (await read(host, client, cid, "car")).content
    with pytest.raises(ContentTampered):
        read_car(cid, body)


async def test_faults_strike_when_they_are_told_to(host: ContentHost, client: httpx2.AsyncClient) -> None:
    cid = host.put(DATA)
    host.faults.arm(ContentFault.MISSING, times=2, skip=1)
    statuses = [(await read(host, client, cid, "")).status_code for _ in range(4)]
    assert statuses == [200, 404, 404, 200]

    host.faults.arm(ContentFault.DOWN, times=None)
    assert host.faults.describe() == [{"fault": "down", "on": [], "times": None, "skip": 0}]
    host.faults.clear()
    assert host.faults.take(READ, tuple(ContentFault)) is None


async def test_it_comes_back_on_the_same_port(host: ContentHost, client: httpx2.AsyncClient) -> None:
    cid, url = host.put(DATA), host.gateway_url
    await host.stop()
    with pytest.raises(httpx2.ConnectError):
        await read(host, client, cid, "")
    await host.start()
    assert host.gateway_url == url
    assert (await read(host, client, cid, "")).content == DATA


@pytest.mark.parametrize("name", ["predict", "sentiment"])
async def test_the_demo_model(name: str) -> None:
    text = "VADER is smart, handsome, and funny."
    output = await run_function({"function_name": name, "data": {"text": text}})
    assert output == {"label": "positive", "neg": 0.0, "neu": 0.254, "pos": 0.746, "compound": 0.8316}


@pytest.mark.parametrize(
    ("config", "output"),
    [
        ({"function_name": "echo", "data": {"a": 1}}, {"a": 1}),
        ({"function_name": "upper", "data": {"text": "loud"}}, {"output": "LOUD"}),
        ({"function_name": "slow", "data": {"seconds": 0}}, {"seconds": 0, "slept": 0.0}),
        ({"function_name": "fail", "data": {"error": "x"}}, None),
        ({"function_name": "nothing of ours", "data": {}}, None),
        ({"function_name": "echo", "data": {}}, None),
        ({"function_name": "predict", "data": {"words": 1}}, None),
        ({"function_name": "echo"}, None),
        ({}, None),
    ],
)
async def test_functions(config: dict[str, Any], output: Any) -> None:
    assert await run_function(config) == output
