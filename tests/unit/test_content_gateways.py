from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import pytest
from aiohttp import web
from content_server import CAR, RAW, Answerer, Asked, cut, endless, say, serve

from gateway.content import Gateways, find_cid
from gateway.content.car import build_car, encode_car
from gateway.content.cid import IDENTITY, Cid, make_cid
from gateway.content.cid import RAW as RAW_CODEC
from gateway.content.errors import (
    ContentNotFound,
    ContentSwapped,
    ContentTampered,
    ContentTooLarge,
    ContentTruncated,
    ContentUnreadable,
    ContentUnverified,
)
from gateway.content.unixfs import V0_2015, V1_KUBO, Profile, compute_cid
from gateway.errors import BackendError, ConfigError, NotSupported, Rejected, Throttled, Unavailable
from gateway.testing.clock import FakeClock

pytestmark = pytest.mark.anyio

DATA = random.Random(3).randbytes(700_000)
CID, CAR_BYTES = build_car(DATA, V0_2015)
RAW_DATA = b'{"result": 42}'
RAW_CID = compute_cid(RAW_DATA)
UNKNOWN = Profile("nobody's", 100_000, 3, raw_leaves=True, version=1)
HTML = b"<html>Too many requests</html>"
PATIENT = 3600.0  # hedging is not what these tests are about


@asynccontextmanager
async def gateways(
    *answers: Answerer, hedge_after_seconds: float = PATIENT, clock: FakeClock | None = None
) -> AsyncIterator[tuple[Gateways, list[Asked]]]:
    async with AsyncExitStack() as stack:
        asked = [await stack.enter_async_context(serve(answer)) for answer in answers]
        reader = Gateways([a.url for a in asked], hedge_after_seconds=hedge_after_seconds, clock=clock)
        stack.push_async_callback(reader.aclose)
        yield reader, asked


async def test_blocks_are_asked_for_and_proven() -> None:
    async with gateways(say(CAR_BYTES)) as (reader, asked):
        assert await reader.fetch(CID) == DATA
    assert asked[0].requests == [f"GET /ipfs/{CID}?format=car&dag-scope=entity"]
    assert asked[0].headers[0]["accept"].startswith("application/vnd.ipld.car; version=1")
    assert asked[0].headers[0]["accept-encoding"] == "identity"


async def test_a_raw_block_is_asked_for_as_it_is() -> None:
    async with gateways(say(RAW_DATA, RAW)) as (reader, asked):
        assert await reader.fetch(RAW_CID) == RAW_DATA
    assert asked[0].requests == [f"GET /ipfs/{RAW_CID}?format=raw"]
    assert asked[0].headers[0]["accept"] == RAW


@pytest.mark.parametrize("profile", [V0_2015, V1_KUBO])
async def test_a_gateway_that_knows_no_blocks_is_proven_by_recomputing(profile: Profile) -> None:
    async with gateways(say(DATA, "application/octet-stream")) as (reader, _):
        assert await reader.fetch(compute_cid(DATA, profile)) == DATA


async def test_other_forms_are_tried_where_one_is_not_known() -> None:
    async def car_only(request: web.Request) -> web.StreamResponse:
        car = request.query.get("format") == "car"
        body = encode_car(RAW_CID, [(RAW_CID, RAW_DATA)])
        return web.Response(body=body, content_type=CAR) if car else web.Response(status=406)

    async def plain_only(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400) if request.query else web.Response(body=DATA)

    async with gateways(car_only) as (reader, asked):
        assert await reader.fetch(RAW_CID) == RAW_DATA
        assert len(asked[0].requests) == 2
    async with gateways(plain_only) as (reader, asked):
        assert await reader.fetch(CID) == DATA
        assert asked[0].requests[-1] == f"GET /ipfs/{CID}"
    async with gateways(say(b"", status=406)) as (reader, asked):
        with pytest.raises(Rejected, match="no form"):
            await reader.fetch(CID)


async def test_content_of_unknown_settings_needs_blocks() -> None:
    cid, car = build_car(DATA, UNKNOWN)
    async with gateways(say(car)) as (reader, _):
        assert await reader.fetch(cid) == DATA
    async with gateways(say(DATA, "application/json")) as (reader, _):
        with pytest.raises(ContentUnverified):
            await reader.fetch(cid)


OTHER_CID, OTHER_CAR = build_car(b"other" * 200_000, V0_2015)
LYING = encode_car(CID, [(CID, b"not the block")])
BAD: list[tuple[str, Answerer, type[BackendError]]] = [
    ("tampered block", say(CAR_BYTES[:-1] + bytes([CAR_BYTES[-1] ^ 1])), ContentTampered),
    ("tampered root", say(LYING), ContentTampered),
    ("swapped", say(OTHER_CAR), ContentSwapped),
    ("cut under 200", say(CAR_BYTES[:300_000]), ContentTruncated),
    ("cut between blocks", say(CAR_BYTES[: CAR_BYTES.index(b"\x12\x20", 300) - 3]), ContentTruncated),
    ("header only", say(encode_car(CID, [])), ContentNotFound),
    ("reset", cut(CAR_BYTES[:300_000]), ContentTruncated),
    ("no car", say(HTML), ContentTruncated),
    ("a web page", say(HTML, "text/html"), ContentUnverified),
    ("another file", say(b"other" * 99, "application/json"), ContentUnverified),
    ("compressed", say(b"", headers={"content-encoding": "x-own"}), ContentUnreadable),
    ("endless car", endless(chunk=OTHER_CAR), ContentUnreadable),
    ("endless file", endless("text/plain"), ContentTooLarge),
    ("not found", say(b"", status=404), ContentNotFound),
    ("gone", say(b"", status=410), ContentNotFound),
    ("too large", say(b"", status=413), ContentTooLarge),
    ("redirect", say(b"", status=302, headers={"location": "/ipfs/other"}), Rejected),
    ("down", say(b"", status=503), Unavailable),
    ("slow upstream", say(b"", status=504), Unavailable),
    ("throttled", say(b"", status=429, headers={"retry-after": "7"}), Throttled),
    ("forbidden", say(b"", status=403), Rejected),
]


@pytest.mark.parametrize(("answer", "kind"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
async def test_each_fault_is_an_error_of_its_own_kind_and_a_good_gateway_helps(
    answer: Answerer, kind: type[BackendError]
) -> None:
    async with gateways(answer) as (reader, asked):
        with pytest.raises(kind) as caught:
            await reader.fetch(CID, max_bytes=2_000_000)
        assert type(caught.value) is kind
        assert caught.value.backend == asked[0].url
        assert caught.value.landed is False
        assert len(caught.value.detail) == 1  # type: ignore[arg-type]
    async with gateways(answer, say(CAR_BYTES)) as (reader, _):
        assert await reader.fetch(CID, max_bytes=2_000_000) == DATA


async def test_a_tampered_raw_block_is_its_own_error() -> None:
    for kind in (RAW, "application/json"):
        async with gateways(say(b'{"result": 43}', kind)) as (reader, _):
            with pytest.raises(ContentTampered):
                await reader.fetch(RAW_CID)


async def test_more_than_the_limit_is_refused_before_it_is_read() -> None:
    async with gateways(say(RAW_DATA, RAW)) as (reader, _):
        with pytest.raises(ContentTooLarge):
            await reader.fetch(RAW_CID, max_bytes=len(RAW_DATA) - 1)
    async with gateways(say(CAR_BYTES)) as (reader, _):
        with pytest.raises(ContentTooLarge, match="700000"):
            await reader.fetch(CID, max_bytes=len(DATA) - 1)


async def test_the_time_is_limited() -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    async with gateways(hang) as (reader, _):
        with pytest.raises(Unavailable, match=r"longer than 0\.05 s"):
            await reader.fetch(CID, timeout=0.05)


async def test_no_host_is_contacted_but_the_configured() -> None:
    async with serve(say(RAW_DATA, RAW)) as trap:

        def redirect(status: int) -> Answerer:
            return say(b"", status=status, headers={"location": f"{trap.url}/ipfs/{RAW_CID}"})

        for status in (301, 302, 303, 307, 308):
            async with gateways(redirect(status)) as (reader, _):
                with pytest.raises(Rejected, match="not followed"):
                    await reader.fetch(RAW_CID)
        async with gateways(say(RAW_DATA, RAW)) as (reader, asked):
            told = f"{trap.url}/ipfs/{RAW_CID}/a.json"
            assert await reader.fetch(find_cid(told)) == RAW_DATA
            assert len(asked[0].requests) == 1
    assert trap.requests == []


async def test_a_slow_gateway_is_overtaken_and_hung_up_on() -> None:
    hung_up = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": CAR})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"")
                if request.transport is None or request.transport.is_closing():
                    hung_up.set()
                    return response
                await asyncio.sleep(0.005)
        finally:
            hung_up.set()

    async with gateways(slow, say(CAR_BYTES), hedge_after_seconds=0.02) as (reader, asked):
        assert await reader.fetch(CID) == DATA
        assert [len(a.requests) for a in asked] == [1, 1]
        await asyncio.wait_for(hung_up.wait(), 60)


async def test_a_quick_gateway_is_asked_alone() -> None:
    async with gateways(say(CAR_BYTES), say(CAR_BYTES)) as (reader, asked):
        assert await reader.fetch(CID) == DATA
        assert [len(a.requests) for a in asked] == [1, 0]


async def test_the_first_answer_does_not_win_but_the_first_verified() -> None:
    async def late(request: web.Request) -> web.StreamResponse:
        await lied.wait()
        return await say(CAR_BYTES)(request)

    async def lie(request: web.Request) -> web.StreamResponse:
        asyncio.get_running_loop().call_later(0.1, lied.set)  # once the lie has come
        return await say(LYING)(request)

    lied = asyncio.Event()
    async with gateways(late, lie, hedge_after_seconds=0.01) as (reader, asked):
        assert await reader.fetch(CID) == DATA
        assert [len(a.requests) for a in asked] == [1, 1]


async def test_if_all_fail_the_error_that_may_pass_is_raised_and_all_are_listed() -> None:
    async with gateways(say(LYING), say(b"", status=404), say(b"", status=503)) as (reader, asked):
        with pytest.raises(Unavailable) as caught:
            await reader.fetch(CID)
    assert caught.value.http_status == 503
    assert [entry[:2] for entry in caught.value.detail] == [  # type: ignore[attr-defined]
        (asked[0].url, "ContentTampered"),
        (asked[1].url, "ContentNotFound"),
        (asked[2].url, "Unavailable"),
    ]


async def test_a_liar_is_asked_last_for_ten_minutes() -> None:
    clock = FakeClock(autojump=False)
    async with gateways(say(LYING), say(CAR_BYTES), clock=clock) as (reader, asked):
        for _ in range(3):
            assert await reader.fetch(CID) == DATA
        assert [len(a.requests) for a in asked] == [1, 3]
        clock.advance(601)
        assert await reader.fetch(CID) == DATA
        assert [len(a.requests) for a in asked] == [2, 4]


async def test_who_wants_us_to_wait_is_not_asked_before() -> None:
    clock = FakeClock(autojump=False)
    busy = say(b"", status=429, headers={"retry-after": "100000"})
    async with gateways(busy, clock=clock) as (reader, asked):
        for _ in range(2):
            with pytest.raises(Throttled) as caught:
                await reader.fetch(CID)
        assert len(asked[0].requests) == 1
        assert caught.value.retry_after is not None
        assert caught.value.retry_after.total_seconds() == 300
        clock.advance(301)
        with pytest.raises(Throttled):
            await reader.fetch(CID)
        assert len(asked[0].requests) == 2


async def test_a_gateway_that_wants_no_wait_is_asked_again_at_once() -> None:
    answers = [say(b"", status=429, headers={"retry-after": "0"}), say(CAR_BYTES)]

    async def answer(request: web.Request) -> web.StreamResponse:
        return await answers.pop(0)(request)

    async with gateways(answer, clock=FakeClock()) as (reader, asked):
        with pytest.raises(Throttled):
            await reader.fetch(CID)
        assert await reader.fetch(CID) == DATA
        assert len(asked[0].requests) == 2


async def test_while_one_wants_a_wait_the_other_is_asked_at_once() -> None:
    clock = FakeClock()
    busy = say(b"", status=429, headers={"retry-after": "60"})
    async with gateways(busy, say(CAR_BYTES), clock=clock) as (reader, asked):
        for _ in range(3):  # no time passes on this clock: nobody was waited for
            assert await reader.fetch(CID) == DATA
        assert [len(each.requests) for each in asked] == [1, 3]


async def test_content_in_the_cid_itself_is_not_asked_for() -> None:
    async with gateways(say(b"", status=500)) as (reader, asked):
        assert await reader.fetch(Cid(RAW_CODEC, b"hello", IDENTITY)) == b"hello"
        assert asked[0].requests == []


async def test_nobody_there_is_unavailable() -> None:
    async with gateways(say(b"")) as (_, asked):
        url = asked[0].url
    reader = Gateways([url])
    with pytest.raises(Unavailable):
        await reader.fetch(make_cid(b"x"))
    await reader.aclose()


async def test_what_can_not_work_is_refused_at_once() -> None:
    for urls in ([], ["ftp://gateway.example"], ["gateway.example"]):
        with pytest.raises(ConfigError):
            Gateways(urls)
    async with httpx2.AsyncClient(follow_redirects=True) as client:
        with pytest.raises(ConfigError, match="redirects"):
            Gateways(["http://127.0.0.1:1"], client=client)
    with pytest.raises(NotSupported):
        await Gateways(["http://127.0.0.1:1"]).put(b"")
