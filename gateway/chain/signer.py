"""Who signs: a key, an encrypted keystore, an account object, or a signer outside this process.

A key never leaves its signer: not by repr, str, pickle, copies, an error's text or an error's frames.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from pydantic import SecretStr

from gateway.chain.loading import kept_recursion_limit
from gateway.chain.prepared import Call
from gateway.errors import ConfigError, Rejected
from gateway.types import JSON

_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")


class SigningFailed(Rejected):
    """The signer did not sign, or signed something else. Nothing was sent."""


class Signer(Protocol):
    """What the gateway needs of a signer."""

    @property
    def address(self) -> str:
        """The account's address, checksummed."""

    async def sign(self, transaction: Mapping[str, JSON]) -> bytes:
        """Return the signed raw bytes of a transaction.

        `transaction` has chainId, nonce, to (missing: a creation), value, data, gas, and either type 2 with
        maxFeePerGas and maxPriorityFeePerGas, or gasPrice. Raises SigningFailed.
        """


class AccountSigner:
    """Signs with an object that has `address` and `sign_transaction(dict)`.

    That is every account of eth_account, and whatever asks a vault, a device or another process. What
    `sign_transaction` returns may be raw bytes, their hex, an object or mapping with `raw_transaction` (or
    `rawTransaction`, `raw`), or an awaitable of these.

    Args:
        account: the object.
        verify: read back what was signed, and by whom. For keys in this process there is no need.
    """

    __slots__ = ("_account", "_address", "_verify")

    def __init__(self, account: Any, *, verify: bool = True) -> None:
        from eth_utils.address import is_address, to_checksum_address

        address = getattr(account, "address", None)
        if not is_address(address) or not callable(getattr(account, "sign_transaction", None)):
            raise ConfigError("a signer has an `address` and a method `sign_transaction`")
        self._address = str(to_checksum_address(address))
        self._account = account
        self._verify = verify

    @property
    def address(self) -> str:
        """The account's address, checksummed."""
        return self._address

    async def sign(self, transaction: Mapping[str, JSON]) -> bytes:
        """See `Signer.sign`."""
        raw, trouble = b"", ""
        try:
            signed = self._account.sign_transaction(dict(transaction))
            raw = _parse_raw(await signed if inspect.isawaitable(signed) else signed)
        except Exception as error:  # noqa: BLE001  anybody's signer may raise anything, and with the key in it
            trouble = type(error).__name__
        if not raw:
            # Raised out here, so that it carries neither the signer's words nor its frames.
            raise SigningFailed(f"the signer of {self._address} did not sign ({trouble or 'no bytes'})")
        if self._verify:
            _check_signed(raw, transaction, self._address)
        return raw

    def __repr__(self) -> str:
        return f"<signer {self._address}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is never pickled or copied: it may hold a key")


def make_key_signer(key: SecretStr) -> AccountSigner:
    """Make a signer of a private key: 64 hex digits, with or without 0x. Raises ConfigError."""
    account = None
    try:
        # eth_account pads a key that was cut off, and signs with that.
        if _KEY.fullmatch(key.get_secret_value().strip()):
            account = _load_account().from_key(key.get_secret_value().strip())
    except Exception:  # noqa: BLE001  some of eth_account's errors quote the key
        account = None
    if account is None:
        raise ConfigError("the private key is none: 64 hex digits are wanted")
    return AccountSigner(account, verify=False)


def make_keystore_signer(keystore: str | Mapping[str, JSON], password: SecretStr) -> AccountSigner:
    """Make a signer of an encrypted keystore, as JSON text or parsed (what wallets write: "V3").

    Decrypting is slow on purpose, about a second. Raises ConfigError: no keystore, or another password.
    """
    key = None
    try:
        data = json.loads(keystore) if isinstance(keystore, str) else dict(keystore)
        key = SecretStr(bytes(_load_account().decrypt(data, password.get_secret_value())).hex())
    except Exception:  # noqa: BLE001  the frames of whatever is raised hold the password
        key = None
    if key is None:
        raise ConfigError("the keystore can't be opened: it is none, or the password is another")
    return make_key_signer(key)


def make_account_signer(account: Any) -> AccountSigner:
    """Make a signer of an eth_account account, or of any object with address and sign_transaction."""
    with kept_recursion_limit():
        from eth_account.signers.local import LocalAccount

    return AccountSigner(account, verify=not isinstance(account, LocalAccount))


def parse_raw_transaction(raw: bytes) -> dict[str, JSON]:
    """Read a signed transaction back: chainId, nonce, to, value, data, gas, the fees, as they were signed.

    `from` is who signed. Raises ValueError for bytes that are none.
    """
    with kept_recursion_limit():
        import rlp
        from eth_account.typed_transactions.typed_transaction import TypedTransaction
        from eth_utils.address import to_checksum_address
        from hexbytes import HexBytes

    try:
        sender = str(_load_account().recover_transaction(HexBytes(raw)))
        if raw[0] < 0x80:
            fields: dict[str, Any] = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        else:
            names = ("nonce", "gasPrice", "gas", "to", "value", "data", "v")
            fields = dict(zip(names, rlp.decode(raw), strict=False))
            v = int.from_bytes(fields.pop("v"), "big")
            fields["chainId"] = (v - 35) // 2 if v >= 35 else 0
    except Exception as error:  # noqa: BLE001  four libraries read them, each with errors of its own
        raise ValueError(f"these bytes are no signed transaction ({type(error).__name__})") from None
    to = bytes(fields.pop("to") or b"")
    data = bytes(HexBytes(fields.pop("data")))
    wanted = ("chainId", "nonce", "value", "gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas")
    numbers = {name: _parse_number(fields[name]) for name in wanted if name in fields}
    to_text = {"to": str(to_checksum_address(to))} if to else {}
    return {"from": sender, **numbers, **to_text, "data": "0x" + data.hex()}


def parse_call(raw: str) -> Call:
    """Read back what a signed transaction (0x hex) does. Raises ValueError."""
    fields = parse_raw_transaction(bytes.fromhex(raw[2:]))
    return Call(fields.get("to"), bytes.fromhex(fields["data"][2:]), fields["value"])


def _check_signed(raw: bytes, transaction: Mapping[str, JSON], address: str) -> None:
    """Refuse a signature by somebody else or for something else. Raises SigningFailed."""
    try:
        signed = parse_raw_transaction(raw)
    except ValueError as error:
        raise SigningFailed(f"the signer of {address}: {error}") from None
    if signed["from"] != address:
        raise SigningFailed(f"{signed['from']} signed instead of {address}")
    for name, value in signed.items():
        asked = transaction.get(name, value if name == "from" else None)
        if str(asked).lower() != str(value).lower():
            raise SigningFailed(f"the signer of {address} signed another {name}")
    if "to" in transaction and "to" not in signed:
        raise SigningFailed(f"the signer of {address} signed another to")


def _parse_raw(signed: Any) -> bytes:
    for name in ("raw_transaction", "rawTransaction", "raw"):
        inner = signed.get(name) if isinstance(signed, Mapping) else getattr(signed, name, None)
        if inner is not None:
            return _parse_raw(inner)
    if isinstance(signed, str):
        return bytes.fromhex(signed.removeprefix("0x"))
    return bytes(signed)


def _parse_number(value: Any) -> int:
    return int.from_bytes(value, "big") if isinstance(value, bytes) else int(value)


def _load_account() -> Any:
    try:
        with kept_recursion_limit():
            from eth_account import Account
    except ImportError as error:
        raise ConfigError('signing needs eth-account: pip install "web3>=7.10" eth-account') from error
    return Account
