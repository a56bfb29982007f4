from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_infernet.pacing import Budget, parse_wait


def headers(limit: int, remaining: int, reset: int) -> dict[str, str]:
    return {
        "ratelimit-limit": str(limit),
        "ratelimit-remaining": str(remaining),
        "ratelimit-reset": str(reset),
    }


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(None, 1), ("0", 1), ("7, 7", 8), ("3", 4), ("soon", 1), ("-5", 1), ("", 1)]
)
def test_the_wait_after_a_429(retry_after: str | None, seconds: int) -> None:
    found = {} if retry_after is None else {"retry-after": retry_after}
    assert parse_wait(found) == timedelta(seconds=seconds)


def test_a_429_stops_the_next_request() -> None:
    budget = Budget()
    budget.note({"retry-after": "0"}, 429, 100.0)
    assert budget.get_wait(100.0) == timedelta(seconds=1)
    assert budget.get_wait(101.0) == timedelta(0)


def test_plenty_is_not_held_back_and_no_headers_mean_no_limit() -> None:
    budget = Budget()
    budget.note(headers(60, 7, 53), 200, 0.0)
    budget.note({}, 200, 0.0)
    budget.note({"ratelimit-limit": "x", "ratelimit-remaining": "0", "ratelimit-reset": "1"}, 200, 0.0)
    assert budget.get_wait(0.0) == timedelta(0)


def test_from_the_last_tenth_on_requests_go_at_the_pace_of_new_slots() -> None:
    budget = Budget()
    budget.note(headers(60, 6, 53), 200, 0.0)
    assert budget.get_wait(0.0) == timedelta(seconds=1)
    assert budget.get_wait(0.4) == timedelta(seconds=0.6)
    assert budget.get_wait(1.0) == timedelta(0)


@given(st.integers(1, 200), st.integers(1, 600), st.integers(2, 500))
def test_a_paced_client_is_never_refused(count: int, period: int, requests: int) -> None:
    """Against the node's own arithmetic (GCRA): whoever waits as told meets no 429, at any limit."""
    slot, arrival, now, budget = period / count, 0.0, 0.0, Budget()
    for _ in range(requests):
        now += budget.get_wait(now).total_seconds()
        arrival = max(arrival, now)
        assert arrival - now <= period - slot + 1e-6
        arrival += slot
        ahead = arrival - now
        budget.note(headers(count, int((period - ahead) / slot + 1e-9), int(ahead)), 200, now)
