"""What is offered for gas, and what is too much."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chain.fees import FeePolicy, Fees, FeeTooHigh, Market, bump_fees, fetch_market
from gateway.chain.prepared import Prepared
from gateway.chain.rpc import RpcRefused
from gateway.errors import Misbehaved, Rejected, Unavailable

pytestmark = pytest.mark.anyio

WEI = st.integers(min_value=0, max_value=10**20)
FEES = st.builds(Fees, WEI, st.none()) | WEI.flatmap(
    lambda tip: st.builds(Fees, st.integers(min_value=tip, max_value=10**20), st.just(tip))
)
MARKETS = st.builds(Market, WEI, WEI, WEI) | st.builds(Market, WEI)


@given(FEES, FEES)
def test_a_bump_is_at_least_an_eighth_of_each(old: Fees, now: Fees) -> None:
    bumped = bump_fees(old, now)
    assert bumped.max_fee * 8 >= old.max_fee * 9
    assert bumped.max_fee >= now.max_fee
    assert (bumped.tip is None) == (old.tip is None)
    if bumped.tip is not None and old.tip is not None:
        assert bumped.tip * 8 >= old.tip * 9
        assert bumped.max_fee >= bumped.tip


@given(MARKETS)
def test_what_is_offered_now_is_never_shut_out_now(market: Market) -> None:
    assert not market.shuts_out(FeePolicy().choose(market))


@pytest.mark.parametrize(("market", "fees"), [(Market(10), Fees(9)), (Market(12, 10, 2), Fees(9, 1))])
def test_what_is_below_the_base_fee_is_shut_out(market: Market, fees: Fees) -> None:
    assert market.shuts_out(fees)


@given(MARKETS, st.none() | WEI)
def test_an_offer_is_under_the_cap_and_above_the_base_fee(market: Market, cap: int | None) -> None:
    policy = FeePolicy(max_fee=cap)
    needed = market.gas_price if market.base_fee is None else market.base_fee + (market.tip or 0)
    if cap is not None and needed > cap:
        with pytest.raises(FeeTooHigh):
            policy.choose(market)
        return
    fees = policy.choose(market)
    assert fees.max_fee >= needed
    assert cap is None or fees.max_fee <= cap
    policy.check(1, fees)


@given(st.integers(min_value=0, max_value=10**9), st.integers(min_value=0, max_value=300))
def test_the_margin_is_never_cut(estimate: int, percent: int) -> None:
    gas = FeePolicy(gas_margin_percent=percent).add_margin(estimate)
    assert gas * 100 >= estimate * (100 + percent) > (gas - 1) * 100


@pytest.mark.parametrize("policy", [FeePolicy(max_fee=9), FeePolicy(max_gas=99), FeePolicy(max_cost=999)])
def test_caps(policy: FeePolicy) -> None:
    with pytest.raises(FeeTooHigh) as caught:
        policy.check(100, Fees(10, 1))
    assert isinstance(caught.value, Rejected)
    FeePolicy(max_fee=10, max_gas=100, max_cost=1000).check(100, Fees(10, 1))


def test_fields() -> None:
    assert Fees(5).encode() == {"gasPrice": 5}
    assert Fees(5, 0).encode() == {"type": 2, "maxFeePerGas": 5, "maxPriorityFeePerGas": 0}


class Says:
    """An RPC that gives these outcomes."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)

    async def ask(self, questions: Any) -> list[Any]:
        return self.outcomes


UNHEARD = RpcRefused("the method does not exist", code="-32601")


@pytest.mark.parametrize(
    ("outcomes", "market"),
    [
        (({"baseFeePerGas": "0x64"}, "0x70", "0x3"), Market(0x70, 100, 3)),
        (({"baseFeePerGas": "0x64"}, UNHEARD, "0x3"), Market(103, 100, 3)),
        (({"baseFeePerGas": "0x64"}, "0x70", UNHEARD), Market(0x70)),
        (({}, "0x70", "0x3"), Market(0x70)),
        (({}, "0x70", UNHEARD), Market(0x70)),
        ((None, "0x70", UNHEARD), Market(0x70)),
    ],
)
async def test_markets(outcomes: Any, market: Market) -> None:
    assert await fetch_market(Says(*outcomes)) == market


@pytest.mark.parametrize(
    ("outcomes", "kind"),
    [
        ((Unavailable("down"), "0x70", "0x3"), Unavailable),
        (({}, Unavailable("down"), "0x3"), Unavailable),
        (({"baseFeePerGas": "0x64"}, "0x70", Unavailable("down")), Unavailable),
        (({"baseFeePerGas": "none"}, "0x70", "0x3"), Misbehaved),
        (({}, None, "0x3"), Misbehaved),
    ],
)
async def test_no_market(outcomes: Any, kind: Any) -> None:
    with pytest.raises(kind):
        await fetch_market(Says(*outcomes))


@given(
    st.builds(
        Prepared,
        chain_id=st.integers(min_value=1, max_value=2**64),
        sender=st.text(),
        nonce=st.integers(min_value=0),
        raw=st.text(),
        hash=st.text(),
        gas=st.integers(min_value=0),
        fees=FEES,
    )
)
def test_prepared_survives_json(prepared: Prepared) -> None:
    import json

    assert Prepared.parse(json.loads(json.dumps(prepared.encode()))) == prepared
    assert prepared.max_cost == prepared.gas * prepared.fees.max_fee


@pytest.mark.parametrize("data", [{}, {"tip": 3}, {"chain_id": None, "tip": None}])
def test_what_is_not_prepared(data: Any) -> None:
    with pytest.raises(ValueError, match="no prepared"):
        Prepared.parse(data)
