"""Money is exact, whatever its size, and never mixes assets."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gateway.types import DECIMALS, Money, hide_userinfo, sum_money

KNOWN = sorted(DECIMALS)
TOKENS = ["erc20:1:0xdAC17F958D2ee523a2206206994597C13D831ec7", "x:y"]
AMOUNTS = st.integers(-(10**90), 10**90)


@given(AMOUNTS, st.sampled_from([*KNOWN, *TOKENS]))
def test_money_survives_its_own_text(amount: int, asset: str) -> None:
    money = Money(amount, asset)
    assert Money.parse(str(money)) == money
    assert "e" not in str(money).split()[0].lower()


@given(st.integers(0, 10**12), st.integers(0, 10**8 - 1))
def test_the_text_is_the_number_as_people_write_it(whole: int, fraction: int) -> None:
    text = f"{whole}.{fraction:08}"
    money = Money.parse(f"{text} USD")
    assert money.amount == whole * 10**8 + fraction
    assert str(money) == f"{text.rstrip('0').rstrip('.')} USD"


@pytest.mark.parametrize(
    ("text", "amount", "asset"),
    [
        ("0.002 USD", 200_000, "USD"),
        ("1 USD", 100_000_000, "USD"),
        ("-1.5 EUR", -150_000_000, "EUR"),
        ("-0.00000001 USD", -1, "USD"),
        ("-0 USD", 0, "USD"),
        ("0.002usd", 200_000, "USD"),
        ("  007.50   usd ", 750_000_000, "USD"),
        ("1.00000000000000 USD", 100_000_000, "USD"),
        ("0.000000000000000001 ETH", 1, "ETH"),
        ("5 erc20:1:0xabC", 5, "erc20:1:0xabC"),
        ("5.000 erc20:1:0xabC", 5, "erc20:1:0xabC"),
        (f"{2**256}.000000000000000001 ETH", 2**256 * 10**18 + 1, "ETH"),
    ],
)  # fmt: skip
def test_amounts_are_read(text: str, amount: int, asset: str) -> None:
    assert Money.parse(text) == Money(amount, asset)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "USD", "1", "1 2 USD", "1,5 USD", "1. USD", ".5 USD", "+1 USD", "1e3 USD", "0x1 USD",
        "NaN USD", "Infinity USD", "1 $", "$1", "1_000 USD", "\u0661 USD", "--1 USD", "1 USD;",
        "1" * 5000 + " USD",
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an amount of money; write it as \"0.002 USD\""):
        Money.parse(text)


@pytest.mark.parametrize("asset", ["XYZ", "usdc", "DOGE"])
def test_an_unknown_asset_is_refused_with_the_known_ones(asset: str) -> None:
    with pytest.raises(ValueError, match=f"unknown asset '{asset.upper()}'; known: USD, EUR"):
        Money.parse(f"1 {asset}")
    with pytest.raises(ValueError, match="unknown asset"):
        str(Money(1, asset))


@given(st.sampled_from([*KNOWN, "erc20:1:0xab"]), st.integers(1, 9))
def test_more_digits_than_the_asset_has_are_refused(asset: str, last: int) -> None:
    decimals = DECIMALS.get(asset, 0)
    with pytest.raises(ValueError, match=rf"more digits than {asset} can hold \({decimals}\)"):
        Money.parse(f"0.{'0' * decimals}{last} {asset}")


@given(AMOUNTS, AMOUNTS)
def test_one_asset_adds_and_compares_as_its_numbers_do(one: int, other: int) -> None:
    a, b = Money(one, "ETH"), Money(other, "ETH")
    assert a + b == Money(one + other, "ETH")
    assert a - b == Money(one - other, "ETH")
    assert (a < b, a <= b, a > b, a >= b, a == b) == (
        one < other,
        one <= other,
        one > other,
        one >= other,
        one == other,
    )
    assert isinstance((a + b).amount, int)


@pytest.mark.parametrize(
    "mix",
    [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a < b, lambda a, b: a <= b, lambda a, b: a > b,
     lambda a, b: a >= b, max],
)  # fmt: skip
def test_two_assets_never_mix(mix: object) -> None:
    assert callable(mix)
    with pytest.raises(ValueError, match=r"(USD and 1 EUR|EUR and 1 USD) are different assets"):
        mix(Money.parse("1 USD"), Money.parse("1 EUR"))
    assert Money(1, "USD") != Money(1, "EUR")


def test_money_never_comes_from_a_float() -> None:
    adapter = TypeAdapter(Money)
    for amount in (0.5, "0.5", None, [1]):
        with pytest.raises(ValidationError):
            adapter.validate_json(json.dumps({"amount": amount, "asset": "USD"}))
    with pytest.raises(TypeError):
        Money.parse(0.5)  # type: ignore[arg-type]  # that is the point
    assert adapter.validate_json(f'{{"amount": {10**40}, "asset": "USD"}}').amount == 10**40


def test_money_is_frozen_and_hashable() -> None:
    money = Money(1, "USD")
    with pytest.raises(FrozenInstanceError):
        money.amount = 2  # type: ignore[misc]  # that is the point
    assert len({money, Money(1, "USD"), Money(1, "EUR")}) == 2


@given(st.lists(st.builds(Money, AMOUNTS, st.sampled_from(KNOWN))))
def test_sums_are_kept_apart_by_asset(amounts: list[Money]) -> None:
    total = sum_money(amounts)
    assert set(total) == {money.asset for money in amounts}
    for asset, money in total.items():
        assert money == Money(sum(m.amount for m in amounts if m.asset == asset), asset)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://node:4000", "http://node:4000"),
        ("https://me:pass@word@node:4000/x", "https://node:4000/x"),
        ("https://token@node", "https://node"),
        ("https://node/@me?a=b@c", "https://node/@me?a=b@c"),
    ],
)
def test_a_url_is_shown_without_name_and_password(url: str, shown: str) -> None:
    assert hide_userinfo(url) == shown
