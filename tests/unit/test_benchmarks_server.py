"""The pieces of the server's benchmarks: what wrk prints is read, and what was missed is named."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks.server.__main__ import Found, make_comparison
from benchmarks.server.comparing import DIRECT, get_median
from benchmarks.server.contestants import LITELLM, OURS, PORTKEY_GATEWAY, make_body
from benchmarks.server.load import Load, make_script, parse_wrk, read_answer
from benchmarks.server.running import read_stat

_TOLD = """\
Running 6s test @ http://127.0.0.1:1/v1/chat/completions
  1 threads and 50 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    63.17ms   14.50ms 139.16ms   71.26%
    Req/Sec   799.57    157.92     1.16k    68.33%
  Latency Distribution
     50%  850.00us
     75%   70.86ms
  4806 requests in 6.00s, 1.79MB read
"""


def test_what_wrk_prints_is_read() -> None:
    assert parse_wrk(_TOLD) == Load(count=4806, rate=801.0, p50_ms=0.85, failed=0)


def test_failed_calls_are_not_counted_as_work() -> None:
    told = _TOLD + "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 6\n"
    assert parse_wrk(told) == Load(count=4800, rate=800.0, p50_ms=0.85, failed=16)


def test_what_is_not_wrks_is_no_load() -> None:
    with pytest.raises(ValueError, match="not what wrk prints"):
        parse_wrk("unable to connect")


def test_the_script_posts_the_body_with_its_headers() -> None:
    script = make_script({"authorization": "Bearer none"}, make_body("echo"))
    assert 'wrk.method = "POST"' in script
    assert 'wrk.headers["authorization"] = "Bearer none"' in script
    assert f"[==[{make_body('echo').decode()}]==]" in script


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    ],
)
async def test_an_answer_is_read_to_its_end_and_no_further(answer: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(answer + b"the next")
    assert await read_answer(reader) == 201
    assert await reader.read(8) == b"the next"


def test_a_process_tells_its_session_and_its_use() -> None:
    fields = read_stat(Path("/proc/self"))
    if not fields:
        pytest.skip("there is no /proc here")
    assert int(fields[3]) == os.getsid(0)
    assert int(fields[21]) > 0
    assert read_stat(Path("/proc/0")) == []


def test_missed_floors_are_named() -> None:
    direct, ours = Found(9000, 0, 0.1, 0), Found(600, 1.0, 0.5, 0)
    found = {DIRECT: direct, OURS.label: ours, LITELLM.label: Found(10, 9, 9, 0)}
    comparison = make_comparison(1)
    assert comparison.find_misses(found) == []
    found |= {LITELLM.label: Found(11, 9, 9, 0), PORTKEY_GATEWAY.label: Found(121, 1, 1, 2)}
    found |= {OURS.label: Found(600, 1.0, 0.6, 0)}
    assert [miss.partition(" instead")[0] for miss in comparison.find_misses(found)] == [
        "54.5 times LiteLLM proxy 1.106.2",
        "4.96 times Portkey gateway 1.15.2",
        "0.50 ms added to a lone call",
        "2 calls failed at Portkey gateway 1.15.2",
    ]


def test_a_turn_without_an_answer_counts_for_nothing() -> None:
    turns = [Found(600, 1.0, 0.0, 0), Found(700, 2.0, 0.5, 3), Found(500, 3.0, 0.7, 0)]
    assert get_median(turns) == Found(600, 2.0, 0.6, 3)


def test_the_table_tells_how_many_times_and_what_is_added() -> None:
    found = {
        DIRECT: Found(9000, 0, 0.1, 0),
        OURS.label: Found(600, 1.0, 0.5, 0),
        LITELLM.label: Found(10, 9, 9, 0),
    }
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in make_comparison(1).format_part(found, []).splitlines()
        if line.startswith("| LiteLLM")
    ]
    assert cells == [["LiteLLM proxy 1.106.2", "10", "60", "60", "9.00", "9", "9.00", "8.90"]]
