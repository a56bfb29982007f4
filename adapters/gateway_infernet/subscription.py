"""What a delegated subscription is, as values, and every check of it that needs no chain.

Subscription and Signature carry the wire's own names and numbers: times are seconds since the epoch, a period
is in seconds, an amount is in the token's smallest unit.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from gateway.chain.loading import kept_recursion_limit
from gateway.errors import ConfigError, Misbehaved, Rejected
from gateway.types import JSON

ZERO_ADDRESS = "0x" + "0" * 40
NEVER = 2**32 - 1
"""An active_at of this value marks a cancelled subscription."""

_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")
_UINT_BITS = {"active_at": 32, "period": 32, "frequency": 32, "redundancy": 16, "payment_amount": 256}
_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class DelegationRefused(Rejected):
    """A delegated subscription that can't work. It was found out before anything was sent."""


class BadSubscription(DelegationRefused):
    """A field of the subscription is out of its range or contradicts another; `code` names the field."""


class BadSignature(DelegationRefused):
    """A field of the signature is out of its range, or it is no signature; `code` names the field."""


class SignatureExpired(DelegationRefused):
    """The signature's expiry has passed; a new one is needed."""


class SignerMismatch(DelegationRefused):
    """Somebody else than the owner contract's signer signed, or for another chain or coordinator."""


class OwnerNotDelegator(DelegationRefused):
    """The owner is not a contract with getSigner(), so nobody can sign for it."""


class NonceUsed(DelegationRefused):
    """The owner has used this nonce: the coordinator would take the old subscription for the new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What the coordinator is asked to create.

    Attributes:
        owner: the consumer contract; it names who signs for it (getSigner) and gets the eager results.
        containers: ids in the order in which they run.
        active_at: from when on, in seconds since the epoch.
        period: seconds from one interval to the next; 0 for a single interval.
        frequency: how many intervals.
        redundancy: how many nodes answer each interval.
        lazy: results are left in the Inbox instead of being handed to the owner.
        verifier: the contract that checks proofs, or zero.
        payment_amount: per answer, in the token's smallest unit.
        payment_token: zero for the chain's own coin.
        wallet: who pays, or zero.
    """

    owner: str
    containers: tuple[str, ...]
    active_at: int
    period: int = 0
    frequency: int = 1
    redundancy: int = 1
    lazy: bool = False
    verifier: str = ZERO_ADDRESS
    payment_amount: int = 0
    payment_token: str = ZERO_ADDRESS
    wallet: str = ZERO_ADDRESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The owner's signer agrees: `nonce` (unique per owner) and `expiry` are part of what is signed."""

    nonce: int
    expiry: int
    v: int
    r: int
    s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """All that is needed to send a delegated subscription, and to follow it on its chain afterwards.

    `encode` and `parse` carry it through an envelope or a handle. `from_block` is the chain's height when it
    was prepared: nothing about it can be in an older block.
    """

    subscription: Subscription
    signature: Signature
    chain_id: int
    coordinator: str
    from_block: int = 0

    @property
    def job_id(self) -> str:
        """Return what stands for it: the coordinator knows one subscription per owner and nonce."""
        owner = self.subscription.owner.lower()
        return f"delegated:{self.chain_id}:{self.coordinator.lower()}:{owner}:{self.signature.nonce}"

    def encode(self) -> dict[str, JSON]:
        """Return it as JSON; r and s are hex, so that no store rounds them."""
        signature = asdict(self.signature)
        return {
            "subscription": {**asdict(self.subscription), "containers": [*self.subscription.containers]},
            "signature": {**signature, "r": hex(self.signature.r), "s": hex(self.signature.s)},
            "chain_id": self.chain_id,
            "coordinator": self.coordinator,
            "from_block": self.from_block,
        }

    @classmethod
    def parse(cls, data: Mapping[str, JSON]) -> Delegation:
        """Read back what `encode` wrote. Raises Misbehaved if it is anything else."""
        try:
            subscription = dict(data["subscription"])
            signature = dict(data["signature"])
            containers = tuple(subscription.pop("containers"))
            r, s = int(signature.pop("r"), 16), int(signature.pop("s"), 16)
            return cls(
                subscription=Subscription(containers=containers, **subscription),
                signature=Signature(r=r, s=s, **signature),
                chain_id=int(data["chain_id"]),
                coordinator=str(data["coordinator"]),
                from_block=int(data["from_block"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Misbehaved(f"this is not a stored delegated subscription ({error!r})") from error


def check_locally(subscription: Subscription, signature: Signature, *, now: datetime) -> None:
    """Find out what the node would refuse, or silently drop, as far as that needs no chain.

    Raises:
        BadSubscription, BadSignature, SignatureExpired: all of them Rejected; nothing was sent.
    """
    check_what_is_signed(subscription, signature.nonce, signature.expiry)
    if isinstance(signature.v, bool) or signature.v not in (27, 28):
        # The node takes 0 and 1 over REST, and its contract call then fails where nobody sees it.
        raise BadSignature(f"v is {signature.v!r} and must be 27 or 28", code="v")
    for name, value in (("r", signature.r), ("s", signature.s)):
        _check_uint(BadSignature, name, value, 256)
        if not 0 < value < _CURVE_ORDER:
            raise BadSignature(f"{name} is not a number of the curve", code=name)
    if now.timestamp() >= signature.expiry:
        raise SignatureExpired(f"the signature expired at {signature.expiry}; sign again", code="expiry")


def check_what_is_signed(
    subscription: Subscription, nonce: int, expiry: int, coordinator: str = ZERO_ADDRESS
) -> None:
    """Check all that a signature covers. Raises BadSubscription or BadSignature, which name the field."""
    check_subscription(subscription)
    _check_address("coordinator", coordinator)
    _check_uint(BadSignature, "nonce", nonce, 32)
    _check_uint(BadSignature, "expiry", expiry, 32)
    if subscription.active_at >= expiry:
        raise BadSubscription(
            f"it becomes active at {subscription.active_at}, when its signature (expiry {expiry}) is over",
            code="active_at",
        )


def check_subscription(subscription: Subscription) -> None:
    """Check every field's range, and what they mean together. Raises BadSubscription: `code` is the field."""
    sub = subscription
    for name in ("owner", "verifier", "payment_token", "wallet"):
        _check_address(name, getattr(sub, name))
    _check_containers(sub.containers)
    for name, bits in _UINT_BITS.items():
        _check_uint(BadSubscription, name, getattr(sub, name), bits)
    for is_wrong, name, why in (
        (int(sub.owner, 16) == 0, "owner", "the owner is the zero address"),
        (not isinstance(sub.lazy, bool), "lazy", f"lazy is {sub.lazy!r} and must be true or false"),
        (sub.frequency == 0, "frequency", "frequency is 0: nothing would ever be delivered"),
        (sub.redundancy == 0, "redundancy", "redundancy is 0: nothing would ever be delivered"),
        (sub.active_at == NEVER, "active_at", "active_at is the mark of a cancelled subscription"),
        (sub.period == 0 and sub.frequency > 1, "frequency", "without a period there is one interval only"),
    ):
        if is_wrong:
            raise BadSubscription(why, code=name)


def _check_containers(containers: object) -> None:
    if not isinstance(containers, tuple) or not containers:
        raise BadSubscription("containers must be a tuple with at least one id", code="containers")
    for container in containers:
        # An id with a comma would hash like two ids.
        if not isinstance(container, str) or not container or "," in container:
            raise BadSubscription(f"{container!r} is not a container id", code="containers")


def _check_address(name: str, value: object) -> None:
    if not isinstance(value, str) or _ADDRESS.fullmatch(value) is None:
        raise BadSubscription(f"{name} is {value!r}, not an address (0x and 40 hex digits)", code=name)
    digits = value[2:]
    if digits not in (digits.lower(), digits.upper()) and value != to_checksum(value):
        raise BadSubscription(f"{name} is {value}, whose checksum is wrong: it is mistyped", code=name)


def to_checksum(address: str) -> str:
    """Return the address with the case of its letters as EIP-55 wants it."""
    return str(load_extra("eth_utils").to_checksum_address(address))


def _check_uint(error: type[DelegationRefused], name: str, value: object, bits: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**bits:
        raise error(f"{name} is {value!r} and must be an integer from 0 to 2^{bits} - 1", code=name)


def load_extra(name: str) -> Any:
    """Import a module of the extra `infernet-chain` late. Raises ConfigError if it is not installed."""
    try:
        with kept_recursion_limit():
            return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"delegated subscriptions need {name.replace('_', '-')}: "
            'pip install "inference-gateway[infernet-chain]"'
        ) from error
