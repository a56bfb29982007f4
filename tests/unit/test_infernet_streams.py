from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_infernet.streams import IdLine

JOB_ID = "3e1d4e0c-1111-2222-3333-444455556666"


def split(chunks: list[bytes]) -> tuple[str | None, bytes]:
    line = IdLine()
    output = b"".join([line.feed(chunk) for chunk in chunks])
    return line.job_id, output


@given(st.binary(max_size=80), st.lists(st.integers(0, 120), max_size=12))
def test_any_chunking_gives_the_same_id_and_bytes(output: bytes, cuts: list[int]) -> None:
    whole = JOB_ID.encode() + b"\n" + output
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    chunks = [whole[a:b] for a, b in pairwise(places)]
    assert b"".join(chunks) == whole
    assert split(chunks) == (JOB_ID, output)


def test_later_newlines_and_cut_characters_are_output() -> None:
    whole = f"{JOB_ID}\nä\n\nb".encode()
    assert split([whole[:39], whole[39:]]) == (JOB_ID, "ä\n\nb".encode())


def test_an_unfinished_line_is_no_id() -> None:
    assert split([JOB_ID.encode()]) == (None, b"")


@pytest.mark.parametrize("start", [b"x" * 201, b"\n", b"\xff\xfe\n", b"a\x00b\n"])
def test_what_is_no_id_line_is_an_error(start: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  several messages, one meaning
        IdLine().feed(start)
