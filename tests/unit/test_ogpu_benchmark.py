"""The OGPU benchmark names every floor that it misses, and no other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from benchmarks.lost_answer.place import Place
from benchmarks.ogpu.drive import Client, Sample, make_place
from benchmarks.ogpu.drives.ours import make_config
from benchmarks.ogpu.floors import find_misses
from benchmarks.ogpu.rounds import Row, Waiting
from benchmarks.ogpu.table import format_page

GOOD = Sample(seconds=1.0, requests=15, calls=200, pins=20, blocks=1, last_block=2, on_chain=20)
WAITING = Waiting(1000, 50.0, 10, 30, Counter({"eth_getLogs": 10, "eth_getBlockByNumber": 20}))


def make_rows(ours: Sample = GOOD, *, in_sequence: float = 15.0, in_threads: float = 3.0) -> list[Row]:
    seconds = {"ours": ours.seconds, "sequence": in_sequence, "threads": in_threads}
    return [Row(Client(name, "any"), ours, [replace(ours, seconds=one)]) for name, one in seconds.items()]


def test_what_just_reaches_the_floors_misses_none() -> None:
    assert find_misses(make_rows(), make_rows(), WAITING) == []


def test_each_miss_is_named() -> None:
    bad = replace(GOOD, requests=16, last_block=3, on_chain=21)
    slow = Waiting(1000, 50.0, 10, 30, Counter({"eth_getLogs": 11}))
    misses = find_misses(make_rows(bad, in_sequence=14.9), make_rows(in_threads=2.9), slow)
    assert misses == [
        "[21] tasks on chain in place of 20",
        "the last task was in block 3, the floor is 2",
        "16 HTTP requests, the floor is 15",
        "14.9 x the SDK in sequence, the floor is 15",
        "2.9 x the SDK in threads with the delay, the floor is 3",
        "11 log scans in 10 blocks",
    ]


def test_the_page_shows_what_was_missed() -> None:
    page = format_page(make_rows(), make_rows(), WAITING, ["too slow"], Place("command", ("a line",)))
    assert "**Missed in this run:**\n\n- too slow" in page
    assert "15.0 x as fast" in page


def test_its_uploads_stay_out_of_the_users_cache_folder() -> None:
    address = "0x" + "ab" * 20
    names = ("nexus", "controller", "terminal", "vault")
    ogpu: Any = SimpleNamespace(
        contracts=SimpleNamespace(**dict.fromkeys(names, address)),
        chain_id=1071,
        rpc_url="http://127.0.0.1:9",
        client=SimpleNamespace(key="0x" + "5e" * 32),
        pin_url="http://127.0.0.1:9/file/create",
        gateway_url="http://127.0.0.1:9",
        first_response=address,
    )
    assert make_config(make_place(Client("ours", "ours"), ogpu, 20)).content_cache is False
