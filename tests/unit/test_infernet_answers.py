from __future__ import annotations

import json
import math
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.devnet.chain.delegate import FIVE_KEYS, encode_output
from gateway_infernet.answers import Form, parse_answer

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def as_text(text: str) -> bytes:
    return bytes(encode(["string"], [text]))


@given(json_values)
@settings(deadline=None)
def test_what_a_node_writes_is_read_back(output: Any) -> None:
    form, read = parse_answer(*encode_output(output))

    assert form is Form.OBJECT
    assert read == output
    assert json.dumps(read) == json.dumps(output)


@given(st.lists(st.binary(max_size=80), min_size=5, max_size=5))
@settings(deadline=None)
def test_the_five_keys_are_read_back(parts: list[bytes]) -> None:
    output = {key: part.hex() for key, part in zip(FIVE_KEYS, parts, strict=True)}

    assert parse_answer(*encode_output(output)) == (Form.PROOF, output)


@given(st.binary(), st.binary(), st.binary())
@settings(deadline=None)
def test_nothing_breaks_it(input_: bytes, output: bytes, proof: bytes) -> None:
    form, read = parse_answer(input_, output, proof)
    assert form in Form
    json.dumps(read)


@given(st.text())
@settings(deadline=None)
def test_any_text_comes_as_something(text: str) -> None:
    form, read = parse_answer(b"", as_text(text), b"")
    assert form is Form.OBJECT or read == text


def test_floats_that_are_no_numbers() -> None:
    _, read = parse_answer(*encode_output([math.nan, math.inf, -math.inf]))
    assert math.isnan(read[0])
    assert read[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    "text",
    [
        "hello world",
        "{'a': 1",
        "b'bytes'",
        "(1, 2)",
        "{1: 2}",
        "__import__('os').system('true')",
        "nan.real",
        "'\\d' or 1",
        "[" * 100_000,
        "-" * 100_000 + "1",
        "9" * 10_000,
        "",
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_repr_of_json_stays_text(text: str) -> None:
    assert parse_answer(b"", as_text(text), b"") == (Form.TEXT, text)


@pytest.mark.parametrize("output", [b"", b"\x01", b"\x00" * 64, as_text("x") + b"\x00"])
def test_other_bytes_stay_bytes(output: bytes) -> None:
    assert parse_answer(b"", output, b"") == (
        Form.BYTES,
        {"input": "", "output": output.hex(), "proof": ""},
    )
