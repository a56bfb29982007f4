from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.cli.progress import describe_event
from gateway.cli.words import (
    format_answer,
    format_backends,
    format_cost,
    format_quote,
    format_seconds,
    format_summary,
)
from gateway.errors import CostOutcome
from gateway.lifecycle import AttemptStatus, Status
from gateway.task import Attempt, Cost, Event, Quote, Run, Snapshot, Task
from gateway.types import AttemptId, Money, RunId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PRICE = Money.parse("0.002 USD")


def make_attempt(number: int, backend: str, status: AttemptStatus, **cost: object) -> Attempt:
    return Attempt(
        id=AttemptId(f"a{number}"),
        number=number,
        backend=backend,
        address="",
        target={},
        status=status,
        created_at=NOW,
        cost=Cost(**cost),  # type: ignore[arg-type]
    )


def make_run(*attempts: Attempt) -> Run:
    return Run(
        id=RunId("run_1"),
        task=Task(model="m"),
        backend="auto",
        status=Status.COMPLETED,
        created_at=NOW,
        updated_at=NOW,
        ended_at=NOW + timedelta(seconds=2.1),
        attempts=attempts,
    )


REFUSED = make_attempt(1, "node1", AttemptStatus.REFUSED, outcome=CostOutcome.NOT_CHARGED)
PAID = make_attempt(2, "hosted", AttemptStatus.SUCCEEDED, outcome=CostOutcome.CHARGED, settled=PRICE)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 ms"), (0.0341, "34 ms"), (2.14, "2.1 s"), (200, "3 m 20 s"), (7500, "2 h 5 m")],
)
def test_seconds(seconds: float, told: str) -> None:
    assert format_seconds(seconds) == told


def test_a_text_is_an_answer_as_it_stands_and_json_keeps_its_words() -> None:
    assert format_answer("grüezi") == "grüezi"
    assert format_answer({"a": "ü", "n": float("nan")}) == '{\n  "a": "ü",\n  "n": NaN\n}'


def test_a_refused_attempt_cost_nothing_and_is_not_on_the_bill() -> None:
    assert format_cost(make_run(REFUSED)) == "nothing"
    assert format_cost(make_run(REFUSED, PAID)) == "0.002 USD"


def test_every_paid_attempt_is_on_the_bill() -> None:
    failed = replace(PAID, number=1, status=AttemptStatus.FAILED)
    assert format_cost(make_run(failed, PAID)) == "0.002 USD, 0.002 USD"


def test_unknown_is_never_nothing() -> None:
    lost = make_attempt(1, "hosted", AttemptStatus.UNRESOLVED, quoted=PRICE)
    assert format_cost(make_run(lost)) == "unknown (quoted 0.002 USD)"
    charged = make_attempt(1, "hosted", AttemptStatus.SUCCEEDED, outcome=CostOutcome.CHARGED)
    assert format_cost(make_run(charged)) == "charged, amount unknown"


def test_free_is_said_of_what_succeeded() -> None:
    free = make_attempt(1, "node1", AttemptStatus.SUCCEEDED, outcome=CostOutcome.NOT_CHARGED)
    assert format_cost(make_run(free)) == "free"


@pytest.mark.parametrize(
    ("quote", "told"),
    [
        (None, "unknown"),
        (Quote(expected=None, upper=None, confidence="unknown"), "unknown"),
        (Quote(expected=None, upper=None, confidence="free"), "free"),
        (Quote(expected=PRICE, upper=PRICE, confidence="configured"), "0.002 USD (configured)"),
        (Quote(expected=PRICE, upper=PRICE + PRICE, confidence="range"), "0.002 USD to 0.004 USD"),
    ],
)
def test_quotes(quote: Quote | None, told: str) -> None:
    assert format_quote(quote) == told


def test_where_a_run_has_been() -> None:
    again = replace(REFUSED, number=2)
    assert format_backends(make_run()) == "-"
    assert format_backends(make_run(REFUSED, again, replace(PAID, number=3))) == "node1, hosted"


def test_the_summary_says_how_it_ended() -> None:
    assert (
        format_summary(make_run(REFUSED, PAID)) == "COMPLETED at hosted in 2.1 s, 2 attempts, cost: 0.002 USD"
    )


def test_a_run_with_copies_shows_what_they_cost_and_never_nothing_before_that_is_known() -> None:
    copies = (RunId("run_2"), RunId("run_3"))
    running = replace(make_run(), children=copies, children_at=("node1", "hosted"))
    assert format_cost(running) == "unknown, its copies are under way"
    assert running.cost_outcome is CostOutcome.UNKNOWN
    free, paid = Cost(outcome=CostOutcome.NOT_CHARGED), Cost(outcome=CostOutcome.CHARGED, settled=PRICE)
    ended = replace(running, costs_of_children=(free, paid))
    assert format_summary(ended) == "COMPLETED by node1, hosted in 2.1 s, 2 copies, cost: 0.002 USD"
    assert format_cost(replace(running, costs_of_children=(free, free))) == "free"


def test_events_in_one_line() -> None:
    attempt = Event(kind="attempt", attempt=1, backend="node1", message="submitted")
    assert describe_event(attempt) == "attempt 1 at node1: submitted"
    assert describe_event(Event(kind="status", status=Status.RUNNING)) == "RUNNING"
    look = Snapshot(status=Status.RUNNING, message="at 10 %")
    assert describe_event(Event(kind="snapshot", snapshot=look)) == "at 10 %"
    assert describe_event(Event(kind="snapshot", snapshot=Snapshot(status=Status.RUNNING))) is None
    assert describe_event(Event(kind="end", status=Status.COMPLETED)) is None
