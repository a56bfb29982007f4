"""Streams that are OpenAI's own already: told by their first line, however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.dialects.openai.passing import DONE, Passing

CHUNK = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'


@given(st.lists(st.integers(0, 3 * len(CHUNK)), max_size=5), st.booleans())
def test_nothing_is_lost_wherever_it_is_cut(cuts: list[int], is_marked: bool) -> None:  # noqa: FBT001
    stream = CHUNK * 3 + (DONE if is_marked else b"")
    places = [0, *sorted(cuts), len(stream)]
    passing = Passing()
    told = [passing.feed(stream[begin:end]) for begin, end in pairwise(places)]
    assert passing.is_ours
    assert b"".join(told) + passing.end() == CHUNK * 3 + DONE


@pytest.mark.parametrize(
    "text", [b"hello", b"data and more", b"data: 7\n", b'{"choices": []}\n', b"data:" + b"x" * 70_000]
)
def test_text_is_not_taken_for_it(text: bytes) -> None:
    passing = Passing()
    assert passing.feed(text) == text
    assert passing.is_ours is False


def test_what_may_become_either_is_held() -> None:
    passing = Passing()
    assert passing.feed(b"data: ") == b""
    assert passing.is_ours is None
    assert passing.held == b"data: "


def test_an_event_that_was_not_ended_is_ended() -> None:
    passing = Passing()
    passing.feed(CHUNK + CHUNK.rstrip())
    assert passing.end() == b"\n\n" + DONE
