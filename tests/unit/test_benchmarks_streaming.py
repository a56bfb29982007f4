"""The pieces of the benchmarks of streams and of the soak: counting events, naming what was missed."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from benchmarks.server.comparing import DIRECT
from benchmarks.server.contestants import LITELLM, NGINX, OURS
from benchmarks.server.load import Load
from benchmarks.soak.__main__ import find_misses as find_soak_misses
from benchmarks.soak.__main__ import get_quarters
from benchmarks.streaming.__main__ import Found, make_comparison
from benchmarks.streaming.client import count_events
from benchmarks.streaming.mock import Api, Wish, make_chunk, make_sse

_GOOD = Load(100_000, 700.0, 60.0, 0)


def _make_event(text: str) -> bytes:
    return make_sse([{"index": 0, "delta": {"content": text}, "finish_reason": None}])


@pytest.mark.parametrize("cut", range(1, len(_make_event("word 1 ")) * 2))
def test_an_event_counts_once_however_it_is_cut(cut: int) -> None:
    whole = _make_event("word 1 ") + _make_event("word 2 ")
    body = make_chunk(whole[:cut]) + make_chunk(whole[cut:])
    assert count_events(b"HTTP/1.1 200 OK\r\n\r\n" + body + b"0\r\n\r\n") == 2


class _Writer:
    """Keeps what each write had."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    async def drain(self) -> None:
        await asyncio.sleep(0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wanted", "writes"), [("5", [1, 1, 1, 1, 1]), ("5 by 2", [1, 2, 2]), ("hello", [1])]
)
async def test_the_mock_writes_as_many_events_at_once_as_it_is_asked_for(
    wanted: str, writes: list[int]
) -> None:
    writer, api = _Writer(), Api()
    said = {"messages": [{"role": "user", "content": wanted}], "stream": True}
    await api._answer("/v1/chat/completions", said, cast("asyncio.StreamWriter", writer))
    assert [count for count in map(count_events, writer.writes) if count] == writes

    task = api._make_answer(["apps", "run"], {"input": {"text": wanted}})
    writer.writes.clear()
    await api._answer(f"/tasks/{task['id']}/stream", {}, cast("asyncio.StreamWriter", writer))
    assert [count for count in (one.count(b'"delta":') for one in writer.writes) if count] == writes


def test_what_is_asked_of_the_mock_can_be_said_in_a_message() -> None:
    assert Wish.parse(str(Wish(400, 16))) == (400, 16)
    assert Wish.parse("400") == (400, 1)
    assert Wish.parse("echo 7") == (1, 1)


@pytest.mark.anyio
async def test_the_mock_tells_in_the_end_what_it_streams() -> None:
    api = Api()
    task = api._make_answer(["apps", "run"], {"input": {"text": "12"}})
    found = api._make_answer(["tasks", task["id"]], {})
    assert found["output"]["response"].count("word ") == 12
    job = api._make_answer(["api", "jobs"], {"id": "1"})
    (told,) = api._make_answer(["api", "jobs"], {"ids": [job["id"], "another"]})
    assert told["result"]["output"]["output"].endswith("[DONE]\n\n")


def test_missed_floors_of_streams_are_named() -> None:
    found = {
        DIRECT: Found(0, 0, 0.1),
        OURS.label: Found(8000, 1, 0.5),
        LITELLM.label: Found(100, 1, 1),
        NGINX.label: Found(10_000, 1, 1),
    }
    comparison = make_comparison(1)
    assert comparison.find_misses(found) == []
    found |= {NGINX.label: Found(10_001, 1, 1), OURS.label: Found(7999, 1, 0.7)}
    assert [miss.split(" instead of ")[1] for miss in comparison.find_misses(found)] == ["80", "0.8", "0.5"]


def test_events_that_are_written_together_have_a_table_without_floors() -> None:
    found = {
        DIRECT: Found(0, 0, 0.1, 9000, 0),
        OURS.label: Found(8000, 1, 0.5, 3000, 2),
        NGINX.label: Found(10_000, 1, 1, 6000, 0.4),
    }
    comparison = make_comparison(1)
    assert comparison.find_misses(found) == []
    (_, table) = comparison.format_more(found)
    assert [line for line in table.splitlines() if "nginx" in line and "0.5 " in line and "0.4 " in line]


def test_growth_of_the_memory_is_named() -> None:
    flat = [50.0, 60.0, 70.0, 70.0, 70.0, 71.0, 70.0, 71.0]
    assert get_quarters(flat) == [55.0, 70.0, 70.5, 70.5]
    assert find_soak_misses(flat, _GOOD) == []
    assert "grows" in find_soak_misses([*flat[:6], 75.0, 76.0], _GOOD)[0]
    assert "instead of 120" in find_soak_misses([121.0, *flat[1:]], _GOOD)[0]
    assert "3 calls failed" in find_soak_misses(flat, Load(100_000, 700.0, 60.0, 3))[0]
