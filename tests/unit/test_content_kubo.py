"""Kubo, and the same node through ipfshttpclient."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlsplit

import pytest
from content_server import Answerer, Asked, cut, endless, say, serve
from fake_kubo import FakeKubo, serve_kubo

from gateway.content import Cid, ContentStore, IpfsHttpClient, Kubo
from gateway.content.cid import _BASE58, IDENTITY, RAW, _encode_radix, make_cid
from gateway.content.errors import (
    ContentNotFound,
    ContentSwapped,
    ContentTampered,
    ContentTooLarge,
    ContentTruncated,
    ContentUnreadable,
)
from gateway.content.unixfs import V0_2015, V1_2025, Profile, compute_cid
from gateway.errors import BackendError, ConfigError, Rejected, Unavailable

pytestmark = [
    pytest.mark.anyio,
    # ipfshttpclient 0.7 gives urllib3 an argument that version 3 will refuse.
    pytest.mark.filterwarnings("ignore:.*strict.*:FutureWarning", "ignore:.*strict.*:DeprecationWarning"),
]

DATA = random.Random(11).randbytes(1_500_000)
UNKNOWN = Profile("nobody's", 500_000, 3, raw_leaves=True, version=1)


def make_package_client(url: str) -> ContentStore:
    pytest.importorskip("ipfshttpclient")
    parts = urlsplit(url)
    return IpfsHttpClient(f"/ip4/{parts.hostname}/tcp/{parts.port}/http")


Maker = Callable[[str], ContentStore]
pytest_makers = pytest.mark.parametrize("make", [Kubo, make_package_client], ids=["kubo", "ipfshttpclient"])


@asynccontextmanager
async def connect(node: FakeKubo, make: Maker) -> AsyncIterator[tuple[ContentStore, Asked]]:
    async with serve_kubo(node) as asked:
        store = make(asked.url)
        try:
            yield store, asked
        finally:
            await store.aclose()


@pytest_makers
@pytest.mark.parametrize("data", [b"", b"hello", DATA], ids=["empty", "small", "large"])
async def test_what_is_put_is_proven_and_read_back(make: Maker, data: bytes) -> None:
    async with connect(FakeKubo(), make) as (store, _):
        stored = await store.put(data, filename="a.json", content_type="application/json")
        assert stored.cid == compute_cid(data)
        assert stored.proof == V1_2025.name
        assert stored.uri == f"ipfs://{compute_cid(data)}"
        assert await store.fetch(stored.cid) == data


@pytest_makers
async def test_cids_are_compared_as_values(make: Maker) -> None:
    def as_js_ipfs(cid: Cid) -> str:
        return "z" + _encode_radix(cid.encode(), _BASE58)

    async with connect(FakeKubo(size_as_number=True, spell=as_js_ipfs), make) as (store, _):
        assert (await store.put(DATA)).cid == compute_cid(DATA)


async def test_every_import_parameter_is_sent_and_cat_never_used() -> None:
    async with connect(FakeKubo(), Kubo) as (store, asked):
        stored = await store.put(DATA)
        await store.fetch(stored.cid)
    add, export = asked.requests
    assert dict(parse_qsl(add.partition("?")[2])) == {
        "cid-version": "1",
        "hash": "sha2-256",
        "chunker": "size-1048576",
        "raw-leaves": "true",
        "max-file-links": "1024",
        "trickle": "false",
        "inline": "false",
        "pin": "true",
        "wrap-with-directory": "false",
        "progress": "false",
    }
    assert export.startswith(f"POST /api/v0/dag/export?arg={stored.cid}&")
    assert "origin" not in asked.headers[0]


async def test_lines_of_progress_are_passed_over() -> None:
    async with connect(FakeKubo(is_chatty=True), Kubo) as (store, _):
        assert (await store.put(DATA)).cid == compute_cid(DATA)


async def test_a_public_gateway_makes_the_uri_and_headers_are_sent() -> None:
    async with serve_kubo(FakeKubo()) as asked:
        node = Kubo(asked.url, headers={"authorization": "Bearer x"}, public_url="https://gateway.example/")
        stored = await node.put(b"hello")
        await node.aclose()
    assert stored.uri == f"https://gateway.example/ipfs/{stored.cid}"
    assert asked.headers[0]["authorization"] == "Bearer x"


@pytest_makers
async def test_a_node_that_ignores_the_parameters_is_read_back(make: Maker) -> None:
    async with connect(FakeKubo(V0_2015), make) as (store, asked):
        assert (await store.put(DATA)).proof == V0_2015.name
        assert len(asked.requests) == 1
    async with connect(FakeKubo(UNKNOWN), make) as (store, asked):
        assert (await store.put(DATA)).proof == "read back"
        assert len(asked.requests) == 2


@pytest_makers
@pytest.mark.parametrize("profile", [V1_2025, UNKNOWN])
async def test_a_swapped_upload_is_its_own_error(make: Maker, profile: Profile) -> None:
    async with connect(FakeKubo(profile, swap=b"other" * 400_000), make) as (store, _):
        with pytest.raises(ContentSwapped):
            await store.put(DATA)


@pytest_makers
async def test_bad_reads_are_errors_of_their_own(make: Maker) -> None:
    node = FakeKubo()
    cid = node.keep(DATA, V0_2015)
    async with connect(node, make) as (store, _):
        assert await store.fetch(cid) == DATA
        with pytest.raises(ContentTooLarge):
            await store.fetch(cid, max_bytes=len(DATA) - 1)
        with pytest.raises(ContentNotFound):
            await store.fetch(compute_cid(b"unknown"))
        node.cut = 400_000
        with pytest.raises(ContentTruncated):
            await store.fetch(cid)
        node.cut = None
        good = node.cars[cid.key]
        node.cars[cid.key] = good[:-1] + bytes([good[-1] ^ 1])
        with pytest.raises(ContentTampered):
            await store.fetch(cid)
        node.forget_blocks(cid)
        with pytest.raises(ContentNotFound):
            await store.fetch(cid)
        node.keep(b"other", UNKNOWN)
        node.cars[cid.key] = node.cars[compute_cid(b"other").key]
        with pytest.raises(ContentSwapped):
            await store.fetch(cid)
    assert await store.fetch(Cid(RAW, b"inline", IDENTITY)) == b"inline"


@pytest_makers
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (say(b"<html></html>", "text/html"), Rejected),
        (say(b'{"Name": "x"}\n', "application/json"), Rejected),
        (say(b'{"Hash": "nonsense"}\n', "application/json"), Rejected),
        (say(b"", "application/json"), Rejected),
        (say(b"403 - Forbidden", "text/plain", 403), Rejected),
        (say(b'{"Message": "too busy"}', "application/json", 500), Unavailable),
        (say(b"bad gateway", "text/plain", 502), Unavailable),
    ],
    ids=["html", "no hash", "bad hash", "empty", "forbidden", "busy", "bad gateway"],
)
async def test_every_bad_answer_to_an_upload_is_an_error(
    make: Maker, answer: Answerer, kind: type[BackendError]
) -> None:
    async with connect(FakeKubo(answer=answer), make) as (store, _):
        with pytest.raises(kind) as caught:
            await store.put(b"hello")
    assert caught.value.landed is False


@pytest_makers
async def test_a_connection_that_breaks_is_truncated_and_nobody_there_is_unavailable(make: Maker) -> None:
    node = FakeKubo()
    cid = node.keep(DATA, V1_2025)
    async with serve(cut(node.cars[cid.key][:400_000])) as asked:
        store = make(asked.url)
        with pytest.raises(ContentTruncated):
            await store.fetch(cid)
    with pytest.raises(Unavailable):
        await store.fetch(cid)
    with pytest.raises(Unavailable):
        await store.put(b"hello")
    await store.aclose()


@pytest_makers
async def test_an_endless_answer_is_stopped(make: Maker) -> None:
    async with serve(endless(chunk=b"\xff" * 65_536)) as asked:
        store = make(asked.url)
        with pytest.raises((ContentTooLarge, ContentUnreadable)):
            await store.fetch(make_cid(b"x"), max_bytes=1000)
        await store.aclose()


async def test_a_redirect_of_the_node_is_not_followed() -> None:
    async with serve(say(b"")) as trap, serve(say(b"", status=307, headers={"location": trap.url})) as asked:
        node = Kubo(asked.url)
        with pytest.raises(Rejected):
            await node.put(b"hello")
        with pytest.raises(Rejected):
            await node.fetch(make_cid(b"hello"))
        await node.aclose()
        assert trap.requests == []


async def test_a_bad_address_is_a_configuration_error() -> None:
    pytest.importorskip("ipfshttpclient")
    with pytest.raises(ConfigError, match="no address"):
        IpfsHttpClient("http://127.0.0.1:5001")


async def test_a_missing_package_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ipfshttpclient", None)
    with pytest.raises(ConfigError, match="pip install"):
        IpfsHttpClient()
