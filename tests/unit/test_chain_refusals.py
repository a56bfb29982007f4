"""What nodes say to a transaction, and what it proves."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.chain.refusals import (
    InsufficientFunds,
    NonceTaken,
    Refusal,
    TypeRefused,
    Underpriced,
    classify_refusal,
    judge,
)
from gateway.chain.rpc import RpcRefused
from gateway.errors import InDoubt, Misbehaved, Throttled, Unavailable

WORDS = {
    "already known": Refusal.KNOWN,
    "AlreadyKnown": Refusal.KNOWN,
    "transaction already imported": Refusal.KNOWN,
    "known transaction: 0xabc": Refusal.KNOWN,
    "nonce too low: next nonce 5, tx nonce 3": Refusal.NONCE_SPENT,
    "OldNonce": Refusal.NONCE_SPENT,
    "replacement transaction underpriced": Refusal.NONCE_TAKEN,
    "insufficient funds for gas * price + value": Refusal.FUNDS,
    "Insufficient funds for gas * price + value": Refusal.FUNDS,
    "transaction underpriced": Refusal.PRICE,
    "max fee per gas less than block base fee": Refusal.PRICE,
    "intrinsic gas too low": Refusal.NEVER,
    "transaction type not supported": Refusal.TYPE,
    "legacy only": Refusal.TYPE,
    "nonce too high": Refusal.TOO_EARLY,
    "Invalid transaction nonce: Expected 30, but got 31": Refusal.TOO_EARLY,
    "internal error": Refusal.UNHEARD,
    "": Refusal.UNHEARD,
}


@pytest.mark.parametrize("words", WORDS)
def test_words_of_nodes(words: str) -> None:
    assert classify_refusal(f"eth_sendRawTransaction: the RPC refused (-32000: {words})") is WORDS[words]


@pytest.mark.parametrize(
    ("told", "sent_before", "kind"),
    [
        (["0xAB"], False, None),
        (["0xcd"], False, Misbehaved),
        ([None], False, Misbehaved),
        ([RpcRefused("already known")], True, None),
        ([InDoubt("lost"), RpcRefused("already known")], False, None),
        ([RpcRefused("nonce too low")], False, NonceTaken),
        ([RpcRefused("replacement transaction underpriced")], False, NonceTaken),
        ([RpcRefused("insufficient funds")], False, InsufficientFunds),
        ([RpcRefused("insufficient funds")], True, InDoubt),
        ([InDoubt("lost"), RpcRefused("insufficient funds")], False, InDoubt),
        ([Misbehaved("garbage"), RpcRefused("transaction underpriced")], False, InDoubt),
        ([Unavailable("503", http_status=503), RpcRefused("transaction underpriced")], False, InDoubt),
        ([Unavailable("no route"), RpcRefused("transaction underpriced")], False, Underpriced),
        ([RpcRefused("intrinsic gas too low")], False, RpcRefused),
        ([RpcRefused("nonce too high")], False, Unavailable),
        ([RpcRefused("internal error")], False, InDoubt),
        ([Unavailable("no route")], False, Unavailable),
        ([Unavailable("no route")], True, InDoubt),
        ([Throttled("wait", http_status=429)], False, Throttled),
        ([InDoubt("lost"), Unavailable("no route")], False, InDoubt),
    ],
)
def test_judging(told: list[Any], sent_before: bool, kind: Any) -> None:  # noqa: FBT001  a table's column
    error = judge("0xab", told, sent_before=sent_before)
    assert (error is None) if kind is None else (type(error) is kind)


@pytest.mark.parametrize(
    ("told", "sent_before", "is_nowhere"),
    [
        ([RpcRefused("transaction type not supported")], False, True),
        ([RpcRefused("legacy only")], True, False),
        ([InDoubt("lost"), RpcRefused("transaction type not supported")], False, False),
    ],
)
def test_a_refused_type(told: list[Any], sent_before: bool, is_nowhere: bool) -> None:  # noqa: FBT001  a table's column
    error = judge("0xab", told, sent_before=sent_before, has_tip=True)
    assert isinstance(error, TypeRefused)
    assert error.is_nowhere is is_nowhere
    legacy = judge("0xab", told, sent_before=sent_before)  # there is no other type to sign it as
    assert type(legacy) is (RpcRefused if is_nowhere else InDoubt)
