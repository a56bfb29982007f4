"""What is stored of a run: compressed where it is worth it, and the same again when it is read."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.rows import compress, decompress, encode_run
from gateway.testing.store_promises.samples import make_end, make_run

_CHUNK = '{{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{{"delta":{{"content":"{}"}}}}]}}'


def _make_words(count: int) -> list[str]:
    dice = random.Random(1)
    return ["".join(dice.choices("etaoinshrdlucm", k=dice.randint(2, 9))) for _ in range(count)]


def test_chunks_take_a_tenth_of_their_room_at_most() -> None:
    text = json.dumps("".join(f"data: {_CHUNK.format(word)}\n\n" for word in _make_words(500))).encode()
    assert len(compress(text)) < len(text) / 10
    assert decompress(compress(text)) == text
    assert decompress(text) == text  # as an older program has stored it


def test_plain_text_stays_readable() -> None:
    text = json.dumps(" ".join(_make_words(9_999))).encode()
    assert compress(text) == text


def test_small_things_stay_readable() -> None:
    assert encode_run(make_end(make_run())).startswith(b"{")
    small = b'"%b"' % (b"x" * ((1 << 14) - 3))
    assert compress(small) == small
    assert compress(b'"%b"' % (b"x" * (1 << 14))).startswith(b"\x78")


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists), st.integers(1, 3_000))
def test_whatever_it_is_comes_back(value: object, times: int) -> None:
    text = json.dumps([value] * times).encode()
    assert decompress(compress(text)) == text
