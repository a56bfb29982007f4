"""Blocks of the local chain, and what the RPC says of them and of what is in them."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.devnet.chain.ledger import GAS_LIMIT, Outcome
from gateway.devnet.chain.transactions import Transaction
from gateway.types import JSON

_NO_BLOOM = "0x" + "00" * 256  # nobody here reads it
_ZERO = "0x" + "00" * 32


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction in a block, and what became of it there. `first_log` numbers its logs in the block."""

    transaction: Transaction
    outcome: Outcome
    price: int
    total_gas: int
    first_log: int


@dataclass(slots=True)
class Block:
    """One block; its hash is over all that makes it, so a replacement has another one."""

    number: int
    timestamp: int
    parent: str
    base_fee: int
    salt: int = 0
    mined: list[Mined] = field(default_factory=list)
    hash: str = ""

    def seal(self) -> None:
        """Give it its hash; nothing may be put in afterwards."""
        from eth_utils.crypto import keccak

        inside = "".join(each.transaction.hash for each in self.mined)
        what = f"{self.number} {self.timestamp} {self.parent} {self.salt} {inside}"
        self.hash = "0x" + keccak(text=what).hex()

    @property
    def gas_used(self) -> int:
        """The gas of all its transactions."""
        return self.mined[-1].total_gas if self.mined else 0

    def describe(self, *, whole: bool) -> dict[str, JSON]:
        """Return what eth_getBlockByNumber says; `whole` puts the transactions in, not only their hashes."""
        inside: list[JSON] = [each.transaction.hash for each in self.mined]
        if whole:
            inside = [self.describe_transaction(index) for index in range(len(self.mined))]
        return {
            "number": hex(self.number),
            "hash": self.hash,
            "parentHash": self.parent,
            "timestamp": hex(self.timestamp),
            "baseFeePerGas": hex(self.base_fee),
            "gasLimit": hex(GAS_LIMIT),
            "gasUsed": hex(self.gas_used),
            "transactions": inside,
            "miner": "0x" + "00" * 20,
            "difficulty": "0x0",
            "totalDifficulty": "0x0",
            "extraData": "0x",
            "nonce": "0x" + "00" * 8,
            "mixHash": _ZERO,
            "sha3Uncles": _ZERO,
            "stateRoot": _ZERO,
            "transactionsRoot": _ZERO,
            "receiptsRoot": _ZERO,
            "logsBloom": _NO_BLOOM,
            "size": "0x0",
            "uncles": [],
        }

    def describe_transaction(self, index: int) -> dict[str, JSON]:
        """Return what eth_getTransactionByHash says of one of them."""
        mined = self.mined[index]
        place = {"blockHash": self.hash, "blockNumber": hex(self.number), "transactionIndex": hex(index)}
        return {**mined.transaction.describe(), **place, "gasPrice": hex(mined.price)}

    def describe_receipt(self, index: int) -> dict[str, JSON]:
        """Return what eth_getTransactionReceipt says of one of them."""
        mined = self.mined[index]
        transaction, outcome = mined.transaction, mined.outcome
        return {
            "transactionHash": transaction.hash,
            "transactionIndex": hex(index),
            "blockHash": self.hash,
            "blockNumber": hex(self.number),
            "from": transaction.sender.lower(),
            "to": transaction.to.lower() if transaction.to else None,
            "contractAddress": outcome.created.lower() if outcome.created else None,
            "status": hex(int(outcome.ok)),
            "type": hex(transaction.kind),
            "gasUsed": hex(outcome.gas_used),
            "cumulativeGasUsed": hex(mined.total_gas),
            "effectiveGasPrice": hex(mined.price),
            "logsBloom": _NO_BLOOM,
            "logs": self.describe_logs(index),
        }

    def describe_logs(self, index: int) -> list[JSON]:
        """Return the events of one of them."""
        mined = self.mined[index]
        return [
            {
                "address": log.address.lower(),
                "topics": list(log.topics),
                "data": log.data,
                "blockNumber": hex(self.number),
                "blockHash": self.hash,
                "blockTimestamp": hex(self.timestamp),
                "transactionHash": mined.transaction.hash,
                "transactionIndex": hex(index),
                "logIndex": hex(mined.first_log + number),
                "removed": False,
            }
            for number, log in enumerate(mined.outcome.logs)
        ]
