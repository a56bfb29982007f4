"""Transactions of one account: prepared, sent, looked up, replaced. The same bytes are sent, however often.

The order is: `prepare` (signed, its hash is known, nothing was sent), write the result down, `broadcast`
(InDoubt if nobody knows), `look_up` for what became of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from gateway.chain.fees import FeePolicy, Fees, MarketWatch, bump_fees
from gateway.chain.gather import Gather
from gateway.chain.nonces import NonceInUse, NonceLane, NonceState, Signed
from gateway.chain.pool import RpcPool
from gateway.chain.prepared import Call, Offer, Prepared
from gateway.chain.refusals import (
    InsufficientFunds,
    NonceTaken,
    TypeRefused,
    fetch_balance,
    fetch_gas,
    judge,
)
from gateway.chain.retyping import retype
from gateway.chain.signer import Signer, SigningFailed, parse_call
from gateway.chain.whereabouts import Look, look_up
from gateway.clock import Clock
from gateway.errors import BackendError, GatewayError
from gateway.types import JSON

_FILLER_GAS = 21_000
_DESK_SECONDS = 0.002
_SIGNING_SECONDS, _MOST_AT_ONCE = 2.0, 64  # a nonce that is held waits no longer for its signature
_OUTBOX_SECONDS = 0.01  # signing twenty takes as long, and a block many times as long


class _Order(NamedTuple):
    """What is to be signed, and for whom."""

    call: Call
    owner: str
    offer: Offer


class Transactions:
    """Makes and sends the transactions of one account.

    Many at once cost few requests: what is prepared in the same moment shares its questions, and what is
    broadcast in the same moment goes out in one batch, lowest nonce first.

    Args:
        rpc: of the chain.
        signer: the account.
        lane: its nonces.
        policy: of its fees.
        confirmations: as deep must a rival lie before a transaction counts as dead.
    """

    def __init__(
        self,
        rpc: RpcPool,
        signer: Signer,
        lane: NonceLane,
        *,
        policy: FeePolicy | None = None,
        confirmations: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self.address = signer.address
        self.policy = policy or FeePolicy()
        self.lane = lane
        self._rpc = rpc
        self._signer = signer
        self._confirmations = max(1, confirmations)
        self.market = MarketWatch(rpc, clock=clock)
        self._outbox = Gather[Prepared, BackendError | None](
            self._broadcast_now, window_seconds=_OUTBOX_SECONDS, in_turn=True
        )
        self._desk = Gather[_Order, Prepared | GatewayError](
            self._prepare_now, window_seconds=_DESK_SECONDS, in_turn=True
        )
        self._at_once = 1

    async def fetch_fees(self) -> Fees:
        """Return what to offer now. Raises FeeTooHigh, or as `rpc.request`."""
        return self.policy.choose(await self.market.fetch())

    async def estimate(self, call: Call) -> Offer:
        """Return what to offer for a call. Sends and signs nothing.

        Raises Reverted (with the contract's reason) if the call would revert now, InsufficientFunds,
        FeeTooHigh, or as `rpc.request`.
        """
        # Asked in one moment, so that it is one request.
        gas, fees, balance, _ = await asyncio.gather(
            fetch_gas(self._rpc, call, self.address, self.policy),
            self.fetch_fees(),
            fetch_balance(self._rpc, self.address),
            self.lane.refresh(),
        )
        self.policy.check(gas, fees)
        wanted = call.value + gas * fees.max_fee
        if balance < wanted:
            raise InsufficientFunds(f"{self.address} has {balance}, and this may take {wanted}")
        return Offer(gas, fees)

    async def prepare(self, call: Call, *, owner: str = "", offer: Offer | None = None) -> Prepared:
        """Give a call gas, fees and a nonce, and sign it. Nothing is sent.

        Args:
            call: what to do.
            owner: whose act it is, for the nonces' book.
            offer: of `estimate`, a moment ago; then nothing is asked any more.

        Raises as `estimate`, and SigningFailed; then no nonce is used up.
        """
        [made] = await self._desk.ask([_Order(call, owner, offer or await self.estimate(call))])
        if isinstance(made, GatewayError):
            raise made
        return made

    async def discard(self, prepared: Prepared) -> None:
        """Throw away what was never broadcast; its nonce is given out again. Raises NonceInUse if it was."""
        await self.lane.give_back(prepared.nonce)

    async def broadcast(self, prepared: Prepared) -> None:
        """Hand the bytes to an RPC; to another one too if the first does not answer. Safe to repeat.

        Returns once an RPC has it, now or from before. After an error with `landed` False the transaction is
        nowhere, its nonce is given out again, and it must be prepared anew.

        Raises:
            InDoubt: nobody knows; `look_up` tells. NonceTaken is one: another transaction has the nonce.
            TypeRefused: the act may be signed as a legacy transaction (`retype`); the nonce stays its own.
            InsufficientFunds, Underpriced, RpcRefused: refused for good.
            Unavailable: no RPC could be reached.
        """
        [error] = await self._outbox.ask([prepared])
        if error is not None:
            raise error

    async def broadcast_many(self, prepared: Sequence[Prepared]) -> list[BackendError | None]:
        """Broadcast many in as few requests as the RPC allows; return per transaction None or its error."""
        return await self._outbox.ask(prepared)

    async def look_up(self, prepared: Prepared) -> Look:
        """Say where a transaction is. Raises nothing: trouble with the RPC is UNKNOWN.

        DEAD is said only with a proof: the hash of the transaction that has the nonce, in a block that is
        final. That a replica shows neither receipt nor transaction proves nothing.
        """
        return await look_up(self._rpc, prepared, confirmations=self._confirmations)

    async def replace(
        self, prepared: Prepared, *, bump: bool = True, instead: Call | None = None
    ) -> Prepared:
        """Sign the same act once more at the same nonce, for more: at least an eighth, or what it costs now.

        Without `bump` for what it costs now: no RPC holds the first one. `instead`: another act.

        One of the two lands, and whoever knows one of them finds out about the other: `look_up` takes a
        transaction of the same nonce that does the same for the act itself. Broadcast the new one, and look
        for the receipts of both. Raises FeeTooHigh, SigningFailed, or as `rpc.request`.
        """
        fees = await self.fetch_fees()
        call = instead or parse_call(prepared.raw)
        offer = Offer(call.gas or prepared.gas, bump_fees(prepared.fees, fees) if bump else fees)
        self.policy.check(offer.gas, offer.fees)
        new = await self._sign(call, prepared.nonce, offer)
        await self.lane.write_signed([Signed(new)])
        return new

    async def mend(self) -> int:
        """Close the gaps that keep later transactions waiting; return how many there were.

        What the RPCs have lost is sent again, the same bytes; a nonce that was given back and that nobody
        took is used up by sending nothing to ourselves. Raises as `prepare` and `broadcast`.
        """
        gaps = await self.lane.find_gaps()
        fillers = [filler for nonce in gaps.unused if (filler := await self._make_filler(nonce))]
        closing = [*gaps.missing, *fillers]
        for prepared, error in zip(closing, await self.broadcast_many(closing), strict=True):
            if isinstance(error, TypeRefused):
                await self.broadcast(await retype(self, prepared, error))
            elif error is not None:
                raise error
        return len(gaps.missing) + len(fillers)

    async def _make_filler(self, nonce: int) -> Prepared | None:
        fees = await self.fetch_fees()
        if not await self.lane.take(nonce, "gap"):
            return None
        call = Call(self.address, gas=_FILLER_GAS)
        [made] = await self._sign_all([_Order(call, "gap", Offer(_FILLER_GAS, fees))], [nonce])
        if isinstance(made, GatewayError):
            raise made
        return made

    async def _prepare_now(self, orders: list[_Order]) -> list[Prepared | GatewayError]:
        """Give nonces to as many as are signed soon: what takes too long loses them again."""
        made: list[Prepared | GatewayError] = []
        while len(made) < len(orders):
            some = orders[len(made) : len(made) + self._at_once]
            began = time.monotonic()
            made += await self._sign_all(some, await self.lane.allocate([order.owner for order in some]))
            each_seconds = max(1e-6, time.monotonic() - began) / len(some)
            self._at_once = max(1, min(_MOST_AT_ONCE, int(_SIGNING_SECONDS / each_seconds)))
        return made

    async def _sign_all(
        self, orders: Sequence[_Order], nonces: Sequence[int]
    ) -> list[Prepared | GatewayError]:
        """Sign each at the next nonce; what can't be signed leaves it to the one after, so no gap stays."""
        made: list[Prepared | GatewayError] = []
        signed: list[Signed] = []
        left = [(nonce, order.owner) for nonce, order in zip(nonces, orders, strict=True)]
        held = list(left)
        try:
            for order in orders:
                nonce, holder = left[0]
                try:
                    prepared = await self._sign(order.call, nonce, order.offer)
                except GatewayError as error:
                    made.append(error)
                    continue
                made.append(prepared)
                signed.append(Signed(prepared, order.owner, holder))
                del left[0]
            written = iter(await self.lane.write_signed(signed))
        except BaseException:
            left = held
            raise
        finally:
            for nonce, holder in reversed(left):
                await self.lane.give_back(nonce, holder=holder)
        return [one if isinstance(one, GatewayError) or next(written) else _make_taken(one) for one in made]

    async def _sign(self, call: Call, nonce: int, offer: Offer) -> Prepared:
        from eth_utils.address import to_checksum_address
        from eth_utils.crypto import keccak

        fields: dict[str, JSON] = {
            "chainId": self.lane.key.chain_id,
            "nonce": nonce,
            "value": call.value,
            "data": "0x" + call.data.hex(),
            "gas": offer.gas,
            **offer.fees.encode(),
        }
        if call.to is not None:
            fields["to"] = str(to_checksum_address(call.to))
        raw = await self._signer.sign(fields)
        if not raw:
            raise SigningFailed(f"the signer of {self.address} gave no bytes")
        return Prepared(
            chain_id=self.lane.key.chain_id,
            sender=self.address,
            nonce=nonce,
            raw="0x" + raw.hex(),
            hash="0x" + bytes(keccak(raw)).hex(),
            gas=offer.gas,
            fees=offer.fees,
        )

    async def _broadcast_now(self, items: list[Prepared]) -> list[BackendError | None]:
        distinct = list({item.hash: item for item in sorted(items, key=lambda item: item.nonce)}.values())
        errors: dict[str, BackendError | None] = {}
        sent_before: dict[str, bool] = {}
        # Written before it is done: after a crash in between, they count as sent.
        for item, row in zip(distinct, await self.lane.mark_sent(distinct), strict=True):
            if row is not None and not row.is_for(item):
                errors[item.hash] = NonceTaken(f"nonce {item.nonce} is given to another transaction by now")
            else:
                sent_before[item.hash] = row is None or row.state is NonceState.SENT
        going = [item for item in distinct if item.hash in sent_before]
        told = await self._rpc.send([item.raw for item in going])
        for item, outcomes in zip(going, told, strict=True):
            error = errors[item.hash] = judge(
                item.hash,
                outcomes,
                sent_before=sent_before[item.hash],
                has_tip=item.fees.tip is not None,
            )
            if error is not None and error.landed is False:
                await self.lane.give_back(item.nonce, refused=True)
            if isinstance(error, NonceTaken):
                self.lane.suspect()
            if isinstance(error, TypeRefused):
                self.market.takes_tips = False
                if error.is_nowhere:
                    await self.lane.note_refused(item)
        return [errors[item.hash] for item in items]


def _make_taken(prepared: Prepared) -> NonceInUse:
    return NonceInUse(f"nonce {prepared.nonce} of {prepared.sender} was given to another act")
