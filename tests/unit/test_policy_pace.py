"""Waits are bounded, grow with the job's age, and are never shorter than the backend asked."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.pace import (
    FIRST_LOOK_SECONDS,
    LONGEST_LOOK_SECONDS,
    LONGEST_SILENT_LOOK_SECONDS,
    SHARE_OF_AGE,
    SHORTEST_LOOK_SECONDS,
    Pace,
    Usual,
    get_first_delay,
    get_look_delay,
    get_retry_delay,
)

ages = st.floats(0, 1e9)
failures = st.integers(0, 100_000)


@given(ages, failures)
def test_a_look_comes_neither_at_once_nor_never(age: float, silent: int) -> None:
    assert FIRST_LOOK_SECONDS <= get_look_delay(age, silent) <= LONGEST_SILENT_LOOK_SECONDS
    assert get_look_delay(age) <= LONGEST_LOOK_SECONDS


@given(ages)
def test_the_first_look_comes_at_once_where_a_job_may_have_ended(age: float) -> None:
    assert get_first_delay(age, None) == 0.0
    assert get_first_delay(age, Usual(0.0, 1.0)) == 0.0
    assert get_first_delay(age, Usual(age, age + 1.0)) == 0.0


@given(ages, st.floats(0.01, 1e5))
def test_the_first_look_comes_later_where_it_would_be_wasted(age: float, more: float) -> None:
    usual = Usual(age + more, age + more)
    assert get_first_delay(age, usual) == get_look_delay(age, 0, usual) > 0.0


@given(ages, ages, failures)
def test_looks_are_rarer_the_older_the_job(one: float, other: float, silent: int) -> None:
    younger, older = sorted((one, other))
    assert get_look_delay(younger, silent) <= get_look_delay(older, silent)


@given(ages, failures, failures)
def test_looks_are_rarer_the_longer_the_backend_is_silent(age: float, one: int, other: int) -> None:
    fewer, more = sorted((one, other))
    assert get_look_delay(age, fewer) <= get_look_delay(age, more)


def test_the_looks_that_follow_come_after_tens_of_milliseconds() -> None:
    age, looks = 0.0, []
    while age < 1.0:
        age += get_look_delay(age)
        looks.append(age)
    assert looks[:4] == pytest.approx([0.01, 0.02, 0.04, 0.07])
    assert sum(look < 0.2 for look in looks) >= 5
    assert len(looks) < 32


@given(st.floats(0.25, 80))
def test_a_result_is_seen_late_by_a_share_of_its_age_at_most(age: float) -> None:
    assert get_look_delay(age) == pytest.approx(age * SHARE_OF_AGE)


def test_a_day_of_waiting_takes_thousands_of_looks_and_not_more() -> None:
    age, looks = 0.0, 0
    while age < 86_400:
        age += get_look_delay(age)
        looks += 1
    assert looks < 9_000


def test_an_outage_of_weeks_is_looked_at_on() -> None:
    assert get_look_delay(1e6, 10**6) == LONGEST_SILENT_LOOK_SECONDS


usuals = st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)).map(lambda two: Usual(min(two), max(two)))


@given(ages, failures, usuals)
def test_what_is_usual_keeps_the_bounds(age: float, silent: int, usual: Usual) -> None:
    assert SHORTEST_LOOK_SECONDS <= get_look_delay(age, silent, usual) <= LONGEST_SILENT_LOOK_SECONDS
    assert get_look_delay(age, 0, usual) <= LONGEST_LOOK_SECONDS


@given(ages, usuals)
def test_after_the_earliest_nothing_is_seen_later_than_without_knowledge(age: float, usual: Usual) -> None:
    if age >= usual.early:
        assert get_look_delay(age, 0, usual) <= get_look_delay(age)


def look_on(seconds: float, usual: Usual | None, rtt: float = 0.0) -> tuple[float, int]:
    """Return how late the end of a job is seen that takes so long, and after how many looks."""
    late, looks, _ = look_and_tell(seconds, usual, rtt)
    return late, looks


def look_and_tell(seconds: float, usual: Usual | None, rtt: float = 0.0) -> tuple[float, int, float]:
    """As above, and the age at which it was last seen to run."""
    asked_at = get_first_delay(0.0, usual)
    looks, ran_until = 1, 0.0
    while asked_at < seconds:
        ran_until = asked_at
        age = asked_at + rtt
        asked_at = age + get_look_delay(age, 0, usual)
        looks += 1
    return asked_at - seconds, looks, ran_until


@given(st.floats(0.02, 3600), st.lists(st.floats(0.8, 1.2), min_size=2, max_size=40))
def test_jobs_that_end_when_they_usually_do_are_seen_soon_with_few_looks(
    typical: float, shares: list[float]
) -> None:
    pace = Pace()
    for share in shares:
        pace.note(typical * share, typical * share)
    assert pace.usual is not None
    for length in (typical * share for share in shares[-16:]):
        if pace.usual.early <= length <= pace.usual.late:
            late, looks = look_on(length, pace.usual)
            assert late <= max(SHORTEST_LOOK_SECONDS, typical * 0.035) + 1e-6
            assert looks <= 24 + length / LONGEST_LOOK_SECONDS


lengths = st.lists(st.floats(0, 100), max_size=40)


@given(lengths, st.floats(0, 0.2))
def test_what_was_learnt_holds_the_bounds_whatever_the_jobs_did(lengths: list[float], rtt: float) -> None:
    pace = Pace()
    for length in lengths:
        late, looks, ran_until = look_and_tell(length, pace.usual, rtt)
        pace.note(length + late, ran_until)
        assert pace.usual is not None
        assert 0 <= pace.usual.early <= pace.usual.late <= 150
        assert looks <= 80


@pytest.mark.parametrize(("seconds", "most_late"), [(0.05, 0.015), (0.3, 0.015), (2.0, 0.06), (30.0, 0.3)])
def test_a_steady_model_is_learnt_from_few_jobs(seconds: float, most_late: float) -> None:
    pace = Pace()
    seen = []
    for number in range(24):
        length = seconds * (1 + (number % 5 - 2) * 0.002)
        late, looks, ran_until = look_and_tell(length, pace.usual, rtt=0.002)
        pace.note(length + late, ran_until)
        seen.append((late, looks))
    assert median(late for late, _ in seen) <= most_late
    assert median(looks for _, looks in seen) <= 15
    assert all(looks <= 30 for _, looks in seen[1:])
    assert seen[0][1] <= 55


@pytest.mark.parametrize("rtt", [0.0, 0.002, 0.1])
def test_a_model_whose_jobs_end_at_once_is_looked_at_at_once(rtt: float) -> None:
    pace = Pace()
    for _ in range(5):
        late, looks, ran_until = look_and_tell(0.0, pace.usual, rtt)
        assert (late, looks) == (0.0, 1)
        pace.note(late, ran_until)


def test_who_comes_too_late_comes_ever_sooner() -> None:
    pace = Pace()
    for _ in range(20):
        pace.note(10.0, 9.9)
    earliest = []
    for _ in range(20):
        assert pace.usual is not None
        earliest.append(pace.usual.early)
        pace.note(pace.usual.early)  # it was there already, who knows since when
    assert earliest[0] == 9.9
    assert all(later <= sooner for sooner, later in pairwise(earliest))
    assert earliest[-1] == 0.0


def test_a_model_that_has_become_slower_or_faster_is_learnt_anew() -> None:
    pace = Pace()
    for seconds in [*[30.0] * 50, *[2.0] * 40]:
        late, _, ran_until = look_and_tell(seconds, pace.usual)
        pace.note(seconds + late, ran_until)
    assert look_on(2.0, pace.usual)[0] < 0.1


def test_who_fails_early_is_seen_before_the_usual_time() -> None:
    late, looks = look_on(0.1, Usual(29.0, 31.0))
    assert late < 0.1
    assert looks <= 3
    assert Pace().usual is None


dice = st.floats(0, 1, exclude_max=True)
waits = st.floats(0, 1e6)
asked = st.none() | st.timedeltas(timedelta(0), timedelta(days=30))


@given(waits, dice, asked)
def test_a_retry_waits_at_least_as_long_as_asked(
    previous: float, die: float, retry_after: timedelta | None
) -> None:
    least = retry_after.total_seconds() if retry_after else 0.0
    assert max(0.2, least) <= get_retry_delay(previous, die, retry_after) <= max(30.0, least)


@given(waits, dice, st.floats(0.001, 1), st.floats(1, 100))
def test_base_and_cap_bound_the_wait(previous: float, die: float, base: float, cap: float) -> None:
    assert base <= get_retry_delay(previous, die, None, base=base, cap=cap) <= cap


@given(waits, dice, dice)
def test_the_dice_alone_decide_between_the_bounds(previous: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert get_retry_delay(previous, low, None) <= get_retry_delay(previous, high, None)
    assert get_retry_delay(previous, 0.0, None) == 0.2


def test_waits_grow_threefold_at_most_up_to_the_cap() -> None:
    waited, waits = 0.0, []
    for _ in range(8):
        waited = get_retry_delay(waited, 0.999999, None)
        waits.append(waited)
    assert waits[0] == pytest.approx(0.2)
    assert all(b <= a * 3 + 1e-6 for a, b in pairwise(waits))
    assert waits[-1] == 30.0


def test_a_long_retry_after_is_kept_beyond_the_cap_and_not_remembered_as_more() -> None:
    long = get_retry_delay(0.0, 0.5, timedelta(hours=2))
    assert long == 7200.0
    assert get_retry_delay(long, 0.999, None) == 30.0
