"""The ABI of Infernet's contracts (SDK 1.x), as far as delegated subscriptions need it.

Selectors and topics follow from the signatures written here; a test compares them with the measured ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from gateway.errors import Misbehaved
from gateway_infernet.delegated import SUBSCRIPTION_TUPLE
from gateway_infernet.subscription import load_extra

_Types = tuple[str, ...]
_SIGNED: _Types = ("uint32", "uint32", SUBSCRIPTION_TUPLE, "uint8", "bytes32", "bytes32")
_DELIVERED: _Types = ("uint32", "bytes", "bytes", "bytes", "address")

FUNCTIONS: Mapping[str, tuple[_Types, _Types]] = {
    # The Registry.
    "COORDINATOR": ((), ("address",)),
    "INBOX": ((), ("address",)),
    # The Coordinator.
    "eip712Domain": ((), ("bytes1", "string", "string", "uint256", "address", "bytes32", "uint256[]")),
    "createSubscriptionDelegatee": (_SIGNED, ("uint32",)),
    "deliverComputeDelegatee": (_SIGNED + _DELIVERED, ()),
    "deliverCompute": (("uint32", *_DELIVERED), ()),
    "delegateCreatedIds": (("bytes32",), ("uint32",)),
    "redundancyCount": (("bytes32",), ("uint16",)),
    "nodeResponded": (("bytes32",), ("bool",)),
    "maxSubscriberNonce": (("address",), ("uint32",)),
    "getSubscription": (("uint32",), (SUBSCRIPTION_TUPLE,)),
    "cancelSubscription": (("uint32",), ()),
    # The Inbox.
    "read": (("bytes32", "address", "uint256"), ("(uint32,uint32,uint32,bytes,bytes,bytes)",)),
    # The owner of subscriptions.
    "getSigner": ((), ("address",)),
    "getContainerInputs": (("uint32", "uint32", "uint32", "address"), ("bytes",)),
}
"""Function to the types of its arguments and of what it returns."""

EVENTS: Mapping[str, str] = {
    "SubscriptionCreated": "SubscriptionCreated(uint32)",
    "SubscriptionFulfilled": "SubscriptionFulfilled(uint32,address)",
    "SubscriptionCancelled": "SubscriptionCancelled(uint32)",
    "NewInboxItem": "NewInboxItem(bytes32,address,uint256)",
}
"""Event to its signature."""

ERRORS = (
    "SignerMismatch",
    "SignatureExpired",
    "InvalidSignature",
    "InvalidWallet",
    "IntervalMismatch",
    "IntervalCompleted",
    "NodeRespondedAlready",
    "SubscriptionNotFound",
    "NotSubscriptionOwner",
    "SubscriptionCompleted",
    "SubscriptionNotActive",
)
"""Custom errors; none has arguments."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Which contracts are followed. `inbox` is None if only the coordinator is known."""

    chain_id: int
    coordinator: str
    inbox: str | None


@cache
def get_selector(function: str) -> bytes:
    """Return the four bytes that a call of the function begins with."""
    arguments, _ = FUNCTIONS[function]
    return _keccak(f"{function}({','.join(arguments)})")[:4]


@cache
def get_topic(event: str) -> bytes:
    """Return the event's first topic."""
    return _keccak(EVENTS[event])


def get_error(data: bytes) -> str | None:
    """Return the name of the custom error in revert data, None if it is none of ERRORS."""
    return _make_error_table().get(data[:4])


def encode_call(function: str, *arguments: Any) -> bytes:
    """Return the calldata of a call."""
    encoded: bytes = load_extra("eth_abi").encode(FUNCTIONS[function][0], arguments)
    return get_selector(function) + encoded


def encode_key(types: Sequence[str], *values: Any) -> bytes:
    """Return keccak256(abi.encode(...)), the key of the coordinator's mappings."""
    digest: bytes = load_extra("eth_utils").keccak(load_extra("eth_abi").encode(types, values))
    return digest


def parse_result(function: str, data: bytes) -> tuple[Any, ...]:
    """Read what a call returned. Raises Misbehaved if it can't be that."""
    return _decode(FUNCTIONS[function][1], data, f"the answer to {function}")


def parse_arguments(calldata: bytes) -> tuple[str, tuple[Any, ...]] | None:
    """Read calldata: the function and its arguments. None if it is no function of FUNCTIONS.

    Raises Misbehaved if it is one and its arguments can't be read.
    """
    for function in FUNCTIONS:
        if calldata[:4] == get_selector(function):
            return function, _decode(FUNCTIONS[function][0], calldata[4:], f"the call of {function}")
    return None


def _decode(types: Sequence[str], data: bytes, what: str) -> tuple[Any, ...]:
    abi = load_extra("eth_abi")
    try:
        values: tuple[Any, ...] = abi.decode(types, data)
    except (abi.exceptions.DecodingError, OverflowError, UnicodeDecodeError) as error:
        raise Misbehaved(f"{what} can't be read ({type(error).__name__})") from error
    return values


@cache
def _make_error_table() -> Mapping[bytes, str]:
    return {_keccak(f"{name}()")[:4]: name for name in ERRORS}


def _keccak(text: str) -> bytes:
    digest: bytes = load_extra("eth_utils").keccak(text=text)
    return digest
