"""Delegated subscriptions without any I/O: what is signed, how it is signed, and what is sent to the node.

The node answers `200 {}` to nearly anything and drops what is wrong without a word (measured on 1.0.0 to
1.4.0), so everything that can be known before sending is checked before. The EIP-712 form is the same in
nodes and contracts since 1.0; 0.x signed another struct and is not spoken here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from gateway.errors import ConfigError
from gateway.types import JSON
from gateway_infernet.subscription import (
    NEVER,
    ZERO_ADDRESS,
    BadSignature,
    BadSubscription,
    Delegation,
    DelegationRefused,
    NonceUsed,
    OwnerNotDelegator,
    Signature,
    SignatureExpired,
    SignerMismatch,
    Subscription,
    check_locally,
    check_subscription,
    check_what_is_signed,
    load_extra,
    to_checksum,
)

__all__ = [
    "DELEGATE_TYPE",
    "DOMAIN_TYPE",
    "NEVER",
    "SUBSCRIPTION_TUPLE",
    "SUBSCRIPTION_TYPE",
    "ZERO_ADDRESS",
    "BadSignature",
    "BadSubscription",
    "Delegation",
    "DelegationRefused",
    "NonceUsed",
    "OwnerNotDelegator",
    "Signature",
    "SignatureExpired",
    "SignerMismatch",
    "Subscription",
    "TypedDataSigner",
    "check_locally",
    "check_subscription",
    "encode_container_id",
    "encode_digest",
    "encode_domain_separator",
    "encode_request",
    "encode_struct_hash",
    "encode_subscription_hash",
    "encode_subscription_tuple",
    "encode_typed_data",
    "make_nonce",
    "recover_signer",
    "sign",
]

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

SUBSCRIPTION_TUPLE = "(" + ",".join(kind for _, kind in _SUBSCRIPTION_MEMBERS) + ")"
"""The ABI type of the struct, as it stands in the signatures of the coordinator's functions."""


def _encode_type(name: str, members: tuple[tuple[str, str], ...]) -> str:
    return f"{name}({','.join(f'{kind} {member}' for member, kind in members)})"


SUBSCRIPTION_TYPE = _encode_type("Subscription", _SUBSCRIPTION_MEMBERS)
DELEGATE_TYPE = _encode_type("DelegateSubscription", _DELEGATE_MEMBERS) + SUBSCRIPTION_TYPE
DOMAIN_TYPE = _encode_type("EIP712Domain", _DOMAIN_MEMBERS)


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
    """Return EIP-712's domain separator as hex; the verifying contract is the Coordinator."""
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
    check_what_is_signed(subscription, nonce, expiry, coordinator)
    account = _make_account(key_or_account) if isinstance(key_or_account, str) else key_or_account
    signed = account.sign_typed_data(
        full_message=encode_typed_data(subscription, nonce, expiry, chain_id, coordinator)
    )
    return Signature(nonce=nonce, expiry=expiry, v=int(signed.v), r=int(signed.r), s=int(signed.s))


def recover_signer(subscription: Subscription, signature: Signature, chain_id: int, coordinator: str) -> str:
    """Return the checksummed address that signed. Raises BadSignature if nobody can have."""
    keys = load_extra("eth_keys")
    digest = encode_digest(subscription, signature.nonce, signature.expiry, chain_id, coordinator)
    try:
        parsed = keys.keys.Signature(vrs=(signature.v - 27, signature.r, signature.s))
        public = parsed.recover_public_key_from_msg_hash(bytes.fromhex(digest[2:]))
    except (keys.exceptions.BadSignature, keys.exceptions.ValidationError) as error:
        raise BadSignature(f"this is not a signature: {error}", code="signature") from error
    return str(public.to_checksum_address())


def encode_request(
    subscription: Subscription, signature: Signature, data: Mapping[str, JSON]
) -> dict[str, JSON]:
    """Return the body of POST /api/jobs. r and s are integers of 256 bits, as the node wants them.

    `data` is the input of the first interval; later ones read the owner's getContainerInputs(). Addresses are
    sent checksummed: the node's web3 takes no others, and says so only in its log.
    """
    return {
        "subscription": {
            "owner": to_checksum(subscription.owner),
            "active_at": subscription.active_at,
            "period": subscription.period,
            "frequency": subscription.frequency,
            "redundancy": subscription.redundancy,
            "containers": encode_container_id(subscription.containers),
            "lazy": subscription.lazy,
            "verifier": to_checksum(subscription.verifier),
            "payment_amount": subscription.payment_amount,
            "payment_token": to_checksum(subscription.payment_token),
            "wallet": to_checksum(subscription.wallet),
        },
        "signature": asdict(signature),
        "data": dict(data),
    }


def _make_account(key: str) -> TypedDataSigner:
    module = load_extra("eth_account")
    try:
        account: TypedDataSigner = module.Account.from_key(key)
    except Exception as error:  # noqa: BLE001  whatever its layers raise may quote the key: none is shown
        raise ConfigError(f"the signing key is not a private key ({type(error).__name__})") from None
    return account


def _keccak(data: bytes) -> bytes:
    digest: bytes = load_extra("eth_utils").keccak(data)
    return digest


def _abi_encode(kinds: Sequence[str], values: Sequence[Any]) -> bytes:
    encoded: bytes = load_extra("eth_abi").encode(kinds, values)
    return encoded
