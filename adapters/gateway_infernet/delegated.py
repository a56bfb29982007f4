"""Delegated subscriptions without any I/O: what is signed, how it is signed, and what is sent to the node.

The node answers `200 {}` to nearly anything and drops what is wrong without a word (measured on 1.0.0 to 1.4.0),
so everything that can be known before sending is checked here. The EIP-712 form is the same in nodes and
contracts since 1.0; 0.x signed another struct and is not spoken here.

Subscription and Signature carry the wire's own names and numbers: times are seconds since the epoch, a period is
in seconds, an amount is in the token's smallest unit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from gateway.errors import ConfigError, Misbehaved, Rejected
from gateway.types import JSON

ZERO_ADDRESS = "0x" + "0" * 40
NEVER = 2**32 - 1  # an active_at of this value marks a cancelled subscription

_SUBSCRIPTION_MEMBERS = (
    ("owner", "address"),
    ("activeAt", "uint32"),
    ("period", "uint32"),
    ("frequency", "uint32"),
    ("redundancy", "uint16"),
    ("containerId", "bytes32"),
    ("lazy", "bool"),
    ("verifier", "address"),
    ("paymentAmount", "uint256"),
    ("paymentToken", "address"),
    ("wallet", "address"),
)
_DELEGATE_MEMBERS = (("nonce", "uint32"), ("expiry", "uint32"), ("sub", "Subscription"))
_DOMAIN_MEMBERS = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)
_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

SUBSCRIPTION_TUPLE = "(" + ",".join(kind for _, kind in _SUBSCRIPTION_MEMBERS) + ")"
"""The ABI type of the struct, as it stands in the signatures of the coordinator's functions."""


def _encode_type(name: str, members: tuple[tuple[str, str], ...]) -> str:
    return f"{name}({','.join(f'{kind} {member}' for member, kind in members)})"


SUBSCRIPTION_TYPE = _encode_type("Subscription", _SUBSCRIPTION_MEMBERS)
DELEGATE_TYPE = _encode_type("DelegateSubscription", _DELEGATE_MEMBERS) + SUBSCRIPTION_TYPE
DOMAIN_TYPE = _encode_type("EIP712Domain", _DOMAIN_MEMBERS)


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

    `encode` and `parse` carry it through an envelope or a handle. `from_block` is the chain's height when it was
    prepared: nothing about it can be in an older block.
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


class TypedDataSigner(Protocol):
    """Whatever signs EIP-712: an eth_account account, or a wallet that speaks alike."""

    @property
    def address(self) -> Any:
        """The signer's address."""

    def sign_typed_data(self, *, full_message: dict[str, Any]) -> Any:
        """Return something with v, r and s."""


def make_nonce(attempt_id: str) -> int:
    """Derive a nonce from an attempt's id.

    A nonce must never be used twice by an owner and need not follow the last. It is kept below 2^31, because
    other clients of the same owner may take "the highest so far plus one" and must keep room to count on.
    """
    return int.from_bytes(hashlib.sha256(attempt_id.encode()).digest()[:4], "big") >> 1


def encode_container_id(containers: Sequence[str]) -> str:
    """Return keccak256(abi.encode("a,b,c")) as hex with 0x: the order matters."""
    return "0x" + _keccak(_abi_encode(["string"], [",".join(containers)])).hex()


def encode_subscription_tuple(subscription: Subscription) -> tuple[Any, ...]:
    """Return the values of the struct in the order of SUBSCRIPTION_TUPLE, ready for ABI encoding."""
    sub = subscription
    container_id = bytes.fromhex(encode_container_id(sub.containers)[2:])
    return (
        sub.owner,
        sub.active_at,
        sub.period,
        sub.frequency,
        sub.redundancy,
        container_id,
        sub.lazy,
        sub.verifier,
        sub.payment_amount,
        sub.payment_token,
        sub.wallet,
    )


def encode_subscription_hash(subscription: Subscription) -> str:
    """Return EIP-712's hashStruct of the subscription as hex."""
    kinds = ["bytes32", *(kind for _, kind in _SUBSCRIPTION_MEMBERS)]
    values = [_keccak(SUBSCRIPTION_TYPE.encode()), *encode_subscription_tuple(subscription)]
    return "0x" + _keccak(_abi_encode(kinds, values)).hex()


def encode_struct_hash(subscription: Subscription, nonce: int, expiry: int) -> str:
    """Return EIP-712's hashStruct of what is signed as hex."""
    sub_hash = bytes.fromhex(encode_subscription_hash(subscription)[2:])
    values = [_keccak(DELEGATE_TYPE.encode()), nonce, expiry, sub_hash]
    return "0x" + _keccak(_abi_encode(["bytes32", "uint32", "uint32", "bytes32"], values)).hex()


def encode_domain_separator(chain_id: int, coordinator: str) -> str:
    """Return EIP-712's domain separator as hex. The verifying contract is the Coordinator, not the Registry."""
    values = [
        _keccak(DOMAIN_TYPE.encode()),
        _keccak(b"InfernetCoordinator"),
        _keccak(b"1"),
        chain_id,
        coordinator,
    ]
    return "0x" + _keccak(_abi_encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], values)).hex()


def encode_digest(
    subscription: Subscription, nonce: int, expiry: int, chain_id: int, coordinator: str
) -> str:
    """Return the 32 bytes that are signed as hex."""
    domain = encode_domain_separator(chain_id, coordinator)[2:]
    struct = encode_struct_hash(subscription, nonce, expiry)[2:]
    return "0x" + _keccak(bytes.fromhex("1901" + domain + struct)).hex()


def encode_typed_data(
    subscription: Subscription, nonce: int, expiry: int, chain_id: int, coordinator: str
) -> dict[str, Any]:
    """Return what is signed in the JSON form of eth_signTypedData_v4, for wallets of any kind."""
    types = {
        "EIP712Domain": _DOMAIN_MEMBERS,
        "DelegateSubscription": _DELEGATE_MEMBERS,
        "Subscription": _SUBSCRIPTION_MEMBERS,
    }
    names = [name for name, _ in _SUBSCRIPTION_MEMBERS]
    sub = dict(zip(names, encode_subscription_tuple(subscription), strict=True))
    sub["containerId"] = "0x" + sub["containerId"].hex()
    return {
        "types": {
            name: [{"name": member, "type": kind} for member, kind in members]
            for name, members in types.items()
        },
        "primaryType": "DelegateSubscription",
        "domain": {
            "name": "InfernetCoordinator",
            "version": "1",
            "chainId": chain_id,
            "verifyingContract": coordinator,
        },
        "message": {"nonce": nonce, "expiry": expiry, "sub": sub},
    }


def sign(
    subscription: Subscription,
    nonce: int,
    expiry: int,
    key_or_account: str | TypedDataSigner,
    chain_id: int,
    coordinator: str,
) -> Signature:
    """Sign as the owner's signer, with a private key in hex or an account.

    Raises:
        BadSubscription, BadSignature: what would be signed can't work.
        ConfigError: the key is no key, or the extra `infernet-chain` is not installed.
    """
    check_subscription(subscription)
    _check_address("coordinator", coordinator)
    _check_uint(BadSignature, "nonce", nonce, 32)
    _check_uint(BadSignature, "expiry", expiry, 32)
    account = _make_account(key_or_account) if isinstance(key_or_account, str) else key_or_account
    signed = account.sign_typed_data(
        full_message=encode_typed_data(subscription, nonce, expiry, chain_id, coordinator)
    )
    return Signature(nonce=nonce, expiry=expiry, v=int(signed.v), r=int(signed.r), s=int(signed.s))


def recover_signer(subscription: Subscription, signature: Signature, chain_id: int, coordinator: str) -> str:
    """Return the checksummed address that signed. Raises BadSignature if nobody can have."""
    keys = _load("eth_keys")
    digest = encode_digest(subscription, signature.nonce, signature.expiry, chain_id, coordinator)
    try:
        parsed = keys.keys.Signature(vrs=(signature.v - 27, signature.r, signature.s))
        public = parsed.recover_public_key_from_msg_hash(bytes.fromhex(digest[2:]))
    except (keys.exceptions.BadSignature, keys.exceptions.ValidationError) as error:
        raise BadSignature(f"this is not a signature: {error}", code="signature") from error
    return str(public.to_checksum_address())


def check_locally(subscription: Subscription, signature: Signature, *, now: datetime) -> None:
    """Find out what the node would refuse, or silently drop, as far as that needs no chain.

    Raises:
        BadSubscription, BadSignature, SignatureExpired: all of them Rejected; nothing was sent.
    """
    check_subscription(subscription)
    _check_uint(BadSignature, "nonce", signature.nonce, 32)
    _check_uint(BadSignature, "expiry", signature.expiry, 32)
    if isinstance(signature.v, bool) or signature.v not in (27, 28):
        # The node takes 0 and 1 over REST, and its contract call then fails where nobody sees it.
        raise BadSignature(f"v is {signature.v!r} and must be 27 or 28", code="v")
    for name, value in (("r", signature.r), ("s", signature.s)):
        _check_uint(BadSignature, name, value, 256)
        if not 0 < value < _CURVE_ORDER:
            raise BadSignature(f"{name} is not a number of the curve", code=name)
    if now.timestamp() >= signature.expiry:
        raise SignatureExpired(f"the signature expired at {signature.expiry}; sign again", code="expiry")
    if subscription.active_at >= signature.expiry:
        raise BadSubscription(
            f"it becomes active at {subscription.active_at}, when its signature (expiry {signature.expiry}) is over",
            code="active_at",
        )


def check_subscription(subscription: Subscription) -> None:
    """Check every field's range and what they mean together. Raises BadSubscription, which names the field."""
    sub = subscription
    for name in ("owner", "verifier", "payment_token", "wallet"):
        _check_address(name, getattr(sub, name))
    if int(sub.owner, 16) == 0:
        raise BadSubscription("the owner is the zero address", code="owner")
    if isinstance(sub.containers, str) or not sub.containers:
        raise BadSubscription("containers must be a list with at least one id", code="containers")
    for container in sub.containers:
        if not isinstance(container, str) or not container or "," in container:
            raise BadSubscription(f"{container!r} is not a container id", code="containers")
    if not isinstance(sub.lazy, bool):
        raise BadSubscription(f"lazy is {sub.lazy!r} and must be true or false", code="lazy")
    for name, bits in (
        ("active_at", 32),
        ("period", 32),
        ("frequency", 32),
        ("redundancy", 16),
        ("payment_amount", 256),
    ):
        _check_uint(BadSubscription, name, getattr(sub, name), bits)
    for name in ("frequency", "redundancy"):
        if getattr(sub, name) == 0:
            raise BadSubscription(f"{name} is 0: nothing would ever be delivered", code=name)
    if sub.active_at == NEVER:
        raise BadSubscription("active_at is the mark of a cancelled subscription", code="active_at")
    if sub.period == 0 and sub.frequency > 1:
        raise BadSubscription("without a period there is one interval only", code="frequency")


def encode_request(
    subscription: Subscription, signature: Signature, data: Mapping[str, JSON]
) -> dict[str, JSON]:
    """Return the body of POST /api/jobs. r and s are integers of 256 bits, as the node wants them.

    `data` is the input of the first interval; later ones read the owner's getContainerInputs(). Addresses are
    sent checksummed: the node's web3 takes no others, and says so only in its log.
    """
    checksum = _load("eth_utils").to_checksum_address
    return {
        "subscription": {
            "owner": checksum(subscription.owner),
            "active_at": subscription.active_at,
            "period": subscription.period,
            "frequency": subscription.frequency,
            "redundancy": subscription.redundancy,
            "containers": encode_container_id(subscription.containers),
            "lazy": subscription.lazy,
            "verifier": checksum(subscription.verifier),
            "payment_amount": subscription.payment_amount,
            "payment_token": checksum(subscription.payment_token),
            "wallet": checksum(subscription.wallet),
        },
        "signature": asdict(signature),
        "data": dict(data),
    }


def _check_address(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.startswith("0x") or not _load("eth_utils").is_address(value):
        raise BadSubscription(f"{name} is {value!r}, which is no address (or a mistyped one)", code=name)


def _check_uint(error: type[DelegationRefused], name: str, value: object, bits: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**bits:
        raise error(f"{name} is {value!r} and must be an integer from 0 to 2^{bits} - 1", code=name)


def _make_account(key: str) -> TypedDataSigner:
    module = _load("eth_account")
    try:
        account: TypedDataSigner = module.Account.from_key(key)
    except Exception as error:
        # eth-account raises whatever its layers raise; none may be shown, for they quote the key.
        raise ConfigError(f"the signing key is not a private key ({type(error).__name__})") from None
    return account


def _keccak(data: bytes) -> bytes:
    digest: bytes = _load("eth_utils").keccak(data)
    return digest


def _abi_encode(kinds: Sequence[str], values: Sequence[Any]) -> bytes:
    encoded: bytes = _load("eth_abi").encode(kinds, values)
    return encoded


def _load(name: str) -> Any:
    """Import a module of the extra late; the rest of the adapter works without it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"delegated subscriptions need {name.replace('_', '-')}: "
            'pip install "inference-gateway[infernet-chain]"'
        ) from error
