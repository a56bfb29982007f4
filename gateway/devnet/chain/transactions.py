"""Signed transactions of the local chain: their bytes read, their sender recovered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.types import JSON

_CREATE_GAS, _CALL_GAS, _ZERO_BYTE_GAS, _BYTE_GAS = 53_000, 21_000, 4, 16


class BadTransaction(ValueError):
    """The bytes are no transaction that this chain knows."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A signed transaction; amounts in wei, addresses checksummed. A legacy one has tip = max_fee."""

    hash: str
    raw: bytes
    kind: int  # 0 legacy, 1 with an access list, 2 with a tip (EIP-1559)
    chain_id: int | None
    nonce: int
    tip: int
    max_fee: int
    gas: int
    sender: str
    to: str | None
    value: int
    data: bytes
    v: int
    r: int
    s: int

    def get_price(self, base_fee: int) -> int:
        """Return what a unit of gas costs it in a block with that base fee."""
        return min(self.max_fee, base_fee + self.tip)

    def describe(self) -> dict[str, JSON]:
        """Return what eth_getTransactionByHash says of it, but for its place in a block."""
        answer: dict[str, JSON] = {
            "hash": self.hash,
            "type": hex(self.kind),
            "nonce": hex(self.nonce),
            "from": self.sender.lower(),
            "to": self.to.lower() if self.to else None,
            "gas": hex(self.gas),
            "gasPrice": hex(self.max_fee),
            "value": hex(self.value),
            "input": "0x" + self.data.hex(),
            "v": hex(self.v),
            "r": hex(self.r),
            "s": hex(self.s),
        }
        if self.chain_id is not None:
            answer["chainId"] = hex(self.chain_id)
        if self.kind:
            answer |= {"accessList": [], "yParity": hex(self.v)}
        if self.kind == 2:
            answer |= {"maxFeePerGas": hex(self.max_fee), "maxPriorityFeePerGas": hex(self.tip)}
        return answer


def count_intrinsic_gas(data: bytes, *, creates: bool) -> int:
    """Return the gas that a transaction costs before it does anything."""
    zeros = data.count(0)
    words = (len(data) + 31) // 32
    base = _CREATE_GAS + 2 * words if creates else _CALL_GAS
    return base + zeros * _ZERO_BYTE_GAS + (len(data) - zeros) * _BYTE_GAS


def parse_transaction(raw: bytes) -> Transaction:
    """Read a signed transaction and recover who signed it. Raises BadTransaction."""
    import rlp
    from eth_account import Account
    from eth_utils.crypto import keccak

    kind = raw[0] if raw and raw[0] < 0x80 else 0
    if kind > 2:
        raise BadTransaction("transaction type not supported")
    try:
        fields: Any = rlp.decode(raw[1:] if kind else raw)
        numbers = _read_legacy(fields) if kind == 0 else _read_typed(kind, fields)
        sender = str(Account.recover_transaction(raw))
    except Exception as error:
        # The readers below raise whatever they trip over; for a node all of it is one refusal.
        raise BadTransaction(f"failed to decode signed transaction: {error}") from error
    return Transaction(hash="0x" + keccak(raw).hex(), raw=raw, kind=kind, sender=sender, **numbers)


def _read_legacy(fields: list[bytes]) -> dict[str, Any]:
    nonce, price, gas, to, value, data, v, r, s = fields
    number = int.from_bytes(v)
    return {
        "chain_id": (number - 35) // 2 if number >= 35 else None,
        "nonce": int.from_bytes(nonce),
        "tip": int.from_bytes(price),
        "max_fee": int.from_bytes(price),
        **_read_rest(gas, to, value, data, v, r, s),
    }


def _read_typed(kind: int, fields: list[bytes]) -> dict[str, Any]:
    chain_id, nonce, *prices = fields[:4] if kind == 2 else (*fields[:3], fields[2])
    start = 4 if kind == 2 else 3
    gas, to, value, data, _access, v, r, s = fields[start:]
    return {
        "chain_id": int.from_bytes(chain_id),
        "nonce": int.from_bytes(nonce),
        "tip": int.from_bytes(prices[0]),
        "max_fee": int.from_bytes(prices[1]),
        **_read_rest(gas, to, value, data, v, r, s),
    }


def _read_rest(gas: bytes, to: bytes, value: bytes, data: bytes, *signature: bytes) -> dict[str, Any]:
    from eth_utils.address import to_checksum_address

    v, r, s = (int.from_bytes(part) for part in signature)
    return {
        "gas": int.from_bytes(gas),
        "to": str(to_checksum_address(to)) if to else None,
        "value": int.from_bytes(value),
        "data": data,
        "v": v,
        "r": r,
        "s": s,
    }
