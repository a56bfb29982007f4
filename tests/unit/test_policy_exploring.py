"""When a backend that was never tried goes before one that was: only as configured, or where it is free."""

from __future__ import annotations

from datetime import date
from typing import Any, get_args

import pytest

from gateway.adapter import Capabilities
from gateway.limits import Explore, Limits
from gateway.policy.learning import Observed
from gateway.policy.routing import Candidate, Selector
from gateway.policy.stages import Setting, make_plan
from gateway.task import Quote, Task
from gateway.types import Money

KNOWN = Observed(looks=50.0, time_looks=50.0, success_rate=1.0, p50_seconds=5.0)


def make(backend: str, price: str | None = None, observed: Observed | None = None) -> Candidate:
    money = None if price is None else Money.parse(f"{price} USD")
    quote = Quote(expected=money, upper=money, confidence="exact" if money else "free")
    capabilities = Capabilities(healthy=True)
    seen = observed or Observed()
    return Candidate(backend=backend, target={}, capabilities=capabilities, quote=quote, observed=seen)


def get_order(*candidates: Candidate, backend: str = "auto", **limits: Any) -> list[str]:
    setting = Setting(Limits(**limits), Selector.parse(backend), date(2030, 1, 15))
    return [candidate.backend for candidate in make_plan(candidates, Task(model="m"), setting).ranked]


@pytest.mark.parametrize(
    ("explore", "first"),
    [
        (None, ["free", "known", "cheap", "dear"]),
        ("free", ["free", "known", "cheap", "dear"]),
        ("cheaper", ["free", "cheap", "known", "dear"]),
        ("always", ["free", "cheap", "dear", "known"]),
        ("never", ["known", "free", "cheap", "dear"]),
    ],
)
def test_who_was_never_tried_goes_first_only_as_configured(explore: Any, first: list[str]) -> None:
    known = make("known", "2", KNOWN)
    found = get_order(make("dear", "3"), make("cheap", "1"), known, make("free"), explore=explore)
    assert found == first


def test_where_nobody_was_tried_the_price_decides_whatever_is_explored() -> None:
    for explore in get_args(Explore):
        found = get_order(make("dear", "3"), make("cheap", "1"), make("free"), explore=explore)
        assert found == ["free", "cheap", "dear"]


def test_an_untried_backend_is_always_tried_by_one_job_at_a_time() -> None:
    known = make("known", "2", KNOWN)
    busy = make("busy", "3", Observed(running=1))
    assert get_order(busy, known, explore="always") == ["known", "busy"]
    assert get_order(make("busy", "3"), known, explore="always") == ["busy", "known"]


def test_an_order_that_is_asked_for_and_the_cheapest_stand_above_exploring() -> None:
    known = make("known", "2", KNOWN)
    new = make("new", "1")
    assert get_order(known, new, explore="never", order=("new",)) == ["new", "known"]
    assert get_order(known, new, explore="never", backend="auto:cheapest") == ["new", "known"]
    assert get_order(new, known, explore="always", order=("known",)) == ["known", "new"]
