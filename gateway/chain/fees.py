"""What a transaction may cost: EIP-1559 where the chain has it, a gas price where not, and caps.

All fees are in the chain's smallest unit (wei) per unit of gas; all gas is in units of gas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.chain.endpoint import InternalError
from gateway.chain.rpc import Asks, Outcome, Question, RpcRefused
from gateway.clock import Clock, SystemClock
from gateway.errors import BackendError, Misbehaved, Rejected
from gateway.types import JSON

_FRESH_SECONDS = 2.0
_BUMP_PER_MILLE = 1125  # what nodes want for a replacement: an eighth more of each fee


class FeeTooHigh(Rejected):
    """The fees of the moment are above a configured cap. Nothing was signed."""


@dataclass(frozen=True, slots=True)
class Fees:
    """What is offered per unit of gas.

    Attributes:
        max_fee: at most this much; on a chain without EIP-1559 exactly this much.
        tip: of it, at most this for the block's producer; None: the chain has no EIP-1559.
    """

    max_fee: int
    tip: int | None = None

    def encode(self) -> dict[str, JSON]:
        """Return the fields that a transaction has for it."""
        if self.tip is None:
            return {"gasPrice": self.max_fee}
        return {"type": 2, "maxFeePerGas": self.max_fee, "maxPriorityFeePerGas": self.tip}


@dataclass(frozen=True, slots=True)
class FeePolicy:
    """How fees are chosen, and what is too much.

    Attributes:
        gas_margin_percent: added to an estimate: what a call needs depends on what lands before it.
        base_fee_factor: room for the base fee to rise while the transaction waits; it rises by an eighth per
            full block, so 2 is enough for five of them.
        max_gas: of one transaction.
        max_fee: per unit of gas.
        max_cost: of gas times fee, of one transaction.
    """

    gas_margin_percent: int = 20
    base_fee_factor: int = 2
    max_gas: int | None = None
    max_fee: int | None = None
    max_cost: int | None = None

    def choose(self, market: Market) -> Fees:
        """Return what to offer now. Below a cap on the fee as much as fits is offered.

        Raises FeeTooHigh if not even the base fee of the moment fits under `max_fee`.
        """
        if market.base_fee is None or market.tip is None:
            self._check(market.gas_price)
            return Fees(market.gas_price)
        self._check(market.base_fee + market.tip)
        wanted = market.base_fee * self.base_fee_factor + market.tip
        max_fee = wanted if self.max_fee is None else min(wanted, self.max_fee)
        return Fees(max_fee, market.tip)

    def add_margin(self, estimate: int) -> int:
        """Return the gas limit for an estimate."""
        return -(-estimate * (100 + self.gas_margin_percent) // 100)

    def check(self, gas: int, fees: Fees) -> None:
        """Raise FeeTooHigh for a transaction above a cap."""
        self._check(fees.max_fee)
        if self.max_gas is not None and gas > self.max_gas:
            raise FeeTooHigh(f"the call wants {gas} gas, and max_gas is {self.max_gas}")
        cost = gas * fees.max_fee
        if self.max_cost is not None and cost > self.max_cost:
            raise FeeTooHigh(f"the transaction may cost {cost}, and max_cost is {self.max_cost}")

    def _check(self, fee: int) -> None:
        if self.max_fee is not None and fee > self.max_fee:
            raise FeeTooHigh(f"the chain wants {fee} per gas, and max_fee is {self.max_fee}")


@dataclass(frozen=True, slots=True)
class Market:
    """What the chain asks at the moment; base_fee and tip are None where it has no EIP-1559."""

    gas_price: int
    base_fee: int | None = None
    tip: int | None = None

    def shuts_out(self, fees: Fees) -> bool:
        """Say whether no block takes a transaction of these fees as things are: it waits for better times."""
        return fees.max_fee < (self.gas_price if self.base_fee is None else self.base_fee)


def bump_fees(old: Fees, now: Fees) -> Fees:
    """Return what replaces `old` at the same nonce: an eighth more of each, or what the market wants now.

    A node refuses less ("replacement transaction underpriced").
    """
    raised = -(-old.max_fee * _BUMP_PER_MILLE // 1000)
    if old.tip is None:
        return Fees(max(raised, now.max_fee))
    tip = max(-(-old.tip * _BUMP_PER_MILLE // 1000), now.tip or 0)
    return Fees(max(raised, now.max_fee, tip), tip)


async def fetch_market(rpc: Asks) -> Market:
    """Ask what gas costs, in one batch. Raises as `rpc.request`.

    A chain whose blocks have no base fee, and an RPC that knows no tip and no fee history, are legacy.
    """
    questions: list[Question] = [
        ("eth_getBlockByNumber", ["latest", False]),
        ("eth_gasPrice", []),
        ("eth_maxPriorityFeePerGas", []),
    ]
    block, price, tip = await rpc.ask(questions)
    if isinstance(block, BackendError):
        raise block
    base_fee = block.get("baseFeePerGas") if isinstance(block, Mapping) else None
    if base_fee is None:
        return Market(_parse(price, "gas price"))
    if isinstance(tip, RpcRefused | InternalError):  # it has base fees, and does not know the method
        return Market(_parse(price, "gas price"))
    base = _parse(base_fee, "base fee")
    tip_now = _parse(tip, "tip")
    gas_price = base + tip_now if isinstance(price, BackendError) else _parse(price, "gas price")
    return Market(gas_price, base, tip_now)


def _parse(outcome: Outcome, name: str) -> int:
    if isinstance(outcome, BackendError):
        raise outcome
    try:
        return int(outcome, 16)
    except (TypeError, ValueError) as error:
        raise Misbehaved(f"the RPC sent no {name}") from error


class MarketWatch:
    """What the chain asks, at most two seconds old: a base fee holds for a block, and policies leave room.

    Attributes:
        takes_tips: False once an RPC has refused a transaction with tips, whatever its fee methods say: from
            then on the market is one without EIP-1559.
    """

    def __init__(self, rpc: Asks, *, clock: Clock | None = None) -> None:
        self._rpc = rpc
        self._clock = clock or SystemClock()
        self._seen: tuple[float, Market] | None = None
        self.takes_tips = True

    async def fetch(self) -> Market:
        """Return what it asks. Raises as `rpc.request`."""
        now = self._clock.monotonic()
        if self._seen is None or now - self._seen[0] >= _FRESH_SECONDS:
            self._seen = now, await fetch_market(self._rpc)
        market = self._seen[1]
        return market if self.takes_tips else Market(market.gas_price)
