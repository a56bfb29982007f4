from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.content.cid import (
    DAG_PB,
    IDENTITY,
    RAW,
    Cid,
    _decode_multibase,
    decode_cid,
    decode_varint,
    encode_varint,
    find_cid,
    make_cid,
    parse_cid,
)
from gateway.content.errors import BadCid

HELLO_V0 = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"
HELLO_RAW = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"
HELLO_RAW_58 = "zb2rhi36Gc9GJWijLEL6zW45MBux5FcFv5gJmjXA7VAMozEXY"

digests = st.binary(min_size=32, max_size=32)
cids = st.one_of(
    st.builds(Cid, st.sampled_from((RAW, DAG_PB, 0x71)), digests),
    st.builds(lambda digest: Cid(DAG_PB, digest, version=0), digests),
    st.builds(lambda data: Cid(RAW, data, IDENTITY), st.binary(max_size=64)),
)


@given(cids)
def test_a_cid_survives_its_text_and_its_bytes(cid: Cid) -> None:
    assert parse_cid(str(cid)) == cid
    assert parse_cid(str(cid)).version == cid.version
    assert parse_cid(cid.key) == cid
    encoded = cid.encode()
    assert decode_cid(b"xx" + encoded + b"more", 2) == (cid, 2 + len(encoded))
    assert parse_cid("f" + Cid(cid.codec, cid.digest, cid.hash_code).encode().hex()) == cid


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda data: "f" + data.hex()))
def test_any_text_is_a_cid_or_bad(text: str) -> None:
    try:
        cid = parse_cid(text)
    except BadCid:
        return
    assert parse_cid(str(cid)) == cid


@given(st.binary(max_size=60))
def test_any_bytes_are_a_cid_or_bad(data: bytes) -> None:
    try:
        cid, end = decode_cid(data)
    except BadCid:
        return
    assert cid.encode() == data[:end]


def test_the_same_content_is_equal_in_every_way_to_write_it() -> None:
    raw = make_cid(b"hello world\n")
    assert str(raw) == HELLO_RAW
    assert parse_cid(HELLO_RAW) == parse_cid(HELLO_RAW_58) == raw
    v0 = parse_cid(HELLO_V0)
    assert parse_cid(v0.key) == v0
    assert hash(parse_cid(v0.key)) == hash(v0)
    assert v0.key.startswith("bafybei")
    assert v0 != raw


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "Qm",
        HELLO_V0[:-1],
        HELLO_V0 + "a",
        HELLO_V0.replace("z", "0"),
        HELLO_RAW.upper(),
        HELLO_RAW[:-1],
        HELLO_RAW + "aa",
        HELLO_RAW[:-1] + "5",  # bits beyond the last byte
        "u" + HELLO_RAW[1:],
        "f0155122",
        "f 01551220" + "00" * 32,
        "f01551220" + "00" * 31,
        "f0155121f" + "00" * 31,
        "f02551220" + "00" * 32,
        "f0155" + "80" * 12,
        "bé" + HELLO_RAW[2:],
        "k" * 100_000,
    ],
)
def test_what_is_not_a_cid_is_refused(text: str) -> None:
    with pytest.raises(BadCid):
        parse_cid(text)


@given(st.integers(0, 2**63 - 1))
def test_a_varint_survives(number: int) -> None:
    encoded = encode_varint(number)
    assert decode_varint(encoded + b"\xff") == (number, len(encoded))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\xff" * 9 + b"\x01"])
def test_a_bad_varint_is_refused(data: bytes) -> None:
    with pytest.raises(BadCid):
        decode_varint(data)


@pytest.mark.parametrize(
    "reference",
    [
        HELLO_V0,
        f"  {HELLO_V0}\n",
        f"/ipfs/{HELLO_V0}",
        f"ipfs://{HELLO_V0}",
        f"ipfs://{HELLO_V0}/a.json",
        f"ipfs://ipfs/{HELLO_V0}",
        f"https://gateway.example/ipfs/{HELLO_V0}",
        f"https://gateway.example/ipfs/{HELLO_V0}/a.json?download=1#top",
        f"http://user:word@10.0.0.1:8080/ipfs/{HELLO_V0}",
        f"https://{parse_cid(HELLO_V0).key}.ipfs.gateway.example/a.json",
    ],
)
def test_the_cid_is_taken_out_of_what_others_wrote(reference: str) -> None:
    assert find_cid(reference) == parse_cid(HELLO_V0)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "https://gateway.example/",
        "https://gateway.example/ipfs/",
        "https://gateway.example/ipfs/nonsense",
        "https://169.254.169.254/latest/meta-data",
        f"https://gateway.example/ipns/{HELLO_V0}",
        f"https://gateway.example/files/ipfs/{HELLO_V0}",
        f"/ipns/{HELLO_V0}",
        f"ipns://{HELLO_V0}",
        f"file:///ipfs/{HELLO_V0}",
        f"ftp://gateway.example/ipfs/{HELLO_V0}",
        f"//gateway.example/ipfs/{HELLO_V0}",
        f"https://[::1/ipfs/{HELLO_V0}",
        f"https://gateway.example/ipfs/{HELLO_V0}/" + "a" * 3000,
    ],
)
def test_what_names_no_content_is_refused(reference: str) -> None:
    with pytest.raises(BadCid):
        find_cid(reference)


@given(st.text(max_size=200))
def test_any_reference_gives_a_cid_or_is_refused(reference: str) -> None:
    try:
        cid = find_cid(reference)
    except BadCid:
        return
    assert isinstance(cid, Cid)


@pytest.mark.parametrize(
    "text", ["bpfsxgidnmfxgsibb", "f796573206d616e692021", "k2lcpzo5yikidynfl", "z7paNL19xttacUY"]
)
def test_the_bases_are_those_of_multibase(text: str) -> None:
    """The example of the specification of multibase."""
    assert _decode_multibase(text) == b"yes mani !"


def test_an_unknown_hash_is_said_and_not_passed() -> None:
    with pytest.raises(BadCid, match="0x13"):
        Cid(RAW, bytes(64), 0x13).matches(b"")
