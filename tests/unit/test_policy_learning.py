"""What outcomes teach, weighted by their age, and what the scores make of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.lifecycle import AttemptStatus
from gateway.policy.learning import (
    HALF_COUNT,
    HALF_LIFE,
    TIME_HALF_LIFE,
    Observed,
    Outcome,
    make_outcome,
    observe,
)
from gateway.policy.scoring import Facts, score
from gateway.testing.store_promises.samples import START_AT, after, make_attempt

NOW = datetime(2030, 1, 2, tzinfo=UTC)
outcomes = st.lists(
    st.builds(
        Outcome,
        st.timedeltas(timedelta(days=-4000), timedelta(days=4000)).map(lambda ago: NOW - ago),
        st.booleans(),
        st.booleans(),
        st.floats(0, 1e6),
    ),
    max_size=20,
)


def outcome(
    *, ago: timedelta = timedelta(0), succeeded: bool = True, doubted: bool = False, seconds: float = 1.0
) -> Outcome:
    return Outcome(NOW - ago, succeeded, doubted, seconds)


def test_a_cold_start_is_said_as_it_is() -> None:
    assert observe([], NOW) == Observed(looks=0.0, success_rate=1.0, doubt_rate=0.0)


@given(outcomes)
def test_rates_are_shares_and_quantiles_are_times_that_were_seen(found: list[Outcome]) -> None:
    """Whatever the machine's clock did in between."""
    seen = observe(found, NOW)
    assert 0.0 <= seen.looks <= len(found)
    assert 0.0 <= seen.success_rate <= 1.0 + 1e-9
    assert 0.0 <= seen.doubt_rate <= 1.0 + 1e-9
    if seen.p50_seconds is not None and seen.p95_seconds is not None:
        assert seen.p50_seconds <= seen.p95_seconds
        assert {seen.p50_seconds, seen.p95_seconds} <= {o.seconds for o in found if o.succeeded}
    else:
        assert not seen.looks or not any(o.succeeded for o in found)


def test_an_outcome_fades_by_half_in_a_half_life() -> None:
    newer = 0.5 ** (1 / HALF_COUNT)
    seen = observe([outcome(), outcome(ago=HALF_LIFE, succeeded=False)], NOW)
    assert seen.looks == pytest.approx(1.0 + 0.5 * newer)
    assert seen.success_rate == pytest.approx(1.0 / seen.looks)
    assert observe([outcome(ago=HALF_LIFE * 5000)], NOW).looks == 0.0


def test_what_is_known_of_times_fades_sooner() -> None:
    assert observe([outcome(ago=TIME_HALF_LIFE)], NOW).time_looks == pytest.approx(0.5)
    assert observe([outcome(ago=TIME_HALF_LIFE)], NOW).looks > 0.5


def test_newer_outcomes_push_older_ones_aside() -> None:
    """Whatever order they come in."""
    bad = [outcome(ago=timedelta(seconds=n), succeeded=False) for n in range(HALF_COUNT)]
    good = [outcome(ago=timedelta(seconds=HALF_COUNT + n)) for n in range(90)]
    seen = observe([*good, *bad], NOW)
    assert seen.success_rate == pytest.approx(0.5, abs=0.01)
    assert observe([*bad, *good], NOW) == seen
    assert seen.failed_seconds == 1.0


def test_the_time_under_a_load_is_learnt() -> None:
    """Bursts of four that wait for each other, and single jobs: 2 s for each job that is there."""
    found = []
    for burst in range(20):
        for place in range(4 if burst % 2 else 1):
            began_ago, seconds = 100.0 * (burst + 1) - place / 1000, 2.0 * (place + 1)
            found.append(outcome(ago=timedelta(seconds=began_ago - seconds), seconds=seconds))
    seen = observe(found, NOW)
    assert seen.seconds_per_job == pytest.approx(2.0, rel=0.5)
    idle, full = (replace(seen, running=n).expected_seconds for n in (0, 10))
    assert idle is not None
    assert full is not None
    assert idle < 4.0
    assert full > 12.0


def test_times_that_do_not_follow_the_load_are_not_blamed_on_it() -> None:
    found = [outcome(ago=timedelta(seconds=3 * n), seconds=5.0) for n in range(50)]
    assert observe(found, NOW).seconds_per_job == pytest.approx(0.0)


def test_the_quantiles_are_those_of_the_successes() -> None:
    found = [outcome(seconds=float(n)) for n in (3, 1, 2)]
    seen = observe([*found, outcome(succeeded=False, seconds=9999.0)], NOW)
    assert (seen.p50_seconds, seen.p95_seconds) == (2.0, 3.0)
    never = observe([outcome(succeeded=False, seconds=7.0)], NOW)
    assert (never.p50_seconds, never.expected_seconds) == (None, 7.0)
    assert score(Facts(1.0, 1.0, never), "fastest")[0] is None


def test_what_an_attempt_teaches() -> None:
    landed: dict[str, Any] = {"submitted_at": START_AT, "ended_at": after(3)}
    good = make_outcome(make_attempt(status=AttemptStatus.SUCCEEDED, **landed))
    assert good == Outcome(after(3), succeeded=True, doubted=False, seconds=3.0)
    failed = make_outcome(make_attempt(status=AttemptStatus.FAILED, doubted=True, **landed))
    assert failed == Outcome(after(3), succeeded=False, doubted=True, seconds=3.0)
    assert make_outcome(make_attempt(submitted_at=START_AT)) is None
    assert make_outcome(make_attempt(status=AttemptStatus.REFUSED, ended_at=after(3))) is None
    doubted = make_outcome(make_attempt(status=AttemptStatus.UNRESOLVED, doubted=True, ended_at=after(3)))
    assert doubted == Outcome(after(3), succeeded=False, doubted=True, seconds=3.0)


rates = st.floats(0, 1)


@given(st.floats(0, 1e6), st.floats(0, 1e6), rates, rates, st.floats(0, 100))
def test_more_success_and_less_doubt_never_score_worse(
    price: float, exposure: float, one: float, other: float, looks: float
) -> None:
    low, high = sorted((one, other))
    for sort in ("balanced", "reliable"):
        good, _ = score(Facts(price, exposure, Observed(looks=looks, success_rate=high)), sort)
        bad, _ = score(Facts(price, exposure, Observed(looks=looks, success_rate=low)), sort)
        sure, _ = score(Facts(price, exposure, Observed(looks=looks, doubt_rate=low)), sort)
        doubtful, _ = score(Facts(price, exposure, Observed(looks=looks, doubt_rate=high)), sort)
        assert good is not None
        assert bad is not None
        assert sure is not None
        assert doubtful is not None
        assert good <= bad
        assert sure <= doubtful


def test_balanced_is_the_expected_cost_of_one_good_result() -> None:
    seen = Observed(looks=3.0, time_looks=1.0, success_rate=1 / 3, doubt_rate=0.5, p50_seconds=10.0)
    value, parts = score(Facts(2.0, 4.0, seen, value_of_second=0.1), "balanced")
    assert parts["p_success"] == pytest.approx(1.25 / 3.25)  # a quarter of a success is imagined
    assert parts["time_cost"] == pytest.approx(10.0 * 0.1 * 1.0 / 1.25)  # and that it came at once
    assert value == pytest.approx((2.0 + 0.5 * 4.0) * 3.25 / 1.25 + 1.0 / 1.25)


def test_the_benefit_of_the_doubt_grows_as_knowledge_fades_and_is_for_one_job_at_a_time() -> None:
    def tell(looks: float, running: int = 0) -> float:
        facts = {"looks": looks, "time_looks": looks / 2, "success_rate": 0.1, "p50_seconds": 9.0}
        seen = Observed(**facts, running=running)
        value, _ = score(Facts(1.0, 1.0, seen, value_of_second=1.0), "balanced")
        assert value is not None
        return value

    assert tell(20.0) > 15.0
    assert tell(20.0) > tell(1.0) > tell(0.01)
    assert tell(0.01) == pytest.approx(1.0, rel=0.5)
    assert tell(0.5, running=3) > tell(0.5)


def test_what_is_unknown_has_no_score() -> None:
    facts = Facts(None, None, Observed())
    assert [score(facts, sort)[0] for sort in ("cheapest", "fastest", "balanced")] == [None, None, None]
    assert score(facts, "reliable")[0] == 0.0
