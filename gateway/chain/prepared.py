"""A call, and the signed transaction that carries it: plain data that survives JSON and holds no key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.chain.fees import Fees
from gateway.types import JSON


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be done on a chain.

    Attributes:
        to: the contract's or account's address; None: the data is a contract to create.
        data: selector and encoded arguments.
        value: in the chain's smallest unit.
        gas: the limit; None: it is estimated.
    """

    to: str | None
    data: bytes = b""
    value: int = 0
    gas: int | None = None

    def encode(self, sender: str) -> dict[str, JSON]:
        """Return the call as eth_call and eth_estimateGas take it."""
        call = {"from": sender, "data": "0x" + self.data.hex(), "value": hex(self.value)}
        return call if self.to is None else {**call, "to": self.to}


@dataclass(frozen=True, slots=True)
class Offer:
    """What is offered for a call: the gas limit (margin included) and the fees per unit of gas."""

    gas: int
    fees: Fees

    @property
    def max_cost(self) -> int:
        """The most that its gas may cost, in the chain's smallest unit."""
        return self.gas * self.fees.max_fee


@dataclass(frozen=True, slots=True)
class Prepared:
    """A signed transaction, complete before anything is sent. Whoever has it can send it, once or often.

    Attributes:
        chain_id: it is valid on this chain only.
        sender: who signed.
        nonce: of all transactions with this sender and nonce, one lands.
        raw: the signed bytes as 0x hex.
        hash: of those bytes, as 0x hex: by this it is found again.
        gas: the limit.
        fees: what is offered per unit of gas.
    """

    chain_id: int
    sender: str
    nonce: int
    raw: str
    hash: str
    gas: int
    fees: Fees

    @property
    def max_cost(self) -> int:
        """The most that its gas may cost, in the chain's smallest unit."""
        return self.gas * self.fees.max_fee

    def encode(self) -> dict[str, JSON]:
        """Return it as JSON; numbers that outgrow JavaScript's are decimal text."""
        return {
            "chain_id": str(self.chain_id),
            "from": self.sender,
            "nonce": self.nonce,
            "raw": self.raw,
            "hash": self.hash,
            "gas": self.gas,
            "max_fee": str(self.fees.max_fee),
            "tip": None if self.fees.tip is None else str(self.fees.tip),
        }

    @classmethod
    def parse(cls, data: Mapping[str, JSON]) -> Prepared:
        """Read what `encode` wrote. Raises ValueError."""
        try:
            tip = data["tip"]
            return cls(
                chain_id=int(data["chain_id"]),
                sender=str(data["from"]),
                nonce=int(data["nonce"]),
                raw=str(data["raw"]),
                hash=str(data["hash"]),
                gas=int(data["gas"]),
                fees=Fees(int(data["max_fee"]), None if tip is None else int(tip)),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no prepared transaction ({error!r})") from error
