"""What a contract said when it refused, in words. Pure; it knows a contract by a given ABI only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.types import JSON

_ERROR = bytes.fromhex("08c379a0")  # Error(string)
_PANIC = bytes.fromhex("4e487b71")  # Panic(uint256)

PANICS: Mapping[int, str] = {
    0x00: "generic panic",
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "no such enum value",
    0x22: "badly encoded storage bytes",
    0x31: "pop of an empty array",
    0x32: "array index out of bounds",
    0x41: "too much memory allocated",
    0x51: "call of an uninitialised function",
}
"""The codes of Panic(uint256), from the Solidity documentation."""


class ReasonKind(StrEnum):
    """In which form a contract gave its reason."""

    ERROR = "error"  # require(x, "text"): Error(string)
    PANIC = "panic"  # the compiler's own checks: Panic(uint256)
    CUSTOM = "custom"  # an error of the given ABI
    UNKNOWN = "unknown"  # a selector that the ABI does not have
    EMPTY = "empty"  # no data: `revert()`, out of gas, or no contract there


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a contract refused.

    Attributes:
        kind: the form of it.
        name: the text of Error(string), the error's name of CUSTOM, the words of a panic, the selector in hex
            of UNKNOWN, "" of EMPTY.
        arguments: of CUSTOM by name (by position where it has none), and {"code": int} of PANIC; addresses
            are checksummed text, bytes are hex, integers are Python's.
    """

    kind: ReasonKind
    name: str = ""
    arguments: Mapping[str, JSON] | None = None

    def __str__(self) -> str:
        if self.kind is ReasonKind.EMPTY:
            return "no reason given"
        if self.kind is ReasonKind.PANIC:
            code = (self.arguments or {}).get("code", 0)
            return f"panic 0x{code:02x}: {self.name}"
        if self.kind is ReasonKind.CUSTOM:
            return f"{self.name}({', '.join(str(value) for value in (self.arguments or {}).values())})"
        return f"unknown error {self.name}" if self.kind is ReasonKind.UNKNOWN else self.name


def parse_revert(data: bytes, abi: Iterable[Mapping[str, Any]] = ()) -> Reason:
    """Read revert data; never raises: what can't be read is UNKNOWN.

    Args:
        data: selector and arguments, as `Reverted.data` has them.
        abi: entries of a contract's ABI; those of type "error" are looked at.
    """
    if not data:
        return Reason(ReasonKind.EMPTY)
    selector, body = data[:4], data[4:]
    if selector == _ERROR:
        values = _decode(["string"], body)
        return Reason(ReasonKind.ERROR, values[0]) if values else _make_unknown(data)
    if selector == _PANIC:
        values = _decode(["uint256"], body)
        if not values:
            return _make_unknown(data)
        return Reason(ReasonKind.PANIC, PANICS.get(values[0], "unknown panic"), {"code": values[0]})
    return _parse_custom(selector, body, abi) or _make_unknown(data)


def _parse_custom(selector: bytes, body: bytes, abi: Iterable[Mapping[str, Any]]) -> Reason | None:
    from eth_utils.crypto import keccak

    for entry in abi:
        if entry.get("type") != "error":
            continue
        inputs = entry.get("inputs") or []
        types = [_encode_type(item) for item in inputs]
        if keccak(text=f"{entry['name']}({','.join(types)})")[:4] != selector:
            continue
        values = _decode(types, body)
        if values is None:
            return None
        names = [item.get("name") or str(place) for place, item in enumerate(inputs)]
        pairs = zip(names, types, values, strict=True)
        return Reason(
            ReasonKind.CUSTOM, entry["name"], {name: _make_json(kind, value) for name, kind, value in pairs}
        )
    return None


def _encode_type(item: Mapping[str, Any]) -> str:
    """Return the canonical type of an ABI input: tuples are spelled out."""
    kind = str(item["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_encode_type(part) for part in item['components'])}){kind.removeprefix('tuple')}"


def _decode(types: list[str], body: bytes) -> tuple[Any, ...] | None:
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    try:
        return tuple(decode(types, body))
    except (DecodingError, OverflowError, UnicodeDecodeError):
        return None


def _make_json(kind: str, value: Any) -> JSON:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple | list):
        return [_make_json("", part) for part in value]
    if kind == "address":
        from eth_utils.address import to_checksum_address

        return str(to_checksum_address(value))
    return value


def _make_unknown(data: bytes) -> Reason:
    return Reason(ReasonKind.UNKNOWN, "0x" + data[:4].hex())
