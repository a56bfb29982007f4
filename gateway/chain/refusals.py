"""What nodes say to a transaction that they do not take, in one table.

JSON-RPC has no codes for it, and each node its own words: these are geth's, erigon's, nethermind's, besu's,
reth's and anvil's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from gateway.chain.endpoint import InternalError, is_failure
from gateway.chain.fees import FeePolicy
from gateway.chain.prepared import Call
from gateway.chain.rpc import Asks, Outcome, RpcRefused, request
from gateway.errors import BackendError, InDoubt, Misbehaved, Unavailable


class InsufficientFunds(RpcRefused):
    """The account can't pay the value and the gas."""


class Underpriced(RpcRefused):
    """The fees are too low for this node now."""


class NonceTaken(InDoubt):
    """Another transaction has this nonce, or had it: look it up before anything else is done."""


class TypeRefused(InDoubt):
    """The RPC takes no transaction with tips, though it knows what they are; a legacy one may do.

    Of one nonce one transaction lands, so the same act may be signed anew at its nonce, whatever became of
    this one: `gateway.chain.retyping`.

    Attributes:
        is_nowhere: the refusal proves that nothing landed.
    """

    def __init__(self, message: str, *, code: str | None = None, is_nowhere: bool) -> None:
        super().__init__(message, code=code)
        self.is_nowhere = is_nowhere


class Refusal(StrEnum):
    """What an error object to eth_sendRawTransaction means."""

    KNOWN = "known"  # the node has it: that is success
    NONCE_SPENT = "nonce spent"  # by this transaction or by another
    NONCE_TAKEN = "nonce taken"  # another transaction waits in the pool at this nonce
    FUNDS = "funds"
    PRICE = "price"
    TYPE = "type"  # the node takes no transactions of this type
    NEVER = "never"  # the node can't take these bytes
    TOO_EARLY = "too early"  # a node without a queue: transactions before this one are missing
    UNHEARD = "unheard"  # words that are in no table: nobody knows whether it landed


_WORDS: Mapping[Refusal, Sequence[str]] = {
    Refusal.KNOWN: (
        "already known",
        "alreadyknown",
        "already imported",
        "known transaction",
        "transaction already exists",
        "already in pool",
        "already in mempool",
    ),
    Refusal.NONCE_SPENT: (
        "nonce too low",
        "nonce_too_low",
        "oldnonce",
        "nonce is too low",
        "nonce has already been used",
    ),
    Refusal.NONCE_TAKEN: (
        "replacement transaction underpriced",
        "replacement not allowed",
        "could not replace existing",
        "transaction with the same nonce",
    ),
    Refusal.FUNDS: ("insufficient funds", "insufficient balance", "insufficientfunds"),
    Refusal.PRICE: (
        "underpriced",
        "fee too low",
        "feetoolow",
        "feecap",
        "less than block base fee",
        "gas price too low",
        "gas price below",
    ),
    Refusal.TYPE: (
        "transaction type not supported",
        "transaction type is not supported",
        "tx type not supported",
        "unsupported transaction type",
        "unsupported tx type",
        "invalid transaction type",
        "legacy only",
        "only legacy",
        "legacy transactions only",
        "accepted transaction types are [frontier]",
        "eip-1559 not",
        "eip-1559 is not",
        "eip1559 not",
    ),
    Refusal.NEVER: (
        "intrinsic gas too low",
        "exceeds block gas limit",
        "gas limit too high",
        "gas limit reached",
        "invalid sender",
        "invalid signature",
        "invalid chain id",
        "wrong chain id",
        "chain id mismatch",
        "oversized data",
        "max initcode size",
        "exceeds the configured cap",
    ),
    Refusal.TOO_EARLY: ("nonce too high", "nonce gap", "invalid transaction nonce: expected"),
}


def classify_refusal(message: str) -> Refusal:
    """Say what a node's words to a transaction mean."""
    words = message.lower()
    for refusal, phrases in _WORDS.items():
        if any(phrase in words for phrase in phrases):
            return refusal
    return Refusal.UNHEARD


async def fetch_gas(rpc: Asks, call: Call, sender: str, policy: FeePolicy) -> int:
    """Estimate a call's gas and add the margin; the call's own limit if it has one.

    The estimate runs the call. Raises Reverted if it would revert, InsufficientFunds, or as `rpc.request`.
    """
    if call.gas is not None:
        return call.gas
    try:
        estimate = await request(rpc, "eth_estimateGas", [call.encode(sender)])
    except (RpcRefused, InternalError) as error:
        if classify_refusal(error.message) is Refusal.FUNDS:
            raise InsufficientFunds(error.message, code=error.code, detail=error.detail) from error
        raise
    try:
        return policy.add_margin(int(estimate, 16))
    except (TypeError, ValueError) as error:
        raise Misbehaved("the RPC sent no gas estimate") from error


async def fetch_balance(rpc: Asks, address: str) -> int:
    """Fetch what an account has, in the chain's smallest unit. Raises as `rpc.request`."""
    try:
        return int(await request(rpc, "eth_getBalance", [address, "latest"]), 16)
    except (TypeError, ValueError) as error:
        raise Misbehaved("the RPC sent no balance") from error


def judge(
    wanted: str, told: Sequence[Outcome], *, sent_before: bool, has_tip: bool = False
) -> BackendError | None:
    """Return None if a transaction was taken, else the error to raise.

    Args:
        wanted: its hash.
        told: what the RPCs said to its bytes, in the order in which they got them; the last one decides.
        sent_before: the bytes were handed out before this. Then no refusal proves that they are nowhere.
        has_tip: it is one of EIP-1559, and could be signed as a legacy one.
    """
    last = told[-1]
    if not isinstance(last, BackendError):
        taken = str(last).lower() == wanted.lower()
        return None if taken else Misbehaved("the RPC took the transaction under another hash")
    refusal = None if is_failure(last) else classify_refusal(last.message)
    if refusal is Refusal.KNOWN:
        return None
    if refusal in (Refusal.NONCE_SPENT, Refusal.NONCE_TAKEN):
        return NonceTaken(last.message, code=last.code)
    lost = any(is_failure(outcome) and _is_lost(outcome) for outcome in told)
    if refusal is Refusal.TYPE and has_tip:
        return TypeRefused(last.message, code=last.code, is_nowhere=not (lost or sent_before))
    if lost or sent_before or refusal is Refusal.UNHEARD:
        return InDoubt(last.message, code=last.code, http_status=last.http_status)
    return _refuse(last, refusal)


def _is_lost(error: BackendError) -> bool:
    """Say whether a failure leaves it open what the RPC did. A proxy's 503 is believed for reads only.

    To look a transaction up is cheap; to take one for refused that lands later is a double.
    """
    return error.landed is None or (error.http_status or 0) >= 500


def _refuse(error: BackendError, refusal: Refusal | None) -> BackendError:
    """Make the error for a transaction that is provably nowhere."""
    if refusal is Refusal.FUNDS:
        return InsufficientFunds(error.message, code=error.code, detail=error.detail)
    if refusal is Refusal.PRICE:
        return Underpriced(error.message, code=error.code, detail=error.detail)
    return Unavailable(error.message, code=error.code) if refusal is Refusal.TOO_EARLY else error
