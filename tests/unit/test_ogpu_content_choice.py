"""Where OGPU's content goes: a pin service, a node, and the cache in front of either; all is verified."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from content_server import Asked
from fake_kubo import FakeKubo, serve_kubo

from gateway.clock import SystemClock
from gateway.content import Cid, ContentStore
from gateway.content.errors import ContentNotFound, ContentTampered
from gateway.content.unixfs import V0_2015
from gateway.devnet.ogpu import ContentFault
from gateway.devnet.ogpu.content import ContentHost
from gateway.errors import ConfigError, Unavailable
from gateway_ogpu import OgpuConfig
from gateway_ogpu.content import find_cache, make_content

pytestmark = [
    pytest.mark.anyio,
    # ipfshttpclient 0.7 gives urllib3 an argument that version 3 will refuse.
    pytest.mark.filterwarnings("ignore:.*strict.*:FutureWarning", "ignore:.*strict.*:DeprecationWarning"),
]
ADDRESS = "0x" + "ab" * 20
CONTRACTS = {"nexus": ADDRESS, "controller": ADDRESS, "terminal": ADDRESS, "vault": ADDRESS}
DATA = b'{"function_name":"echo"}'


def make_config(host: ContentHost, cache: Any, **words: Any) -> OgpuConfig:
    told = {
        "contracts": CONTRACTS,
        "chain_id": 7,
        "rpc_url": "http://127.0.0.1:1",
        "content_gateways": [host.gateway_url],
        "content_cache": cache if isinstance(cache, bool) else str(cache),
    }
    if words.get("content", "pin") == "pin":
        told["pin_url"] = host.pin_url
    return OgpuConfig(**{**told, **words})


@asynccontextmanager
async def opened(config: OgpuConfig) -> AsyncIterator[ContentStore]:
    store = make_content(config, config.make_network(), clock=SystemClock())
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
async def host() -> AsyncIterator[ContentHost]:
    host = ContentHost()
    await host.start()
    yield host
    await host.stop()


def name_node(kind: str, node: Asked) -> dict[str, Any]:
    parts = urlsplit(node.url)
    address = node.url if kind == "kubo" else f"/ip4/{parts.hostname}/tcp/{parts.port}/http"
    return {"content": kind, "content_node": address}


async def test_by_default_the_pin_service_takes_it_and_the_disk_keeps_it(
    host: ContentHost, tmp_path: Path
) -> None:
    async with opened(make_config(host, tmp_path)) as store:
        stored = await store.put(DATA)
        assert host.journal == [str(stored.cid)]
        host.counters.reset()
        assert await store.fetch(stored.cid) == DATA
        answer = host.put(b'{"answer":42}')
        assert await store.fetch(answer) == b'{"answer":42}'
        assert host.counters.http_requests == 1
    await host.stop()  # what was verified once outlives the service, and the process
    async with opened(make_config(host, tmp_path)) as store:
        assert await store.fetch(stored.cid) == DATA
        assert await store.fetch(answer) == b'{"answer":42}'


async def test_without_a_cache_everything_is_asked_for(host: ContentHost, tmp_path: Path) -> None:
    async with opened(make_config(host, cache=False)) as store:
        stored = await store.put(DATA)
        await host.stop()
        with pytest.raises(Unavailable):
            await store.fetch(stored.cid)


@pytest.mark.parametrize("kind", ["kubo", "ipfshttpclient"])
async def test_a_node_of_ones_own_takes_it_and_the_link_is_for_others(
    host: ContentHost, tmp_path: Path, kind: str
) -> None:
    if kind == "ipfshttpclient":
        pytest.importorskip("ipfshttpclient")
    async with serve_kubo(node := FakeKubo()) as asked:
        words = name_node(kind, asked)
        async with opened(make_config(host, cache=False, **words)) as store:
            stored = await store.put(DATA)
            assert stored.uri == f"{host.gateway_url}/ipfs/{stored.cid}"
            assert host.journal == []
            assert await store.fetch(stored.cid) == DATA  # the gateway has not got it, the node has
            told = host.put(b"an answer")
            assert await store.fetch(told) == b"an answer"  # and the other way round
        linked = make_config(host, cache=False, **words, content_link="https://gw.example/")
        async with opened(linked) as store:
            assert (await store.put(DATA)).uri == f"https://gw.example/ipfs/{stored.cid}"
    assert stored.cid.key in node.cars


@pytest.mark.parametrize("kind", ["kubo", "ipfshttpclient"])
async def test_nothing_unverified_comes_out_of_either(host: ContentHost, kind: str) -> None:
    if kind == "ipfshttpclient":
        pytest.importorskip("ipfshttpclient")
    async with (
        serve_kubo(node := FakeKubo()) as asked,
        opened(make_config(host, cache=False, **name_node(kind, asked))) as store,
    ):
        good = host.put(DATA)
        node.cars[good.key] = node.cars[node.keep(b"something else", V0_2015).key]
        host.faults.arm(ContentFault.TAMPER)
        with pytest.raises(ContentTampered):
            await store.fetch(good)
        assert await store.fetch(good) == DATA  # the gateway is sound again, the node still is not
        nowhere = FakeKubo().keep(b"nobody has this", V0_2015)
        with pytest.raises(ContentNotFound) as caught:
            await store.fetch(nowhere)
    assert isinstance(nowhere, Cid)
    assert len(caught.value.detail) == 2


async def test_a_key_of_the_node_is_sent_to_it_and_to_nobody_else(host: ContentHost) -> None:
    async with serve_kubo(FakeKubo()) as asked:
        words = {**name_node("kubo", asked), "content_node_key": "Bearer of the node"}
        async with opened(make_config(host, cache=False, **words)) as store:
            await store.put(DATA)
    assert {headers["authorization"] for headers in asked.headers} == {"Bearer of the node"}


async def test_an_address_that_is_none_is_a_configuration_error(host: ContentHost) -> None:
    pytest.importorskip("ipfshttpclient")
    config = make_config(host, cache=False, content="ipfshttpclient", content_node="http://not-a-multiaddr")
    with pytest.raises(ConfigError, match="address"):
        make_content(config, config.make_network(), clock=SystemClock())


async def test_the_cache_is_in_the_users_cache_folder(
    host: ContentHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = find_cache(make_config(host, cache=True))
    assert folder is not None
    assert folder.name == "content"
    assert find_cache(make_config(host, cache=False)) is None
    assert find_cache(make_config(host, tmp_path)) == tmp_path
