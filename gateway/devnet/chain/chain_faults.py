"""What a chain's RPC can be told to do wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from gateway.devnet.faults import choose_word
from gateway.types import JSON

_F = TypeVar("_F", bound=StrEnum)


class ChainFault(StrEnum):
    """A way in which an RPC misbehaves. Without a method of its own a fault strikes any request."""

    ANSWER_LOST = "answer_lost"  # eth_sendRawTransaction is carried out, then the connection is reset
    ALREADY_KNOWN = "already_known"  # it is carried out, and the answer is the error "already known"
    KNOWN_AND_DROPPED = "known_and_dropped"  # the same answer, but nothing was carried out
    NONCE_TOO_LOW = "nonce_too_low"  # it is carried out, and the answer is the error "nonce too low"
    DROPPED = "dropped"  # it is answered with the hash, and nothing was carried out
    STALE_NONCE = "stale_nonce"  # eth_getTransactionCount answers what a lagging replica knows
    RECEIPT_MISSING = "receipt_missing"  # eth_getTransactionReceipt answers null
    BLOCK_NOT_FOUND = "block_not_found"  # an error object for what wants a block, "block not found"
    REORG = "reorg"  # a receipt is answered, then the newest block is replaced and its transactions are gone
    NO_BATCH = "no_batch"  # a batch is answered with one error object
    LEGACY_ONLY = (
        "legacy_only"  # no EIP-1559: no fee methods, no base fee, transactions with a tip are refused
    )
    REFUSE_TIPS = "refuse_tips"  # the same for eth_sendRawTransaction alone: it wants legacy transactions
    REFUSE = "refuse"  # the connection is reset before the request is read
    HANG = "hang"  # the request is never answered
    RATE_LIMIT = "rate_limit"  # HTTP 429, nothing is carried out
    SERVER_ERROR = "server_error"  # HTTP 502, nothing is carried out
    ERROR_AFTER = "error_after"  # the request is carried out, then answered with HTTP 502
    GARBAGE = "garbage"  # the request is carried out and answered with something that is not JSON
    ERROR_OBJECT = "error_object"  # an error object, nothing is carried out


_SEND, _RECEIPT = "eth_sendRawTransaction", "eth_getTransactionReceipt"
_BLOCK_METHODS = ("eth_estimateGas", "eth_call", "eth_getBlockByNumber", "eth_getLogs")
METHODS: Mapping[ChainFault, tuple[str, ...]] = {
    ChainFault.ANSWER_LOST: (_SEND,),
    ChainFault.ALREADY_KNOWN: (_SEND,),
    ChainFault.KNOWN_AND_DROPPED: (_SEND,),
    ChainFault.NONCE_TOO_LOW: (_SEND,),
    ChainFault.DROPPED: (_SEND,),
    ChainFault.REFUSE_TIPS: (_SEND,),
    ChainFault.STALE_NONCE: ("eth_getTransactionCount",),
    ChainFault.RECEIPT_MISSING: (_RECEIPT,),
    ChainFault.REORG: (_RECEIPT,),
    ChainFault.BLOCK_NOT_FOUND: _BLOCK_METHODS,
}
OPERATIONS = (
    *(_SEND, _RECEIPT, *_BLOCK_METHODS, "eth_getTransactionCount", "eth_getTransactionByHash"),
    *("eth_chainId", "eth_getBalance", "eth_getCode", "eth_gasPrice", "eth_maxPriorityFeePerGas"),
    *("eth_feeHistory", "batch"),
)


@dataclass(slots=True)
class _Armed(Generic[_F]):
    fault: _F
    on: tuple[str, ...]
    times: int | None
    skip: int


@dataclass(slots=True)
class ArmedFaults(Generic[_F]):
    """Faults of one kind that are armed at one server; what they can be armed for are words of that server.

    Attributes:
        kind: of the faults.
        usual: what a fault is for if nothing else is said; without an entry it is for everything.
        operations: all that one can be for.
        lasting: faults that are what the server is, not what happens to it: they stay until they are cleared.
    """

    kind: type[_F]
    usual: Mapping[_F, tuple[str, ...]]
    operations: tuple[str, ...]
    lasting: tuple[_F, ...] = ()
    _armed: list[_Armed[_F]] = field(default_factory=list)

    def arm_word(self, fault: str, *, on: str | None = None, times: int | None = 1, skip: int = 0) -> None:
        """Arm what a terminal says. Raises InvalidInput with the nearest right word."""
        chosen = self.kind(choose_word("fault", fault, tuple(self.kind)))
        place = None if on is None else choose_word("operation", on, self.operations)
        self.arm(chosen, on=place, times=None if chosen in self.lasting else times, skip=skip)

    def arm(self, fault: _F, *, on: str | None = None, times: int | None = 1, skip: int = 0) -> None:
        """Let `fault` strike the next `times` of those operations (None: all), after `skip` good ones."""
        where = (on,) if on is not None else self.usual.get(fault, ())
        self._armed.append(_Armed(fault, where, times, skip))

    def take(self, on: str, among: Collection[_F]) -> _F | None:
        """Say which armed fault of `among` strikes this operation now, and use it up."""
        for armed in self._armed:
            if armed.fault not in among or (armed.on and on not in armed.on):
                continue
            if armed.skip:
                armed.skip -= 1
                continue
            if armed.times is not None:
                armed.times -= 1
                if armed.times <= 0:
                    self._armed.remove(armed)
            return armed.fault
        return None

    def is_armed(self, fault: _F) -> bool:
        """Say whether a fault would strike, without using it up."""
        return any(armed.fault is fault and not armed.skip for armed in self._armed)

    def clear(self) -> None:
        """Disarm everything."""
        self._armed.clear()

    def describe(self) -> list[dict[str, JSON]]:
        """Return what is armed, for a control page."""
        return [
            {"fault": a.fault.value, "on": list(a.on), "times": a.times, "skip": a.skip} for a in self._armed
        ]


class ChainFaults(ArmedFaults[ChainFault]):
    """Faults of an RPC; they are armed for JSON-RPC methods."""

    def __init__(self) -> None:
        super().__init__(ChainFault, METHODS, OPERATIONS, (ChainFault.LEGACY_ONLY,))
