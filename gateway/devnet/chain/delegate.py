"""What a node does with a delegated subscription after its 200: create it on the chain and deliver there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gateway.chain.rpc import Reverted, fetch_head, translated
from gateway.devnet.chain.accounts import Account
from gateway.devnet.chain.anvil import NODE
from gateway.devnet.chain.deploy import make_contract
from gateway.devnet.chain.wallet import RevertedInBlock, Wallet
from gateway.devnet.infernet.containers import ContainerError
from gateway.devnet.infernet.delegated import ZERO_ADDRESS, OutputOf
from gateway.errors import GatewayError, Rejected
from gateway.types import JSON

if TYPE_CHECKING:
    from gateway.chain.rpc import Web3

FIVE_KEYS = ("raw_input", "processed_input", "raw_output", "processed_output", "proof")
_NEVER = 2**32 - 1
_RACES = ("IntervalCompleted", "IntervalMismatch", "NodeRespondedAlready")


class Dropped(GatewayError):
    """The node gives a subscription up. Only its own log says so."""


@dataclass(frozen=True, slots=True)
class _Order:
    """A delegated subscription as it goes into calls of the coordinator."""

    signed: tuple[Any, ...]  # nonce, expiry, subscription, v, r, s
    data: Mapping[str, JSON]
    output_of: OutputOf

    @property
    def key(self) -> tuple[str, int]:
        return self.subscription[0].lower(), self.signed[0]

    @property
    def subscription(self) -> Any:
        return self.signed[2]

    @property
    def expiry(self) -> int:
        return int(self.signed[1])


class CoordinatorSide:
    """Delivers what a node computes to the coordinator of a local chain: the node's `ChainSide`.

    Args:
        web3: of the chain.
        coordinator: the contract's address.
        account: the node's; it pays the gas.
        rerun_every: how long a failing container is left alone. The real node re-runs it about nine times a
            second until the signature expires, and so does this.
        look_every: between two looks at the chain while there is nothing to do.
    """

    def __init__(
        self,
        web3: Web3,
        coordinator: str,
        *,
        account: Account = NODE,
        rerun_every: timedelta = timedelta(seconds=0.11),
        look_every: timedelta = timedelta(seconds=0.1),
    ) -> None:
        self.address = account.address
        self._web3 = web3
        self._coordinator = make_contract(web3, "Coordinator", coordinator)
        self._wallet = Wallet(web3, account)
        self._rerun_seconds = rerun_every.total_seconds()
        self._look_seconds = look_every.total_seconds()
        self._busy: set[tuple[str, int]] = set()

    async def deliver(
        self,
        subscription: Mapping[str, JSON],
        signature: Mapping[str, JSON],
        data: Mapping[str, JSON],
        output_of: OutputOf,
    ) -> None:
        """Create the subscription and deliver all its intervals; see `ChainSide.deliver`.

        Raises Dropped, for the log: wrong signer, expired, a consumer that reverts, and the like. A repeat of
        (owner, nonce) while one is at work does nothing; afterwards it only delivers what is still missing.
        """
        order = _Order(_encode_signed(subscription, signature), dict(data), output_of)
        if order.key in self._busy:
            return
        self._busy.add(order.key)
        try:
            await self._check(order)
            await self._deliver_all(order)
        except Rejected as error:
            raise Dropped(f"{order.key} is given up: {_explain(error)}") from error
        finally:
            self._busy.discard(order.key)

    async def _check(self, order: _Order) -> None:
        """Let the coordinator look at the signature, before a container runs for it."""
        call = self._coordinator.functions.createSubscriptionDelegatee(*order.signed)
        with translated("checking the signature"):
            await call.call()

    async def _deliver_all(self, order: _Order) -> None:
        owner, active_at, period, frequency, *_ = order.subscription
        delivered = 0
        while delivered < frequency:
            head = await fetch_head(self._web3)
            subscription_id = await self._fetch_id(order)
            if subscription_id == 0 and head.timestamp >= order.expiry:
                raise Dropped(f"{order.key} expired at {order.expiry}, before an answer was there")
            if subscription_id and await self._is_cancelled(subscription_id):
                return
            interval = (head.timestamp - active_at) // period + 1 if period else 1
            if interval > frequency:
                return
            # The real node too waits until the time is past `active_at`.
            if head.timestamp <= active_at or interval <= delivered:
                await asyncio.sleep(self._look_seconds)
                continue
            if subscription_id and await self._is_answered(order, subscription_id, interval):
                delivered = interval
                continue
            try:
                output = await order.output_of(
                    await self._fetch_input(order, owner, subscription_id, interval)
                )
                _refuse_error(output)
            except ContainerError:
                await asyncio.sleep(self._rerun_seconds)
                continue
            with suppress(_RaceLost):
                await self._send(order, interval, output)
                delivered = interval

    async def _send(self, order: _Order, interval: int, output: JSON) -> None:
        """Deliver one interval. Raises _RaceLost if another node, or the time, was faster."""
        delivery = (interval, *encode_output(output), ZERO_ADDRESS)
        subscription_id = await self._fetch_id(order)
        if subscription_id:
            name, arguments = "deliverCompute", (subscription_id, *delivery)
        else:
            name, arguments = "deliverComputeDelegatee", (*order.signed, *delivery)
        data = self._coordinator.encode_abi(name, args=arguments)
        try:
            await self._wallet.send(self._coordinator.address, bytes.fromhex(data[2:]))
        except (Reverted, RevertedInBlock) as error:
            if isinstance(error, RevertedInBlock) or _explain(error) in _RACES:
                raise _RaceLost from error
            raise

    async def _fetch_input(self, order: _Order, owner: str, subscription_id: int, interval: int) -> JSON:
        if interval == 1:
            return dict(order.data)
        consumer = make_contract(self._web3, "Consumer", owner)
        now = (await fetch_head(self._web3)).timestamp
        with translated("reading the inputs"):
            inputs = await consumer.functions.getContainerInputs(
                subscription_id, interval, now, self.address
            ).call()
        return bytes(inputs).hex()

    async def _fetch_id(self, order: _Order) -> int:
        key = _hash(["address", "uint32"], [order.subscription[0], order.signed[0]])
        with translated("looking for the subscription"):
            return int(await self._coordinator.functions.delegateCreatedIds(key).call())

    async def _is_cancelled(self, subscription_id: int) -> bool:
        with translated("reading the subscription"):
            stored = await self._coordinator.functions.getSubscription(subscription_id).call()
        return bool(stored[1] == _NEVER)

    async def _is_answered(self, order: _Order, subscription_id: int, interval: int) -> bool:
        """Say whether an interval needs no answer of ours: we gave one, or there are enough."""
        responded = _hash(["uint32", "uint32", "address"], [subscription_id, interval, self.address])
        counted = _hash(["uint32", "uint32"], [subscription_id, interval])
        with translated("reading the answers"):
            if await self._coordinator.functions.nodeResponded(responded).call():
                return True
            count = await self._coordinator.functions.redundancyCount(counted).call()
        return bool(count >= order.subscription[4])


class _RaceLost(Exception):
    """Somebody else's answer came first, or the interval was over."""


def encode_output(output: JSON) -> tuple[bytes, bytes, bytes]:
    """Return input, output and proof as the node puts them on the chain (measured on 1.4.0).

    A container that answers all of FIVE_KEYS, in hex, is taken at its word. Anything else goes as Python's
    repr of it, which is not JSON, and nothing as input and proof.
    """
    from eth_abi.abi import encode

    if isinstance(output, dict) and all(isinstance(output.get(key), str) for key in FIVE_KEYS):
        try:
            raw = [bytes.fromhex(output[key].removeprefix("0x")) for key in FIVE_KEYS]
        except ValueError as error:
            raise ContainerError("one of the five keys is not hex") from error
        return encode(["bytes", "bytes"], raw[:2]), encode(["bytes", "bytes"], raw[2:4]), raw[4]
    return b"", encode(["string"], [repr(output)]), b""


def _refuse_error(output: JSON) -> None:
    """On its way to the chain, and only there, the node takes a `code` that is not "200" for a failure."""
    if isinstance(output, dict) and str(output.get("code", "200")) != "200":
        raise ContainerError(str(output.get("description", output["code"])))


def _encode_signed(subscription: Mapping[str, JSON], signature: Mapping[str, JSON]) -> tuple[Any, ...]:
    sub = subscription
    try:
        r, s = (int(signature[name]).to_bytes(32, "big") for name in ("r", "s"))
    except OverflowError as error:
        raise Dropped("r or s has more than 256 bits") from error
    values = (
        sub["owner"],
        sub["active_at"],
        sub["period"],
        sub["frequency"],
        sub["redundancy"],
        bytes.fromhex(sub["containers"].removeprefix("0x")),
        sub["lazy"],
        sub["verifier"],
        sub["payment_amount"],
        sub["payment_token"],
        sub["wallet"],
    )
    return signature["nonce"], signature["expiry"], values, signature["v"], r, s


def _explain(error: Rejected) -> str:
    """Return the name of the contract's error, else the message."""
    if isinstance(error, Reverted):
        return _load_error_names().get(error.data[:4], error.message)
    return error.message


def _load_error_names() -> dict[bytes, str]:
    from eth_utils.crypto import keccak

    from gateway.devnet.chain.compile_contracts import load_compiled

    contracts = load_compiled()["contracts"].values()
    names = {entry["name"] for contract in contracts for entry in contract["abi"] if entry["type"] == "error"}
    return {keccak(text=f"{name}()")[:4]: name for name in names}


def _hash(types: list[str], values: list[Any]) -> bytes:
    from eth_abi.abi import encode
    from eth_utils.crypto import keccak

    return bytes(keccak(encode(types, values)))
