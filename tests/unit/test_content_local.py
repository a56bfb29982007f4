from __future__ import annotations

import asyncio
import logging
import os
import random
from pathlib import Path

import pytest

from gateway.content import Cached, Cid, LocalStore, Stored
from gateway.content.errors import ContentNotFound, ContentTampered, ContentTooLarge
from gateway.content.unixfs import V0_2015, V1_2025, V1_KUBO, Profile, compute_cid
from gateway.errors import StoreError

pytestmark = pytest.mark.anyio

DATA = random.Random(5).randbytes(3_000_000)


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_what_is_put_is_found_by_its_name(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "content")
    for data in (b"", b"hello", DATA):
        stored = await store.put(data, filename="a.json", content_type="application/json")
        assert stored == Stored(compute_cid(data), len(data), f"ipfs://{compute_cid(data)}", V1_2025.name)
        assert await store.fetch(stored.cid) == data
        assert await LocalStore(tmp_path / "content").fetch(stored.cid) == data
        path = tmp_path / "content" / stored.cid.key[-2:] / stored.cid.key
        assert path.read_bytes() == data


async def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(ContentNotFound):
        await store.fetch(compute_cid(b"x"))
    assert not await store.has(compute_cid(b"x"))


async def test_the_limit_holds_without_reading(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    stored = await store.put(b"hello")
    assert await store.fetch(stored.cid, max_bytes=5) == b"hello"
    with pytest.raises(ContentTooLarge):
        await store.fetch(stored.cid, max_bytes=4)


@pytest.mark.parametrize("damage", [b"", b"hellO", b"hello more"])
async def test_a_damaged_file_is_set_aside_and_can_be_put_again(tmp_path: Path, damage: bytes) -> None:
    store = LocalStore(tmp_path)
    stored = await store.put(b"hello")
    path = list_files(tmp_path)[0]
    path.write_bytes(damage)
    with pytest.raises(ContentTampered):
        await store.fetch(stored.cid)
    with pytest.raises(ContentNotFound):
        await store.fetch(stored.cid)
    assert path.with_suffix(".damaged").read_bytes() == damage
    await store.put(b"hello")
    assert await store.fetch(stored.cid) == b"hello"


async def test_putting_over_a_damaged_file_mends_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    stored = await store.put(b"hello")
    list_files(tmp_path)[0].write_bytes(b"hellO")
    await store.put(b"hello")
    assert await store.fetch(stored.cid) == b"hello"


async def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError("disk full")

    store = LocalStore(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match="disk full"):
        await store.put(b"hello")
    assert list_files(tmp_path) == []


async def test_many_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    stored = await asyncio.gather(*(store.put(b"%d" % (n % 10)) for n in range(60)))
    for n, one in enumerate(stored):
        assert await store.fetch(one.cid) == b"%d" % (n % 10)
    assert len(list_files(tmp_path)) == 10


async def test_content_is_kept_under_the_name_that_others_gave_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for profile in (V0_2015, V1_KUBO):
        cid = compute_cid(DATA, profile)
        assert await store.keep(cid, DATA)
        assert await store.fetch(cid) == DATA
    assert not await store.keep(compute_cid(b"other"), DATA)
    assert not await store.keep(
        compute_cid(DATA, Profile("nobody's", 99, 3, raw_leaves=True, version=1)), DATA
    )


class Origin:
    """Another store, which counts."""

    def __init__(self, profile: Profile = V0_2015) -> None:
        self.content: dict[Cid, bytes] = {}
        self.fetched = 0
        self.closed = False
        self.profile = profile

    async def put(self, data: bytes, *, filename: str = "", content_type: str = "") -> Stored:
        cid = compute_cid(data, self.profile)
        self.content[cid] = data
        return Stored(cid, len(data), f"https://pin.example/ipfs/{cid}", self.profile.name)

    async def fetch(self, cid: Cid, *, max_bytes: int = 0, timeout: float | None = None) -> bytes:
        self.fetched += 1
        return self.content[cid]

    async def aclose(self) -> None:
        self.closed = True


async def test_the_cache_answers_what_was_put_and_what_was_fetched(tmp_path: Path) -> None:
    origin = Origin()
    store = Cached(LocalStore(tmp_path), origin)
    stored = await store.put(b"hello")
    assert stored.uri.startswith("https://pin.example/")
    assert await store.fetch(stored.cid) == b"hello"
    assert origin.fetched == 0
    told = (await origin.put(b"told by another")).cid
    for _ in range(2):
        assert await store.fetch(told) == b"told by another"
    assert origin.fetched == 1
    await store.aclose()
    assert origin.closed


async def test_a_damaged_cache_is_refilled(tmp_path: Path) -> None:
    store = Cached(LocalStore(tmp_path), origin := Origin())
    stored = await store.put(b"hello")
    for path in list_files(tmp_path):
        path.write_bytes(b"hellO")
    for _ in range(2):
        assert await store.fetch(stored.cid) == b"hello"
    assert origin.fetched == 1


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
async def test_a_damaged_file_that_cannot_be_set_aside_is_read_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """Another process was quicker, or the disk is read-only."""

    def refuse(*_: object) -> None:
        raise error

    store = Cached(LocalStore(tmp_path), Origin())
    stored = await store.put(b"hello")
    for path in list_files(tmp_path):
        path.write_bytes(b"hellO")
    monkeypatch.setattr(Path, "replace", refuse)
    assert await store.fetch(stored.cid) == b"hello"


async def test_a_cache_on_a_full_disk_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(handle: int) -> None:
        raise OSError("disk full")

    store = Cached(LocalStore(tmp_path), origin := Origin())
    told = (await origin.put(b"hello")).cid
    monkeypatch.setattr(os, "fsync", refuse)
    with caplog.at_level(logging.WARNING):
        assert await store.fetch(told) == b"hello"
        assert (await store.put(b"other")).uri.startswith("https://pin.example/")
    assert caplog.text.count("could not be cached") == 3
