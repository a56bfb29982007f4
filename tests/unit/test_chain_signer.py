"""Signers, and that no key gets out of one."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import sys
import traceback
from typing import Any

import pytest
from eth_account import Account
from pydantic import SecretStr

from gateway.chain.signer import (
    AccountSigner,
    SigningFailed,
    make_account_signer,
    make_key_signer,
    make_keystore_signer,
    parse_raw_transaction,
)
from gateway.errors import ConfigError

pytestmark = pytest.mark.anyio

KEY = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"
ADDRESS = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
OTHER = Account.from_key("0x" + "22" * 32)
FEES = {"type": 2, "maxFeePerGas": 10, "maxPriorityFeePerGas": 1}
TRANSACTION: dict[str, Any] = {
    "chainId": 1071,
    "nonce": 3,
    "to": OTHER.address,
    "value": 5,
    "data": "0x0102",
    "gas": 50_000,
}


def shows_the_key(text: str) -> bool:
    number = str(int(KEY, 16))
    spelled = repr(bytes.fromhex(KEY[2:]))[2:-1]
    return any(one in text.lower() for one in (KEY[2:].lower(), number, spelled.lower()))


def tell_everything(error: BaseException) -> str:
    """Return an error's words, data, and its whole traceback with the local variables of each frame."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    # The test's own frames hold the key in the open, and are nobody's leak.
    told.stack = traceback.StackSummary.from_list([one for one in told.stack if one.filename != __file__])
    told_context = ""
    if error.__context__ is not None:
        told_context = tell_everything(error.__context__)
    return f"{error!r} {error} {vars(error)} {''.join(told.format())} {told_context}"


@pytest.mark.parametrize("fees", [FEES, {"gasPrice": 7}], ids=["eip-1559", "legacy"])
@pytest.mark.parametrize("creates", [False, True])
async def test_what_is_signed_reads_back(*, creates: bool, fees: dict[str, Any]) -> None:
    transaction = {**TRANSACTION, **fees}
    if creates:
        del transaction["to"]
    signed = parse_raw_transaction(await make_key_signer(SecretStr(KEY)).sign(transaction))
    assert signed.pop("from") == ADDRESS
    assert signed == {name: value for name, value in transaction.items() if name != "type"}


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\xc0", b"\x02\xc0", b"hello"])
def test_bytes_that_are_no_transaction(raw: bytes) -> None:
    with pytest.raises(ValueError, match="no signed transaction"):
        parse_raw_transaction(raw)


@pytest.mark.parametrize("key", [KEY, KEY[2:], f" {KEY}\n"])
def test_a_key_in_any_spelling(key: str) -> None:
    assert make_key_signer(SecretStr(key)).address == ADDRESS


def test_a_keystore() -> None:
    keystore = Account.encrypt(KEY, "open sesame", kdf="pbkdf2", iterations=10)
    password = SecretStr("open sesame")
    assert make_keystore_signer(keystore, password).address == ADDRESS
    assert make_keystore_signer(json.dumps(keystore), password).address == ADDRESS
    for wrong in (json.dumps(keystore), "{}", "no json"):
        with pytest.raises(ConfigError) as caught:
            make_keystore_signer(wrong, SecretStr("open barley"))
        assert "barley" not in tell_everything(caught.value)


class External:
    """A signer outside the process, that answers as a test wants."""

    def __init__(self, answer: Any, address: Any = ADDRESS) -> None:
        self.address = address
        self.answer = answer

    def sign_transaction(self, transaction: dict[str, Any]) -> Any:
        return self.answer(Account.from_key(KEY).sign_transaction(transaction))


async def _later(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    "answer",
    [
        lambda signed: signed,
        lambda signed: signed.raw_transaction,
        lambda signed: bytes(signed.raw_transaction).hex(),
        lambda signed: {"rawTransaction": signed.raw_transaction.to_0x_hex()},
        lambda signed: {"raw": bytes(signed.raw_transaction)},
        _later,
    ],
)
@pytest.mark.parametrize("fees", [FEES, {"gasPrice": 7}], ids=["eip-1559", "legacy"])
async def test_external_signers_answer_in_many_ways(answer: Any, fees: dict[str, Any]) -> None:
    raw = await make_account_signer(External(answer, ADDRESS.lower())).sign({**TRANSACTION, **fees})
    assert parse_raw_transaction(raw)["from"] == ADDRESS


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": 4},
        {"value": 6},
        {"chainId": 1},
        {"data": "0x"},
        {"gas": 1},
        {"maxFeePerGas": 11},
        {"to": ADDRESS},
        {"to": None},
    ],
)
async def test_something_else_signed_is_refused(change: dict[str, Any]) -> None:
    changed = {name: value for name, value in {**TRANSACTION, **FEES, **change}.items() if value is not None}
    signer = make_account_signer(External(lambda _: Account.from_key(KEY).sign_transaction(changed)))
    with pytest.raises(SigningFailed, match=f"signed another {next(iter(change))}"):
        await signer.sign({**TRANSACTION, **FEES})


async def test_somebody_else_who_signs_is_refused() -> None:
    signer = make_account_signer(External(lambda _: OTHER.sign_transaction({**TRANSACTION, **FEES})))
    with pytest.raises(SigningFailed, match="instead of"):
        await signer.sign({**TRANSACTION, **FEES})


@pytest.mark.parametrize("answer", [None, b"", "", "0xzz", 3.5, b"\x01\x02"])
async def test_no_signature(answer: Any) -> None:
    with pytest.raises(SigningFailed) as caught:
        await make_account_signer(External(lambda _: answer)).sign({**TRANSACTION, **FEES})
    assert caught.value.landed is False


@pytest.mark.parametrize("account", [None, object(), External(None, "0x12"), External(None, None)])
def test_what_is_no_signer(account: Any) -> None:
    with pytest.raises(ConfigError):
        make_account_signer(account)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eth_account", None)
    with pytest.raises(ConfigError, match=r"pip install|private key"):
        make_key_signer(SecretStr(KEY))


@pytest.mark.parametrize(
    "make", [lambda: make_key_signer(SecretStr(KEY)), lambda: make_account_signer(Account.from_key(KEY))]
)
async def test_no_key_gets_out(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    signer: AccountSigner = make()
    raw = await signer.sign({**TRANSACTION, **FEES})
    shown = f"{signer} {signer!r} {[signer]} {signer.__slots__} {raw.hex()} {raw!r}"
    for dump in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled") as caught:
            dump(signer)
        shown += tell_everything(caught.value)
    with pytest.raises(TypeError) as caught:
        json.dumps(signer)
    shown += tell_everything(caught.value)
    with pytest.raises(SigningFailed) as failed:
        await signer.sign({**TRANSACTION, **FEES, "to": "nowhere"})
    shown += tell_everything(failed.value)
    assert not shows_the_key(shown + caplog.text)
    assert shows_the_key(KEY)
    assert shows_the_key(repr(bytes.fromhex(KEY[2:])))


@pytest.mark.parametrize("key", [KEY + "ab", KEY[:-1], KEY.replace("7c", "zz"), "", "0x" + "00" * 32])
def test_a_wrong_key_is_not_quoted(key: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError) as caught:
        make_key_signer(SecretStr(key))
    told = tell_everything(caught.value) + caplog.text
    assert not key or key[2:] not in told
    assert KEY[10:60] not in told


async def test_a_signer_whose_error_quotes_the_key() -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError(f"can't sign with {KEY}")

    signer = make_account_signer(External(fail))
    with pytest.raises(SigningFailed, match="RuntimeError") as caught:
        await signer.sign({**TRANSACTION, **FEES})
    assert caught.value.__context__ is None
    assert KEY not in str(caught.value)
