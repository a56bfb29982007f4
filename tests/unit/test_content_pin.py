from __future__ import annotations

import json
import random
from datetime import timedelta
from email.parser import BytesParser

import pytest
from aiohttp import web
from content_server import CAR, Answerer, say, serve

from gateway.content import Cid, Gateways, PinService, Stored
from gateway.content.car import build_car
from gateway.content.errors import ContentSwapped, ContentTooLarge, ContentUnverified
from gateway.content.unixfs import PROFILES, V0_2015, Profile, compute_cid
from gateway.errors import BackendError, NotSupported, Rejected, Throttled, Unavailable

pytestmark = pytest.mark.anyio

DATA = random.Random(9).randbytes(600_000)
UNKNOWN = Profile("nobody's", 100_000, 3, raw_leaves=True, version=1)


def link_to(cid: Cid, status: int = 201) -> Answerer:
    body = json.dumps({"link": f"https://gateway.example/ipfs/{cid}"}).encode()
    return say(body, "application/json", status)


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("profile", PROFILES)
async def test_the_links_cid_is_proven(profile: Profile, status: int) -> None:
    cid = compute_cid(DATA, profile)
    async with serve(link_to(cid, status)) as asked:
        pin = PinService(f"{asked.url}/file/create")
        stored = await pin.put(DATA, filename='we"ird\r\nX: y.json', content_type="application/json")
        await pin.aclose()
    assert stored == Stored(cid, len(DATA), f"https://gateway.example/ipfs/{cid}", profile.name)
    assert asked.requests == ["POST /file/create"]
    head = f"Content-Type: {asked.headers[0]['content-type']}\r\n\r\n".encode()
    form = BytesParser().parsebytes(head + asked.bodies[0])
    parts = form.get_payload()
    assert isinstance(parts, list)
    (part,) = parts
    assert isinstance(part, type(form))
    assert part.get_payload(decode=True) == DATA
    assert part.get_content_type() == "application/json"
    assert part.get_param("name", header="content-disposition") == "file"
    assert part.get_param("filename", header="content-disposition") == "we%22ird%0D%0AX: y.json"


async def put(answer: Answerer, data: bytes = DATA) -> Stored:
    async with serve(answer) as asked:
        pin = PinService(asked.url)
        try:
            return await pin.put(data)
        finally:
            await pin.aclose()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (say(b'{"link": 7}', "application/json"), Rejected),
        (say(b'{"url": "x"}', "application/json"), Rejected),
        (say(b'["link"]', "application/json"), Rejected),
        (say(b"<html>ok</html>", "text/html"), Rejected),
        (say(b'{"link": "https://gateway.example/file/7"}', "application/json"), Rejected),
        (say(b'{"link": "https://gateway.example/ipns/x"}', "application/json"), Rejected),
        (say(b"x" * 100_000, "application/json"), ContentTooLarge),
        (say(b"", status=413), ContentTooLarge),
        (say(b"", status=403), Rejected),
        (say(b"", status=307, headers={"location": "/elsewhere"}), Rejected),
        (say(b"", status=500), Unavailable),
        (say(b"", status=503), Unavailable),
        (link_to(compute_cid(b"other")), ContentSwapped),
    ],
)
async def test_every_bad_answer_is_an_error_and_nothing_landed(
    answer: Answerer, kind: type[BackendError]
) -> None:
    with pytest.raises(kind) as caught:
        await put(answer)
    assert type(caught.value) is kind
    assert caught.value.landed is False
    assert str(caught.value).startswith("pin service: ")


async def test_the_time_to_wait_is_told() -> None:
    with pytest.raises(Throttled) as caught:
        await put(say(b"", status=429, headers={"retry-after": "3"}))
    assert caught.value.retry_after == timedelta(seconds=3)


async def test_a_service_with_settings_of_its_own_is_read_back() -> None:
    cid, car = build_car(DATA, UNKNOWN)
    other_cid, other_car = build_car(DATA[:-1] + b"!", UNKNOWN)
    long_cid, long_car = build_car(DATA + b"!", UNKNOWN)
    cars = {str(cid): car, str(other_cid): other_car, str(long_cid): long_car}

    async def read(request: web.Request) -> web.StreamResponse:
        return web.Response(body=cars[request.path.rpartition("/")[2]], content_type=CAR)

    async def put_and_read(answer: Answerer, reading: Answerer) -> Stored:
        async with serve(answer) as service, serve(reading) as gateway:
            pin = PinService(service.url, reader=Gateways([gateway.url]))
            try:
                return await pin.put(DATA)
            finally:
                await pin.aclose()

    assert (await put_and_read(link_to(cid), read)).proof == "read back"
    for wrong in (other_cid, long_cid):
        with pytest.raises(ContentSwapped):
            await put_and_read(link_to(wrong), read)
    with pytest.raises(ContentUnverified):
        await put_and_read(link_to(cid), say(DATA, "application/octet-stream"))
    with pytest.raises(NotSupported):
        await put(link_to(cid))


async def test_reading_is_the_readers() -> None:
    cid, car = build_car(DATA, V0_2015)
    async with serve(say(b"")) as service, serve(say(car)) as gateway:
        pin = PinService(service.url, reader=Gateways([gateway.url]))
        assert await pin.fetch(cid) == DATA
        await pin.aclose()
        assert service.requests == []


async def test_the_host_in_the_link_is_never_contacted() -> None:
    async with serve(say(DATA)) as trap:
        cid = compute_cid(DATA, V0_2015)
        body = json.dumps({"link": f"{trap.url}/ipfs/{cid}"}).encode()
        stored = await put(say(body, "application/json"))
        assert stored.uri.startswith(trap.url)
        swapped = json.dumps({"link": f"{trap.url}/ipfs/{compute_cid(b'other')}"}).encode()
        with pytest.raises(ContentSwapped):
            await put(say(swapped, "application/json"))
    assert trap.requests == []
