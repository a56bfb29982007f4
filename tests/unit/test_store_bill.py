"""The bill: sums that hide nothing, from both stores, told apart by backend, model and day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from engine_setup import make_task, open_gateway, run_to_end
from hypothesis import given
from hypothesis import strategies as st

from gateway import Gateway, GatewayError
from gateway.errors import CostOutcome
from gateway.store.bill import BY, BillLine, By, Total, make_bill
from gateway.store.ledger import Entry
from gateway.task import Cost
from gateway.testing import FakeAdapter, FakeClock, Fault
from gateway.types import Money

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


def usd(text: str) -> Money:
    return Money.parse(f"{text} USD")


def make_entry(backend: str = "a", at: datetime = NOON, *, ended: bool = True, **cost: object) -> Entry:
    return Entry(at=at, run_id="run_1", backend=backend, model="m", ended=ended, cost=Cost(**cost))  # type: ignore[arg-type]


FREE = make_entry(outcome=CostOutcome.NOT_CHARGED)
PAID = make_entry(quoted=usd("2"), reserved=usd("3"), settled=usd("1"), outcome=CostOutcome.CHARGED)
UNDER_WAY = make_entry(quoted=usd("2"), reserved=usd("3"), ended=False)
NOBODY_KNOWS = make_entry(quoted=usd("2"), reserved=usd("3"))
NOT_EVEN_QUOTED = make_entry()
CHARGED_SOMETHING = make_entry(quoted=usd("2"), reserved=usd("3"), outcome=CostOutcome.CHARGED)
REFUSED = make_entry(quoted=usd("2"), outcome=CostOutcome.NOT_CHARGED)
REFUNDED = make_entry(quoted=usd("2"), reserved=usd("3"), settled=usd("0.1"), outcome=CostOutcome.NOT_CHARGED)


def tell(*entries: Entry) -> tuple[Total, Total, Total]:
    (line,) = make_bill(entries, ())
    return line.quoted, line.reserved, line.settled


NONE = Total()


@pytest.mark.parametrize(
    ("entry", "quoted", "reserved", "settled"),
    [
        (FREE, NONE, NONE, NONE),
        (PAID, Total(known=(usd("2"),)), NONE, Total(known=(usd("1"),))),
        (UNDER_WAY, Total(known=(usd("2"),)), Total(known=(usd("3"),)), NONE),
        (NOBODY_KNOWS, Total(known=(usd("2"),)), Total(known=(usd("3"),)), Total(unknown=1)),
        (NOT_EVEN_QUOTED, Total(unknown=1), Total(unknown=1), Total(unknown=1)),
        (CHARGED_SOMETHING, Total(known=(usd("2"),)), Total(known=(usd("3"),)), Total(unknown=1)),
        (REFUSED, Total(known=(usd("2"),)), NONE, NONE),
        (REFUNDED, Total(known=(usd("2"),)), NONE, Total(known=(usd("0.1"),))),
    ],
)
def test_each_kind_of_attempt(entry: Entry, quoted: Total, reserved: Total, settled: Total) -> None:
    assert tell(entry) == (quoted, reserved, settled)


def test_unknown_is_counted_beside_what_is_known() -> None:
    (line,) = make_bill([PAID, NOBODY_KNOWS, NOBODY_KNOWS, FREE, UNDER_WAY], ())
    assert (line.attempts, line.under_way) == (5, 1)
    assert line.settled == Total(known=(usd("1"),), unknown=2)
    assert line.reserved == Total(known=(usd("9"),))


def test_assets_are_never_added_together() -> None:
    euro = make_entry(settled=Money.parse("1 EUR"), outcome=CostOutcome.CHARGED)
    assert tell(PAID, euro)[2].known == (Money.parse("1 EUR"), usd("1"))


def test_a_day_is_one_of_utc() -> None:
    late = datetime(2026, 3, 1, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    (line,) = make_bill([make_entry(at=late)], ("day",))
    assert (line.day, line.backend, line.model) == (date(2026, 3, 2), None, None)


def test_a_line_for_each_in_order_and_none_for_nothing() -> None:
    entries = [make_entry("b"), make_entry("a", NOON + timedelta(days=1)), make_entry("a")]
    lines = make_bill(entries)
    assert [(line.backend, line.model, line.day) for line in lines] == [
        ("a", "m", date(2026, 3, 1)),
        ("a", "m", date(2026, 3, 2)),
        ("b", "m", date(2026, 3, 1)),
    ]
    assert make_bill([]) == []
    assert BillLine.model_validate_json(lines[0].model_dump_json()) == lines[0]


ENTRIES = st.lists(
    st.sampled_from([FREE, PAID, UNDER_WAY, NOBODY_KNOWS, REFUSED, NOT_EVEN_QUOTED]).flatmap(
        lambda entry: st.builds(
            lambda backend, days: Entry(
                at=NOON + timedelta(days=days),
                run_id="run_1",
                backend=backend,
                model=None,
                ended=entry.ended,
                cost=entry.cost,
            ),
            st.sampled_from("abc"),
            st.integers(0, 2),
        )
    )
)


@given(ENTRIES, st.lists(st.sampled_from(BY), unique=True))
def test_however_it_is_told_apart_it_is_the_same_money(entries: list[Entry], by: list[By]) -> None:
    lines = make_bill(entries, by)
    for name in ("quoted", "reserved", "settled"):
        whole: list[Total] = [getattr(line, name) for line in make_bill(entries, ())]
        parts: list[Total] = [getattr(line, name) for line in lines]
        amounts = [money.amount for part in parts for money in part.known]
        assert sum(amounts) == sum(money.amount for total in whole for money in total.known)
        assert sum(part.unknown for part in parts) == sum(total.unknown for total in whole)
    assert sum(line.attempts for line in lines) == len(entries)


@pytest.mark.anyio
async def test_the_gateway_tells_what_its_runs_cost() -> None:
    clock = FakeClock()
    a, b = FakeAdapter("a", clock=clock), FakeAdapter("b", clock=clock)
    prices = {"a": {"app": "echo", "cost": "1 USD"}, "b": {"app": "echo", "cost": "2 USD"}}
    async with open_gateway(a, b, clock=clock, targets=prices) as gateway:
        await gateway.run(make_task())
        b.backend.arm(Fault.LOSE_ANSWER)
        b.backend.arm(Fault.UNKNOWN, times=100)
        run = await run_to_end(gateway, make_task(on_doubt="fail"), "b")
        assert run.cost_outcome is CostOutcome.UNKNOWN
        lines = await gateway.costs(BEGINNING, by=("backend",))
        assert [(line.backend, line.settled, line.reserved) for line in lines] == [
            ("a", Total(known=(usd("1"),)), NONE),
            ("b", Total(unknown=1), Total(known=(usd("2"),))),
        ]
        assert await gateway.costs(clock.now() + timedelta(seconds=1)) == []


def test_costs_refuse_what_they_do_not_know() -> None:
    with Gateway([FakeAdapter("a")], {"m": {"targets": {"a": {"app": "echo"}}}}) as gateway:
        assert gateway.costs(BEGINNING) == []
        with pytest.raises(GatewayError, match="no time zone"):
            gateway.costs(datetime(2026, 1, 1))  # noqa: DTZ001  that it has none is the point
        with pytest.raises(GatewayError, match="'year' is not known; known: backend, model, day"):
            gateway.costs(BEGINNING, by=("year",))  # type: ignore[arg-type]  # the point
