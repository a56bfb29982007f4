"""The ABI of OGPU's contracts, as far as a client needs it (SDK 0.2.3; its files are those of 0.2.1).

Selectors and topics follow from the signatures written here; a test compares them with the measured ones.
No event has an indexed argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from gateway.chain.rpc import Log
from gateway.errors import Misbehaved
from gateway.types import JSON

_Types = tuple[str, ...]
SOURCE_PARAMS = "(address,string,uint8,uint256,uint256,uint256,bool,string,uint8,uint256)"
TASK_PARAMS = "(address,string,uint256,uint256)"
RESPONSE_PARAMS = "(address,address,string,uint256)"
ZERO_ADDRESS = "0x" + "0" * 40

_ADDRESS: _Types = ("address",)
_NUMBER: _Types = ("uint256",)
_BOOL: _Types = ("bool",)
_RANGE: _Types = ("uint256", "uint256")
_ADDRESSES: _Types = ("address[]",)

FUNCTIONS: Mapping[str, tuple[_Types, _Types]] = {
    # Controller
    "publishTask": ((TASK_PARAMS,), ()),
    "confirmResponse": (_ADDRESS, ()),
    "cancelTask": (_ADDRESS, ()),
    # Nexus
    "publishSource": ((SOURCE_PARAMS,), ()),
    "updateSource": (("address", SOURCE_PARAMS), ()),
    "inactivateSource": (_ADDRESS, ()),
    "getSourceCount": ((), _NUMBER),
    "getSources": (_RANGE, _ADDRESSES),
    "getSourceId": (_ADDRESS, _NUMBER),
    "manager": ((), _ADDRESS),
    # Source, Task, Response
    "getStatus": ((), ("uint8",)),
    # Source
    "getClient": ((), _ADDRESS),
    "getSourceParams": ((), (SOURCE_PARAMS,)),
    "getTaskCount": ((), _NUMBER),
    "getTasks": (_RANGE, _ADDRESSES),
    "getRegistrantCount": ((), _NUMBER),
    "getRegistrants": (_RANGE, _ADDRESSES),
    "getRegistrantId": (_ADDRESS, _NUMBER),
    # Task
    "taskParams": ((), ("address", "string", "uint256", "uint256")),
    "getDeliveryMethod": ((), ("uint8",)),
    "getAttemptCount": ((), _NUMBER),
    "getAttempters": (_RANGE, _ADDRESSES),
    "getAttemptTimestamps": (_RANGE, ("uint256[]",)),
    "getResponsesOf": (_RANGE, _ADDRESSES),
    "responseOf": (_ADDRESS, _ADDRESS),
    "winningProvider": ((), _ADDRESS),
    # Response
    "getResponseParams": ((), (RESPONSE_PARAMS,)),
    "confirmedFinal": ((), _BOOL),
    "responseTimestamp": ((), _NUMBER),
    # Vault
    "deposit": (_ADDRESS, ()),
    "withdraw": (_NUMBER, ()),
    "lock": (_NUMBER, ()),
    "unbond": (_NUMBER, ()),
    "cancelUnbonding": ((), ()),
    "claim": ((), ()),
    "balanceOf": (_ADDRESS, _NUMBER),
    "lockupOf": (_ADDRESS, _NUMBER),
    "unbondingOf": (_ADDRESS, _NUMBER),
    "unbondingTimestamp": (_ADDRESS, _NUMBER),
    "frozenPayment": (_ADDRESS, _NUMBER),
    "totalEarningsOf": (_ADDRESS, _NUMBER),
    "sanctionOf": (_ADDRESS, _NUMBER),
    "isEligible": (_ADDRESS, _BOOL),
    "isWhitelisted": (_ADDRESS, _BOOL),
    "MIN_LOCKUP_PER_SOURCE": ((), _NUMBER),
    "UNBONDING_PERIOD": ((), _NUMBER),
    # Terminal
    "setAgent": (("address", "bool"), ()),
    "isAgentOf": (("address", "address"), _BOOL),
    "getIsAgentOf": (("address", "address"), _BOOL),
}
"""Function to the types of its arguments and of what it returns."""

EVENTS: Mapping[str, Mapping[str, str]] = {
    "TaskPublished": {"task": "address", "source": "address"},
    "TaskStatusChanged": {"task": "address", "status": "uint8"},
    "Attempted": {"task": "address", "provider": "address", "suggested_payment": "uint256"},
    "ResponseSubmitted": {"response": "address", "task": "address"},
    "ResponseStatusChanged": {"response": "address", "status": "uint8"},
    "SourcePublished": {"source": "address"},
    "SourceStatusChanged": {"source": "address", "status": "uint8"},
    "SourceUpdated": {"source": "address", "params": SOURCE_PARAMS},
    "Registered": {
        "provider": "address",
        "registrant_id": "uint256",
        "source": "address",
        "environment": "uint8",
    },
}
"""Event of the Nexus to its arguments by name."""

ERRORS: tuple[Mapping[str, Any], ...] = (
    {
        "type": "error",
        "name": "OwnableUnauthorizedAccount",
        "inputs": [{"name": "account", "type": "address"}],
    },
    {"type": "error", "name": "OwnableInvalidOwner", "inputs": [{"name": "owner", "type": "address"}]},
    {
        "type": "error",
        "name": "AccessControlUnauthorizedAccount",
        "inputs": [{"name": "account", "type": "address"}, {"name": "neededRole", "type": "bytes32"}],
    },
    {"type": "error", "name": "AccessControlBadConfirmation", "inputs": []},
)
"""The custom errors that the ABI declares; what the contracts say themselves is text."""


@dataclass(frozen=True, slots=True)
class NexusEvent:
    """Something that the Nexus told: its name, its arguments by name, and where it stands."""

    name: str
    arguments: Mapping[str, JSON]
    block_number: int
    transaction: str
    index: int


@cache
def get_selector(function: str) -> bytes:
    """Return the four bytes that a call of the function begins with."""
    arguments, _ = FUNCTIONS[function]
    return _keccak(f"{function}({','.join(arguments)})")[:4]


@cache
def get_topic(event: str) -> bytes:
    """Return the event's first, and only, topic."""
    return _keccak(f"{event}({','.join(EVENTS[event].values())})")


def encode_call(function: str, *arguments: Any) -> bytes:
    """Return the calldata of a call."""
    from eth_abi.abi import encode

    return get_selector(function) + bytes(encode(FUNCTIONS[function][0], arguments))


def parse_result(function: str, data: bytes) -> Any:
    """Read what a call returned: the value, or a tuple of several. Raises Misbehaved."""
    values = _decode(FUNCTIONS[function][1], data, f"the answer to {function}")
    return values[0] if len(values) == 1 else values


def parse_event(log: Log) -> NexusEvent | None:
    """Read a log; None if it is no event that we know. Raises Misbehaved if it can't be read."""
    name = _names_by_topic().get(log.topics[0] if log.topics else b"")
    if name is None:
        return None
    arguments = EVENTS[name]
    values = _decode(tuple(arguments.values()), log.data, name)
    return NexusEvent(
        name, dict(zip(arguments, values, strict=True)), log.block_number, log.transaction, log.index
    )


def to_checksum(address: str) -> str:
    """Return an address as it is written."""
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(address))


def _decode(types: _Types, data: bytes, what: str) -> tuple[Any, ...]:
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    # A string is read as bytes, which lie there in the same way: who answers a task may write any into one.
    plain = [kind.replace("string", "bytes") for kind in types]
    try:
        values = decode(plain, data)
    except (DecodingError, OverflowError) as error:
        raise Misbehaved(f"{what} can't be read ({type(error).__name__})") from error
    return tuple(_tidy(kind, value) for kind, value in zip(types, values, strict=True))


def _tidy(kind: str, value: Any) -> Any:
    if kind == "address":
        return to_checksum(value)
    if kind == "address[]":
        return [to_checksum(one) for one in value]
    if kind == "string":
        return value.decode("utf-8", "replace")
    if kind.startswith("("):
        return tuple(_tidy(part, one) for part, one in zip(kind[1:-1].split(","), value, strict=True))
    return list(value) if isinstance(value, tuple) else value


@cache
def _names_by_topic() -> Mapping[bytes, str]:
    return {get_topic(name): name for name in EVENTS}


def _keccak(text: str) -> bytes:
    from eth_utils.crypto import keccak

    return bytes(keccak(text=text))
