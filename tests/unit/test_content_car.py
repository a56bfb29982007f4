from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.content.car import LARGEST_BLOCK, CarReader, build_car, encode_car, read_inline
from gateway.content.cid import DAG_PB, IDENTITY, RAW, Cid, encode_varint, make_cid
from gateway.content.dagpb import Link, decode_file_node, encode_parent
from gateway.content.errors import (
    BadCid,
    ContentNotFound,
    ContentSwapped,
    ContentTampered,
    ContentTooLarge,
    ContentTruncated,
    ContentUnreadable,
)
from gateway.content.unixfs import DEEPEST, PROFILES, V0_2015, Builder, Profile, compute_cid
from gateway.errors import BackendError

ROOM = 1 << 20
DATA = random.Random(7).randbytes(900)
SMALL = Profile("small", 64, 4, raw_leaves=False, version=0)

profiles = st.builds(
    lambda chunk, width, raw: Profile("drawn", chunk, width, raw_leaves=raw, version=1 if raw else 0),
    st.integers(1, 60),
    st.integers(2, 7),
    st.booleans(),
)


def read(cid: Cid, car: bytes, *, max_bytes: int = ROOM, step: int = 97) -> bytes:
    reader = CarReader(cid, max_bytes=max_bytes)
    for at in range(0, len(car), step):
        reader.feed(car[at : at + step])
    return reader.finish()


def collect_blocks(data: bytes, profile: Profile = SMALL) -> tuple[Cid, list[tuple[Cid, bytes]]]:
    blocks: list[tuple[Cid, bytes]] = []
    builder = Builder(profile, lambda cid, block: blocks.append((cid, block)))
    builder.update(data)
    return builder.finish(), blocks


@given(st.binary(max_size=700), profiles, st.integers(1, 300))
def test_what_is_built_is_read_back(data: bytes, profile: Profile, step: int) -> None:
    cid, car = build_car(data, profile)
    assert read(cid, car, step=step) == data
    assert compute_cid(data, profile) == cid


@given(st.binary(max_size=700), profiles, st.randoms(use_true_random=False))
def test_any_order_and_repeats_are_read(data: bytes, profile: Profile, dice: random.Random) -> None:
    cid, blocks = collect_blocks(data, profile)
    blocks += dice.sample(blocks, len(blocks) // 2)
    dice.shuffle(blocks)
    assert read(cid, encode_car(cid, blocks)) == data


@given(st.lists(st.binary(max_size=200), max_size=12), profiles)
def test_how_the_bytes_come_does_not_matter(pieces: list[bytes], profile: Profile) -> None:
    builder = Builder(profile)
    for piece in pieces:
        builder.update(piece)
    assert builder.finish() == compute_cid(b"".join(pieces), profile)


@pytest.mark.parametrize("profile", [SMALL, Profile("raw", 64, 4, raw_leaves=True, version=1)])
@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_mutated_byte_is_refused_or_harmless(profile: Profile, flip: int) -> None:
    cid, car = build_car(DATA, profile)
    refused = 0
    for at in range(len(car)):
        mutated = car[:at] + bytes([car[at] ^ flip]) + car[at + 1 :]
        try:
            assert read(cid, mutated) == DATA
        except BackendError:
            refused += 1
    assert refused > len(car) - 100  # only the roots in the header don't matter


def test_every_cut_is_truncated_content() -> None:
    cid, car = build_car(DATA, SMALL)
    for length in range(len(car)):
        with pytest.raises((ContentTruncated, ContentNotFound)):
            read(cid, car[:length])


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_garbage_causes_no_stray_exception(data: bytes) -> None:
    _, car = build_car(DATA, SMALL)
    for garbage in (data, car[:70] + data):
        with pytest.raises(BackendError):
            read(make_cid(b"x"), garbage)


@settings(max_examples=500)
@given(st.binary(max_size=120) | st.binary(max_size=60).map(lambda tail: b"\x0a" + bytes([len(tail)]) + tail))
def test_random_nodes_cause_no_stray_exception(block: bytes) -> None:
    cid = make_cid(block, DAG_PB)
    try:
        data = read(cid, encode_car(cid, [(cid, block)]))
    except BackendError:
        return
    assert len(data) <= len(block)


def test_a_tampered_block_is_its_own_error() -> None:
    cid, blocks = collect_blocks(DATA)
    blocks[3] = (blocks[3][0], blocks[3][1][:-1] + b"!")
    with pytest.raises(ContentTampered):
        read(cid, encode_car(cid, blocks))


def test_a_missing_block_is_truncated() -> None:
    cid, blocks = collect_blocks(DATA)
    for missing in range(len(blocks) - 1):
        with pytest.raises(ContentTruncated, match="missing"):
            read(cid, encode_car(cid, blocks[:missing] + blocks[missing + 1 :]))


def test_other_content_is_swapped() -> None:
    cid = compute_cid(DATA, SMALL)
    other, car = build_car(b"other" * 90, SMALL)
    assert other != cid
    with pytest.raises(ContentSwapped):
        read(cid, car)
    with pytest.raises(ContentNotFound):
        read(cid, encode_car(cid, []))


def test_the_size_is_limited_by_the_root_before_the_rest_comes() -> None:
    cid, car = build_car(bytes(3 << 20), V0_2015)
    reader = CarReader(cid, max_bytes=(3 << 20) - 1)
    with pytest.raises(ContentTooLarge, match="3145728 bytes"):
        reader.feed(car[:4096])
    assert read(cid, car, max_bytes=3 << 20, step=65_536) == bytes(3 << 20)


def test_an_endless_car_is_stopped() -> None:
    _, car = build_car(b"a" * 1000)
    reader = CarReader(make_cid(b"other"), max_bytes=10_000)
    reader.feed(car)
    section = car[car.rindex(b"\x01\x55\x12\x20") - 2 :]
    room = 10_000 + 10_000 // 8 + (1 << 20) - len(car)
    for _ in range(room // len(section)):
        reader.feed(section)
    with pytest.raises(ContentTooLarge):
        reader.feed(section)


def test_a_raw_file_above_the_limit_is_refused() -> None:
    cid, car = build_car(b"a" * 1000)
    assert cid.codec == RAW
    with pytest.raises(ContentTooLarge):
        read(cid, car, max_bytes=999)


@pytest.mark.parametrize(
    "car",
    [
        b"<html><body>Too many requests</body></html>" * 3,
        encode_varint(70_000) + bytes(70_000),
        encode_car(make_cid(b""), []).replace(b"version\x01", b"version\x02"),
        encode_car(make_cid(b""), []) + b"\x00",
        encode_car(make_cid(b""), []) + encode_varint(LARGEST_BLOCK + 1000),
        encode_car(make_cid(b""), [(make_cid(bytes(LARGEST_BLOCK + 1)), bytes(LARGEST_BLOCK + 1))]),
        encode_car(make_cid(b""), [(Cid(RAW, bytes(64), 0x13), b"block")]),
        b"\xff" * 20,
    ],
    ids=["html", "header", "version", "zero", "section", "block", "hash", "varint"],
)
def test_what_is_no_car_is_unreadable(car: bytes) -> None:
    with pytest.raises(ContentUnreadable):
        read(make_cid(b"x"), car, step=65_536)


def make_parent(children: list[tuple[Cid, int]]) -> tuple[Cid, bytes]:
    block = encode_parent([Link(cid, 0, size) for cid, size in children])
    return make_cid(block, DAG_PB), block


def test_lies_about_sizes_are_unreadable() -> None:
    leaf = make_cid(b"four")
    root = make_parent([(leaf, 5)])
    with pytest.raises(ContentUnreadable, match="has not the size"):
        read(root[0], encode_car(root[0], [root, (leaf, b"four")]))


def test_a_bomb_of_repeated_links_is_too_large() -> None:
    blocks = [(make_cid(b"a" * 100), b"a" * 100)]
    size = 100
    for _ in range(4):
        blocks.append(make_parent([(blocks[-1][0], size)] * 100))
        size *= 100
    root = blocks[-1][0]
    with pytest.raises(ContentTooLarge):
        read(root, encode_car(root, blocks))


def test_links_to_nothing_can_not_keep_us_busy() -> None:
    empty = make_cid(b"")
    root = make_parent([(empty, 0)] * 3)
    with pytest.raises(ContentUnreadable, match="block sizes"):
        read(root[0], encode_car(root[0], [root, (empty, b"")]))


def test_a_small_car_can_not_keep_us_busy() -> None:
    blocks, size = [(make_cid(b"a"), b"a")], 1
    for _ in range(3):
        blocks.append(make_parent([(blocks[-1][0], size)] * 100))
        size *= 100
    root = blocks[-1][0]
    with pytest.raises(ContentUnreadable, match="too many nodes"):
        read(root, encode_car(root, blocks), max_bytes=size)


def test_a_cut_is_told_from_an_answer_with_nothing() -> None:
    cid, car = build_car(b"hello")
    header = encode_car(cid, [])
    assert car.startswith(header)
    with pytest.raises(ContentNotFound):
        read(cid, header)
    for length in range(len(header) + 1, len(car)):
        with pytest.raises(ContentTruncated):
            read(cid, car[:length])


def test_what_is_cut_off_behind_the_whole_content_does_no_harm() -> None:
    cid, car = build_car(DATA, SMALL)
    start = len(encode_car(cid, []))
    assert read(cid, car + car[start : start + 20]) == DATA


def test_depth_is_limited() -> None:
    blocks = [(make_cid(b"a"), b"a")]
    for level in range(DEEPEST + 1):
        root = blocks[-1][0]
        if level:
            assert read(root, encode_car(root, blocks)) == b"a"
        blocks.append(make_parent([(root, 1)]))
    with pytest.raises(ContentUnreadable, match="levels"):
        read(blocks[-1][0], encode_car(blocks[-1][0], blocks))


@pytest.mark.parametrize(
    ("unixfs", "words"),
    [
        (b"\x08\x01", "a directory"),
        (b"\x08\x05", "a directory"),
        (b"\x08\x04\x12\x01a", "a symbolic link"),
        (b"\x08\x09", "unknown type"),
        (b"\x08\x02\x12\x01a\x18\x02", "sum of its parts"),
        (b"\x08\x02\x20\x01", "do not fit"),
        (b"\x08\x02\x12\x05a", "cut off"),
        (b"\x09\x02", "unexpected type"),
    ],
)
def test_what_is_no_file_is_unreadable(unixfs: bytes, words: str) -> None:
    with pytest.raises(ContentUnreadable, match=words):
        decode_file_node(b"\x0a" + encode_varint(len(unixfs)) + unixfs)


def test_sizes_may_be_packed() -> None:
    leaves = [(make_cid(bytes([n])), bytes([n])) for n in range(3)]
    links = b"".join(
        b"\x12" + encode_varint(len(link)) + link
        for link in (b"\x0a\x24" + cid.encode() + b"\x12\x00\x18\x01" for cid, _ in leaves)
    )
    block = links + b"\x0a\x09\x08\x02\x18\x03\x22\x03\x01\x01\x01"
    root = make_cid(block, DAG_PB)
    assert read(root, encode_car(root, [(root, block), *leaves])) == b"\x00\x01\x02"


def test_a_codec_that_is_no_file_is_unreadable() -> None:
    cid = make_cid(b"\xa0", 0x71)
    with pytest.raises(ContentUnreadable, match="0x71"):
        read(cid, encode_car(cid, [(cid, b"\xa0")]))


def test_content_in_the_cid_itself_needs_nobody() -> None:
    assert read_inline(Cid(RAW, b"hello", IDENTITY), max_bytes=5) == b"hello"
    with pytest.raises(ContentTooLarge):
        read_inline(Cid(RAW, b"hello", IDENTITY), max_bytes=4)


@pytest.mark.parametrize("profile", PROFILES)
def test_an_empty_file_is_a_file(profile: Profile) -> None:
    cid, car = build_car(b"", profile)
    assert read(cid, car, max_bytes=0) == b""


def test_bad_cids_are_value_errors_of_their_own() -> None:
    assert issubclass(BadCid, ValueError)
