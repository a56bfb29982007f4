"""CIDs that js-ipfs 0.66, Kubo 0.22 and the JS importer 17.1 gave, for bytes that can be made again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from gateway.content.cid import DAG_PB, RAW, parse_cid
from gateway.content.unixfs import V0_2015, V1_2025, V1_KUBO, Builder, Profile, compute_cid, find_profile

VECTORS = Path(__file__).parents[1] / "vectors"
MIB = 1 << 20
SIZES = {
    "1.bin": 1,
    "262144.bin": 262_144,
    "262145.bin": 262_145,
    "1MiB.bin": MIB,
    "1MiB+1.bin": MIB + 1,
    "10MiB.bin": 10 * MIB,
    "45613056.bin": 174 * 262_144,
    "45613057.bin": 174 * 262_144 + 1,
    "100MiB.bin": 100 * MIB,
}
JS_PROFILES = {
    "v0": V0_2015,
    "v1raw": V1_KUBO,
    "v1raw1M": Profile("js 1 MiB", MIB, 174, raw_leaves=True, version=1),
    "v1dagpb": Profile("js dag-pb", 262_144, 174, raw_leaves=False, version=1),
}


def load(name: str) -> dict[str, dict[str, str]]:
    found = json.loads((VECTORS / f"ipfs-cids-{name}.json").read_text(encoding="utf-8"))
    return found if isinstance(next(iter(found.values())), dict) else {"": found}


def collect(name: str) -> list[tuple[str, Profile]]:
    """Return (CID, profile) of all vectors of a file."""
    wanted = [(cids[name], JS_PROFILES[mode]) for mode, cids in load("jsipfs").items()]
    wanted.append((load("kubo022")[""][name], V0_2015))
    wanted.append((load("importer-v1-2025")[""][name], V1_2025))
    return wanted


def check(name: str, data: bytes) -> int:
    wanted = collect(name)
    for text, profile in wanted:
        cid = compute_cid(data, profile)
        assert cid == parse_cid(text), (name, profile.name)
        assert cid.version == parse_cid(text).version
    return len(wanted)


def test_every_vector_of_every_importer() -> None:
    """The bytes are one stream of Python's generator with seed 42, cut into files from small to large."""
    stream = random.Random(42)
    checked = sum(check(name, stream.randbytes(size)) for name, size in SIZES.items())
    checked += check("0.bin", b"")
    checked += check("hw.txt", b"hello world\n")
    checked += check("zeros1MiB.bin", bytes(MIB))
    assert checked == 48 + 12 + 12


@pytest.mark.parametrize("line", (VECTORS / "ipfs-cids-zeros.txt").read_text().splitlines())
def test_zeros_streamed(line: str) -> None:
    size, *cids = line.split()
    zeros, left = memoryview(bytes(MIB)), int(size)
    builders = [Builder(profile) for profile in (V0_2015, V1_2025, V1_KUBO)]
    while left > 0:
        for builder in builders:
            builder.update(zeros[:left])
        left -= MIB
    assert [str(builder.finish()) for builder in builders] == cids


def test_a_known_profile_is_found_and_only_for_the_right_bytes() -> None:
    data = random.Random(1).randbytes(600_000)
    for profile in (V0_2015, V1_KUBO):
        cid = compute_cid(data, profile)
        assert cid.codec == DAG_PB
        assert find_profile(data, cid) == profile
        assert find_profile(data[:-1] + b"!", cid) is None
    raw = compute_cid(data)
    assert raw.codec == RAW
    assert find_profile(data, raw) is V1_2025
    assert find_profile(data + b"!", raw) is None
