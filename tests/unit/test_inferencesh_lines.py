"""Cutting a stream into lines and merging what they say: laws, and the cases behind them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_inferencesh.lines import (
    Delta,
    Heartbeat,
    LineSplitter,
    LineTooLong,
    Part,
    merge_delta,
    merge_part,
    parse_line,
)

lines_of_bytes = st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b"")))
fields = st.dictionaries(
    st.sampled_from(["output", "error", "session_id", "logs"]), st.integers() | st.none() | st.text()
)


def cut(raw: bytes, borders: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(border % (len(raw) + 1) for border in borders)})
    return [raw[a:b] for a, b in pairwise(edges)] or [b""]


def split(chunks: list[bytes], max_line_bytes: int = 1000) -> list[bytes]:
    splitter = LineSplitter(max_line_bytes)
    found = [line for chunk in chunks for line in splitter.feed(chunk)]
    rest = splitter.flush()
    return [*found, rest] if rest else found


class TestSplitter:
    @given(
        lines_of_bytes, st.lists(st.integers(0)), st.sampled_from([b"\n", b"\r\n"]), st.sampled_from([0, 1])
    )
    def test_any_chunking_gives_the_same_lines(
        self, lines: list[bytes], borders: list[int], end: bytes, ends: int
    ) -> None:
        raw = end.join(lines) + end * ends
        assert split(cut(raw, borders)) == [line for line in lines if line]

    @given(st.integers(1, 50), st.lists(st.integers(0), max_size=5))
    def test_the_limit_is_exact_whatever_the_chunking(self, limit: int, borders: list[int]) -> None:
        fits = b"x" * limit
        assert split(cut(fits + b"\n" + fits, borders), limit) == [fits, fits]
        with pytest.raises(LineTooLong):
            split(cut(fits + b"x\n", borders), limit)

    def test_an_endless_line_is_not_collected(self) -> None:
        splitter = LineSplitter(10)
        assert not [*splitter.feed(b"12345"), *splitter.feed(b"12345")]
        with pytest.raises(LineTooLong):
            list(splitter.feed(b"1"))


class TestParse:
    def parse(self, value: Any) -> Any:
        return parse_line(json.dumps(value).encode(), "t1")

    def test_the_kinds(self) -> None:
        assert self.parse({"id": "t1", "status": 7}) == Part({"id": "t1", "status": 7})
        assert self.parse({"data": {"status": 7}, "fields": ["status"]}) == Part({"status": 7}, ("status",))
        assert self.parse({"data": {"status": 7}}) == Part({"status": 7})
        assert self.parse({"data": {"status": 7}, "fields": []}) == Part({"status": 7})
        assert self.parse({"type": "heartbeat"}) == Heartbeat()
        delta = {"event": "delta", "data": {"delta": {"response": "a"}, "seq": 3, "resource_id": "m"}}
        assert self.parse(delta) == Delta({"response": "a"}, 3, "m")
        assert self.parse({"event": "tasks", "data": {"status": 7}}) == Part({"status": 7})

    @pytest.mark.parametrize(
        "value",
        [
            None,
            7,
            "text",
            [],
            [1],
            {},
            {"id": None, "status": 500},
            {"type": "https://api.inference.sh/errors/x", "status": 500},
            {"id": "another", "status": 10},
            {"data": {"id": "another", "status": 10}},
            {"event": "chats", "data": {"id": "t1", "status": 10}},
            {"event": "delta", "data": None},
            {"event": "delta", "data": {"delta": "x"}},
            {"data": []},
        ],
    )
    def test_what_means_nothing_is_ignored(self, value: Any) -> None:
        assert self.parse(value) is None

    @given(st.binary())
    def test_no_bytes_break_it(self, raw: bytes) -> None:
        parse_line(raw, "t1")


class TestMergePart:
    def test_a_status_alone_keeps_the_rest(self) -> None:
        task = {"id": "t1", "status": 7, "output": {"a": 1}, "session_id": "s"}
        merged = merge_part(task, Part({"status": 10}, ("status",)))
        assert merged == {**task, "status": 10}

    def test_fields_that_are_not_named_do_not_count(self) -> None:
        task = {"id": "t1", "status": 7, "output": {"a": 1}}
        empty = {"id": "", "status": 0, "output": None, "error": "e"}
        assert merge_part(task, Part(empty, ("error",))) == {**task, "error": "e"}

    @pytest.mark.parametrize("status", [0, 99, "dreaming", None])
    def test_a_status_that_says_nothing_changes_nothing(self, status: Any) -> None:
        task = {"status": 7, "status_text": "running"}
        assert merge_part(task, Part({"status": status, "status_text": "?"})) == task

    def test_nothing_takes_an_ended_task_back(self) -> None:
        assert merge_part({"status": 10}, Part({"status": 7, "output": 1})) == {"status": 10, "output": 1}

    @given(fields, fields)
    def test_what_is_named_holds_and_the_rest_stays(self, task: Any, data: Any) -> None:
        merged = merge_part(task, Part(data, tuple(data)))
        assert merged == {**task, **data}
        assert merge_part(merged, Part(data, tuple(data))) == merged

    @given(fields, fields, fields)
    def test_parts_without_a_common_field_may_come_in_any_order(
        self, task: Any, one: Any, other: Any
    ) -> None:
        other = {name: value for name, value in other.items() if name not in one}
        a = merge_part(merge_part(task, Part(one)), Part(other))
        b = merge_part(merge_part(task, Part(other)), Part(one))
        assert a == b

    @given(fields, fields)
    def test_the_task_itself_is_left_alone(self, task: Any, data: Any) -> None:
        before = dict(task)
        merge_part(task, Part(data))
        assert task == before


class TestMergeDelta:
    @given(st.lists(st.text(), min_size=1))
    def test_text_is_whole_however_it_was_cut(self, pieces: list[str]) -> None:
        answer: dict[str, Any] = {}
        for piece in pieces:
            answer = merge_delta(answer, {"response": piece, "reasoning": piece})
        assert answer == {"response": "".join(pieces), "reasoning": "".join(pieces)}

    def test_tool_calls_are_put_together_by_index(self) -> None:
        steps = [
            [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x'}}],
            [{"index": 1, "id": "b", "function": {"name": "g"}}],
            [{"index": 0, "function": {"arguments": '": 1}'}}],
        ]
        answer: dict[str, Any] = {}
        for step in steps:
            answer = merge_delta(answer, {"tool_calls": step})
        assert answer["tool_calls"] == [
            {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
            {"index": 1, "id": "b", "function": {"name": "g"}},
        ]

    def test_other_fields_are_replaced(self) -> None:
        assert merge_delta({"finish": "no"}, {"finish": "yes"}) == {"finish": "yes"}
        assert merge_delta({"response": None}, {"response": "a"}) == {"response": "a"}
