"""Revert data in words."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from gateway.chain.reverts import PANICS, Reason, ReasonKind, parse_revert
from gateway.chain.rpc import Reverted

OWNER = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
ABI: list[dict[str, Any]] = [
    {"type": "function", "name": "TooSmall", "inputs": []},
    {"type": "error", "name": "TooSmall", "inputs": [{"name": "least", "type": "uint256"}]},
    {"type": "error", "name": "NotOwner", "inputs": [{"name": "", "type": "address"}]},
    {
        "type": "error",
        "name": "Bad",
        "inputs": [
            {
                "name": "parts",
                "type": "tuple[]",
                "components": [{"type": "uint8"}, {"type": "bytes"}],
            }
        ],
    },
]


def selector(text: str) -> bytes:
    return bytes(keccak(text=text)[:4])


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", ReasonKind.EMPTY, "no reason given"),
        (selector("Error(string)") + encode(["string"], ["NotOwner"]), ReasonKind.ERROR, "NotOwner"),
        (
            selector("Panic(uint256)") + encode(["uint256"], [0x32]),
            ReasonKind.PANIC,
            "panic 0x32: array index out of bounds",
        ),
        (
            selector("Panic(uint256)") + encode(["uint256"], [0x99]),
            ReasonKind.PANIC,
            "panic 0x99: unknown panic",
        ),
        (
            selector("TooSmall(uint256)") + encode(["uint256"], [5]),
            ReasonKind.CUSTOM,
            "TooSmall(5)",
        ),
        (
            selector("NotOwner(address)") + encode(["address"], [OWNER]),
            ReasonKind.CUSTOM,
            f"NotOwner({OWNER})",
        ),
        (
            selector("Bad((uint8,bytes)[])") + encode(["(uint8,bytes)[]"], [[(1, b"\xff")]]),
            ReasonKind.CUSTOM,
            "Bad([[1, '0xff']])",
        ),
        (selector("Other()"), ReasonKind.UNKNOWN, "unknown error 0x" + selector("Other()").hex()),
        (selector("Error(string)") + b"\x01", ReasonKind.UNKNOWN, "unknown error 0x08c379a0"),
        (selector("TooSmall(uint256)"), ReasonKind.UNKNOWN, None),
        (b"\x01", ReasonKind.UNKNOWN, "unknown error 0x01"),
    ],
)
def test_reasons(data: bytes, kind: ReasonKind, words: str | None) -> None:
    reason = parse_revert(data, ABI)
    assert reason.kind is kind
    assert words is None or str(reason) == words


@given(st.binary(max_size=200))
def test_no_data_is_too_odd(data: bytes) -> None:
    for start in (b"", selector("Error(string)"), selector("Panic(uint256)"), selector("TooSmall(uint256)")):
        assert str(parse_revert(start + data, ABI))


@given(st.text(max_size=300))
def test_a_text_comes_back(text: str) -> None:
    data = selector("Error(string)") + encode(["string"], [text])
    assert parse_revert(data) == Reason(ReasonKind.ERROR, text)


def test_each_panic_has_words() -> None:
    for code, words in PANICS.items():
        data = selector("Panic(uint256)") + encode(["uint256"], [code])
        assert parse_revert(data) == Reason(ReasonKind.PANIC, words, {"code": code})


def test_an_rpc_that_sends_words_and_no_data() -> None:
    error = Reverted("eth_call: execution reverted: SourceInactive", b"")
    assert error.reason == Reason(ReasonKind.ERROR, "SourceInactive")
    assert Reverted("eth_call: execution reverted", b"").reason.kind is ReasonKind.EMPTY
    assert (
        str(Reverted("eth_call: no", selector("TooSmall(uint256)") + bytes(32)).explain(ABI)) == "TooSmall(0)"
    )
