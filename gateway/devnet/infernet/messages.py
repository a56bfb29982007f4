"""What a job or a delegated subscription must look like, and whom the node's guardian refuses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from uuid import uuid4

from gateway.devnet.infernet.containers import Container
from gateway.devnet.infernet.delegated import (
    SIGNATURE_FIELDS,
    SUBSCRIPTION_FIELDS,
    ZERO_ADDRESS,
    find_containers,
)
from gateway.types import JSON

_LEGACY_SUBSCRIPTION_FIELDS: Mapping[str, type] = {
    "owner": str,
    "active_at": int,
    "period": int,
    "frequency": int,
    "redundancy": int,
    "max_gas_price": int,
    "max_gas_limit": int,
    "container_id": str,
    "inputs": str,
}

NO_MATCH = (
    'can not match type "dict" to any type of "None" union: '
    "typing.Union[shared.message.OffchainJobMessage, shared.message.DelegatedSubscriptionMessage]"
)
NOT_SERIALIZABLE = "Object of type MessageType is not JSON serializable"


class MalformedError(ValueError):
    """A message that the node cannot read; the text is what it puts into its 500."""


class NoMatchError(MalformedError):
    """An object that is neither a job nor a subscription: a field, never named, is missing or ill-typed."""

    def __init__(self) -> None:
        super().__init__(NO_MATCH)


@dataclass(frozen=True, slots=True)
class JobMessage:
    """A job as the node understood it."""

    id: str
    address: str
    containers: list[str]
    data: dict[str, JSON]
    requires_proof: bool = False


@dataclass(frozen=True, slots=True)
class DelegatedMessage:
    """A delegated subscription as the node understood it."""

    id: str
    address: str
    subscription: dict[str, JSON]
    signature: dict[str, JSON]
    data: dict[str, JSON]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The guardian's no. One that is not `sayable` (the node cannot write it as JSON) becomes a 500."""

    error: str
    params: dict[str, JSON] = field(default_factory=dict)
    sayable: bool = True


def parse_message(body: JSON, address: str, *, legacy: bool = False) -> JobMessage | DelegatedMessage:
    """Read one message. `legacy` is for nodes before 1.0, which know neither proofs nor today's subscription.

    An own `id` and an `ip` in the body go over what the node would have put there. Raises MalformedError.
    """
    if not isinstance(body, dict):
        raise MalformedError(f"'{type(body).__name__}' object is not a mapping")
    fields = {"id": str(uuid4()), "ip": address, **body}
    proof = None if legacy else fields.get("requires_proof")
    well_typed = (
        _has_fields(fields, {"id": str, "ip": str, "data": dict})
        and "type" not in fields
        and (proof is None or isinstance(proof, bool))
    )
    if well_typed and _is_list_of_str(fields.get("containers")):
        return JobMessage(fields["id"], fields["ip"], fields["containers"], fields["data"], bool(proof))
    wanted = _LEGACY_SUBSCRIPTION_FIELDS if legacy else SUBSCRIPTION_FIELDS
    subscription: JSON = fields.get("subscription")
    signature: JSON = fields.get("signature")
    if well_typed and _has_fields(subscription, wanted) and _has_fields(signature, SIGNATURE_FIELDS):
        return DelegatedMessage(fields["id"], fields["ip"], subscription, signature, fields["data"])
    raise NoMatchError


def check_message(
    message: JobMessage | DelegatedMessage, known: Mapping[str, Container], *, chain_enabled: bool
) -> Refusal | list[str]:
    """Return the containers that are to run, or why the guardian refuses. Raises MalformedError."""
    if isinstance(message, JobMessage):
        return check_job(message, known) or message.containers
    return check_delegated(message, known, chain_enabled=chain_enabled, now=time.time())


def _is_list_of_str(value: JSON) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _has_fields(value: JSON, fields: Mapping[str, type]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in fields.items())


def check_job(message: JobMessage, known: Mapping[str, Container]) -> Refusal | None:
    """Say why the guardian refuses a job, in its order. Raises MalformedError for an `ip` that is none."""
    names = message.containers
    if not names:
        return Refusal("No containers specified")
    for name in names:
        if name not in known:
            return Refusal("Container not supported", {"container": name})
    if not known[names[0]].external:
        return Refusal("First container must be external", {"first_container": names[0]})
    if message.requires_proof and not known[names[-1]].generates_proofs:
        return Refusal("Container does not generate proof", {"container": names[-1]})
    for name in names:
        if not _is_allowed(known[name], message.address):
            where = {"address": message.address, "container": name}
            return Refusal("Container not allowed for address", where)
    return None


def _is_allowed(container: Container, address: str) -> bool:
    if not container.allowed_ips:
        return True
    try:
        peer = ip_address(address)
    except ValueError as error:
        raise MalformedError(str(error)) from error
    return any(peer in ip_network(network, strict=False) for network in container.allowed_ips)


def check_delegated(
    message: DelegatedMessage, known: Mapping[str, Container], *, chain_enabled: bool, now: float
) -> Refusal | list[str]:
    """Return the containers of a delegated subscription, or why the guardian refuses it.

    `now` is in seconds since the epoch. Raises MalformedError where the node fails with a 500.
    """
    if not chain_enabled:
        return Refusal("Chain not enabled", sayable=False)
    if message.signature["expiry"] < int(now):
        return Refusal("Signature expired", sayable=False)
    names = find_containers(_parse_hash(message.subscription["containers"]), known)
    if not names:
        raise MalformedError("list index out of range")
    if not known[names[0]].external:
        return Refusal("First container must be external", {"first_container": names[0]})
    if message.subscription["verifier"] != ZERO_ADDRESS and not known[names[-1]].generates_proofs:
        return Refusal("Container does not generate proof", {"container": names[-1]})
    owner = _parse_address(message.subscription["owner"])
    for name in names:
        allowed = known[name].allowed_delegate_addresses
        if allowed and owner.lower() not in [address.lower() for address in allowed]:
            return Refusal("Container not allowed for address", {"address": owner, "container": name})
    return names


def _parse_hash(text: str) -> bytes:
    digits = text.removeprefix("0x")
    try:
        return bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
    except ValueError as error:
        raise MalformedError("Non-hexadecimal digit found") from error


def _parse_address(text: str) -> str:
    from eth_utils.address import to_checksum_address

    try:
        return to_checksum_address(text)
    except ValueError as error:
        raise MalformedError(str(error)) from error
