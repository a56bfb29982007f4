"""The five stages over candidates: who is removed, by which rule, and who comes first."""

from __future__ import annotations

from datetime import date
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapter import Capabilities, Feature
from gateway.errors import InvalidInput, NoBackend
from gateway.limits import Limits, Sort
from gateway.policy.learning import Observed
from gateway.policy.rates import Rate, Rates
from gateway.policy.routing import Candidate, Plan, Selector
from gateway.policy.stages import Setting, make_plan
from gateway.task import Quote, Task
from gateway.types import Money

TODAY = date(2030, 1, 15)
FREE = Quote(expected=None, upper=None, confidence="free")
UNKNOWN = Quote(expected=None, upper=None, confidence="unknown")
TASK = Task(model="m")


def usd(text: str) -> Money:
    return Money.parse(f"{text} USD")


def price(expected: str, upper: str | None = None) -> Quote:
    return Quote(expected=usd(expected), upper=usd(upper or expected), confidence="exact")


def make(
    backend: str, quote: Quote | None = FREE, *, features: str = "", healthy: bool = True, **words: Any
) -> Candidate:
    facts = Capabilities(
        healthy=healthy,
        features=frozenset(Feature(name) for name in features.split()),
        reason=None if healthy else "it is down",
    )
    return Candidate(backend=backend, target={}, capabilities=facts, quote=quote, **words)


def plan(
    *candidates: Candidate,
    backend: Any = "auto",
    rates: Rates | None = None,
    task: Task = TASK,
    **limits: Any,
) -> Plan:
    setting = Setting(Limits(**limits), Selector.parse(backend), TODAY, rates or Rates())
    return make_plan(candidates, task, setting)


def get_order(found: Plan) -> list[str]:
    return [candidate.backend for candidate in found.ranked]


@pytest.mark.parametrize(
    ("backend", "backends", "sort"),
    [
        ("auto", None, None),
        *((f"auto:{sort}", None, sort) for sort in get_args(Sort)),
        ("node1", ("node1",), None),
        ("automatic", ("automatic",), None),
        (["a", "b"], ("a", "b"), None),
        (("auto",), ("auto",), None),
    ],
)
def test_what_backend_may_be(backend: Any, backends: tuple[str, ...] | None, sort: Sort | None) -> None:
    assert Selector.parse(backend) == Selector(backends, sort)


@pytest.mark.parametrize("backend", ["auto:", "auto:best", "auto:Cheapest", "auto: cheapest"])
def test_an_unknown_way_to_sort_is_refused(backend: str) -> None:
    with pytest.raises(InvalidInput, match="known: balanced, cheapest, fastest, reliable"):
        Selector.parse(backend)


def test_no_backend_at_all_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"backend=\[\] names no backend"):
        Selector.parse([])


DAY = Rates(rates={"ETH": Rate(usd("2000"), TODAY)})


@pytest.mark.parametrize(
    ("candidate", "limits", "stage", "rule", "reason"),
    [
        (make("a", healthy=False), {}, "capability", "unhealthy", "it is down"),
        (make("a"), {"require": ("cancel",)}, "capability", "feature", "it can't cancel"),
        (
            make("a", features="cancel"),
            {"require": ("cancel", "proof", "stream")},
            "capability",
            "feature",
            "it can't proof or stream",
        ),
        (make("a"), {"only": ("b", "c")}, "constraint", "only", "only b, c may be used"),
        (make("a"), {"ignore": ("a",)}, "constraint", "ignore", "it is to be ignored"),
        (
            make("a", blocked=("breaker", "it failed 5 times")),
            {},
            "constraint",
            "breaker",
            "it failed 5 times",
        ),
        (
            make("a", None),
            {"max_cost": usd("9")},
            "constraint",
            "max_cost",
            "max_cost is 9 USD and what it would cost is unknown: its quote has no upper bound",
        ),
        (
            make("a", None, quote_error="no quote within 5 s"),
            {"max_cost": usd("9")},
            "constraint",
            "max_cost",
            "max_cost is 9 USD and what it would cost is unknown: no quote within 5 s",
        ),
        (
            make("a", UNKNOWN),
            {"max_cost": usd("9")},
            "constraint",
            "max_cost",
            "max_cost is 9 USD and what it would cost is unknown: its quote has no upper bound",
        ),
        (
            make("a", Quote(expected=usd("1"), upper=None, confidence="range")),
            {"max_cost": usd("9")},
            "constraint",
            "max_cost",
            "max_cost is 9 USD and what it would cost is unknown: its quote has no upper bound",
        ),
        (
            make("a", price("1", "9.00000001")),
            {"max_cost": usd("9")},
            "constraint",
            "max_cost",
            "it may cost 9.00000001 USD, more than 9 USD",
        ),
    ],
)
def test_who_is_removed_by_which_rule_and_why(
    candidate: Candidate, limits: dict[str, Any], stage: str, rule: str, reason: str
) -> None:
    found = plan(candidate, **limits)
    assert found.ranked == ()
    (removed,) = found.removed
    assert (removed.backend, removed.stage, removed.removed_by, removed.reason) == ("a", stage, rule, reason)
    assert removed.rank == 0


@pytest.mark.parametrize(
    ("candidate", "limits"),
    [
        (make("a", features="cancel stream"), {"require": ("stream", "cancel")}),
        (make("a"), {"only": ("b", "a"), "ignore": ("b",)}),
        (make("a"), {"max_cost": usd("0")}),
        (make("a", price("1", "9")), {"max_cost": usd("9")}),
        (make("a", price("0")), {"max_cost": usd("0")}),
        (make("a", None), {}),
        (make("a", UNKNOWN), {}),
    ],
)
def test_who_stays(candidate: Candidate, limits: dict[str, Any]) -> None:
    (found,) = plan(candidate, **limits).ranked
    assert (found.backend, found.rank, found.stage, found.removed_by) == ("a", 1, "commit", None)


def test_a_stream_is_asked_of_those_that_stream() -> None:
    found = plan(make("a"), make("b", features="stream"), task=Task(model="m", stream=True))
    assert get_order(found) == ["b"]
    assert found.removed[0].reason == "it can't stream"


def test_an_unheard_of_feature_is_the_callers_slip() -> None:
    with pytest.raises(InvalidInput, match="there is no feature 'steam'; known: accept, cancel, events"):
        plan(make("a"), require=("steam",))


def test_the_engines_own_removal_is_kept() -> None:
    found = plan(make("a").remove("input", "there is nothing at $.text"), make("b", healthy=False))
    assert [c.removed_by for c in found.removed] == ["input", "unhealthy"]


def test_two_assets_compare_by_a_dated_rate_or_not_at_all() -> None:
    in_eth = make("a", Quote(expected=None, upper=Money.parse("0.001 ETH"), confidence="exact"))
    for rates, limit, stays in (
        (DAY, "2", True),
        (DAY, "1.99", False),
        (Rates(), "1000000", False),
        (Rates(rates={"ETH": Rate(usd("2000"), date(2029, 1, 1))}), "1000000", False),
    ):
        found = plan(in_eth, rates=rates, max_cost=usd(limit))
        assert bool(found.ranked) is stays
    assert "rate" in str(plan(in_eth, max_cost=usd("5")).removed[0].reason)


def test_a_price_without_a_rate_never_looks_cheap() -> None:
    """0.001 ETH is a smaller number than 1 USD, and no smaller price."""
    eth = make("eth", Quote(expected=Money.parse("0.001 ETH"), upper=None, confidence="exact"))
    assert get_order(plan(eth, make("usd", price("1")), backend="auto:cheapest")) == ["usd", "eth"]
    assert get_order(plan(eth, make("usd", price("3")), backend="auto:cheapest", rates=DAY)) == ["eth", "usd"]


def seen(rate: float, seconds: float | None = None, looks: float = 50.0) -> Observed:
    return Observed(
        looks=looks, time_looks=looks, success_rate=rate, p50_seconds=seconds, p95_seconds=seconds
    )


FIELD = [
    make("dear quick", price("5"), observed=seen(0.9, 1.0)),
    make("cheap slow", price("1"), observed=seen(0.8, 9.0)),
    make("free flaky", FREE, observed=seen(0.3, 4.0)),
    make("unknown", UNKNOWN, observed=Observed()),
    make("solid", price("2"), observed=seen(1.0, 5.0)),
]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("cheapest", ["free flaky", "cheap slow", "solid", "dear quick", "unknown"]),
        ("fastest", ["dear quick", "free flaky", "solid", "cheap slow", "unknown"]),
        ("reliable", ["solid", "dear quick", "cheap slow", "free flaky", "unknown"]),
        ("balanced", ["free flaky", "cheap slow", "solid", "dear quick", "unknown"]),
    ],
)
def test_what_each_way_to_sort_prefers(sort: Sort, order: list[str]) -> None:
    assert get_order(plan(*FIELD, backend=f"auto:{sort}")) == order
    assert get_order(plan(*FIELD, sort=sort)) == order
    assert plan(*FIELD, sort=sort).sort == sort
    assert [c.rank for c in plan(*FIELD, sort=sort).ranked] == [1, 2, 3, 4, 5]


def test_balanced_is_the_default_and_two_wishes_contradict() -> None:
    assert plan(*FIELD).sort == "balanced"
    assert plan(*FIELD, backend="auto:cheapest", sort="cheapest").sort == "cheapest"
    with pytest.raises(InvalidInput, match=r'"auto:cheapest" and sort=\'fastest\' contradict each other'):
        plan(*FIELD, backend="auto:cheapest", sort="fastest")


def test_balanced_pays_for_failures_doubts_and_time() -> None:
    steady = make("steady", price("2"), observed=seen(1.0, 3600.0))
    failing = make("failing", price("1.5"), observed=seen(0.5, 3600.0))
    doubtful = make(
        "doubtful",
        price("1.5", "9"),
        observed=Observed(looks=50, time_looks=50, doubt_rate=0.2, p50_seconds=3600.0),
    )
    quick = make("quick", price("3"), observed=seen(1.0, 36.0))
    field = [failing, doubtful, quick, steady]
    assert get_order(plan(*field))[0] == "steady"
    assert get_order(plan(*field, value_of_time=usd("10")))[0] == "quick"
    (first,) = plan(steady, value_of_time=usd("10")).ranked
    assert first.score == pytest.approx(12.0, rel=0.01)  # a little less: the benefit of the doubt


def test_the_explicit_order_comes_first_and_then_the_score() -> None:
    assert get_order(plan(*FIELD, order=("unknown", "solid")))[:3] == ["unknown", "solid", "free flaky"]
    assert get_order(plan(*FIELD, backend=["solid", "cheap slow"]))[:2] == ["solid", "cheap slow"]
    assert get_order(plan(*FIELD, backend=["solid", "unknown", "solid"], order=("free flaky",)))[:2] == [
        "solid",
        "unknown",
    ]


def test_among_equals_weight_decides_and_then_the_configuration() -> None:
    equals = [make(name) for name in "abc"]
    assert get_order(plan(*equals)) == ["a", "b", "c"]
    assert get_order(plan(*equals, weights={"c": 2.0, "a": 0.5})) == ["c", "b", "a"]


def test_what_will_be_reserved_is_the_upper_bound() -> None:
    first = plan(make("a", price("1", "2.5"))).ranked[0]
    assert first.parts["reserve"] == "2.5 USD"
    assert plan(make("a", UNKNOWN)).ranked[0].parts["reserve"] is None


def test_no_backend_lists_everyone_and_why() -> None:
    found = plan(make("a", healthy=False), make("b", price("9")), make("c"), max_cost=usd("1"), ignore=("c",))
    with pytest.raises(NoBackend) as caught:
        found.require_best()
    assert caught.value.removed == (
        ("a", "unhealthy", "it is down"),
        ("b", "max_cost", "it may cost 9 USD, more than 1 USD"),
        ("c", "ignore", "it is to be ignored"),
    )
    assert str(caught.value).startswith("no backend can run this task: a: it is down; b: it may cost")
    with pytest.raises(NoBackend, match=r"no backend can run this task$"):
        plan().require_best()


def test_the_best_that_was_not_tried() -> None:
    found = plan(*FIELD, sort="cheapest")
    assert found.require_best() == found.get_best() == found.ranked[0]
    best = found.get_best(["free flaky", "solid"])
    assert best is not None
    assert best.backend == "cheap slow"
    assert found.get_best([c.backend for c in FIELD]) is None


amounts = st.integers(0, 10).map(lambda n: price(str(n), str(n + 1)))
candidates = st.lists(
    st.builds(
        make,
        st.sampled_from([f"b{n}" for n in range(40)]),
        st.none() | st.just(FREE) | st.just(UNKNOWN) | amounts,
        healthy=st.booleans(),
        features=st.sampled_from(["", "cancel", "cancel stream"]),
        observed=st.builds(seen, st.floats(0, 1), st.none() | st.floats(0.01, 1e4), st.floats(0, 100)),
        blocked=st.none() | st.just(("breaker", "open")),
    ),
    max_size=12,
    unique_by=lambda candidate: candidate.backend,
)
some = st.lists(st.sampled_from([f"b{n}" for n in range(40)]), max_size=3).map(tuple)
wishes = st.fixed_dictionaries(
    {
        "ignore": some,
        "order": some,
        "require": st.sampled_from([(), ("cancel",)]),
        "max_cost": st.none() | st.just(usd("5")),
        "sort": st.sampled_from([None, *get_args(Sort)]),
    }
)


@settings(max_examples=200)
@given(candidates, wishes)
def test_every_candidate_is_in_the_plan_once_and_money_fails_closed(
    field: list[Candidate], limits: dict[str, Any]
) -> None:
    found = plan(*field, **limits)
    assert sorted(c.backend for c in found.candidates) == sorted(c.backend for c in field)
    assert found.candidates == (*found.ranked, *found.removed)
    assert [c.rank for c in found.ranked] == list(range(1, len(found.ranked) + 1))
    for candidate in found.ranked:
        assert candidate.capabilities.healthy
        assert candidate.backend not in limits["ignore"]
        if limits["max_cost"] is not None:
            quote = candidate.quote
            assert quote is not None
            assert quote.confidence == "free" or (
                quote.upper is not None and quote.upper <= limits["max_cost"]
            )
    for candidate in found.removed:
        assert candidate.removed_by
        assert candidate.reason


@given(candidates, wishes, st.randoms(use_true_random=False))
def test_the_same_facts_make_the_same_plan_in_whatever_order(
    field: list[Candidate], limits: dict[str, Any], random: Any
) -> None:
    found = plan(*field, **limits)
    assert plan(*field, **limits) == found
    shuffled = list(field)
    random.shuffle(shuffled)
    again = plan(*shuffled, **limits)
    assert {c.backend for c in again.ranked} == {c.backend for c in found.ranked}
    assert [c.score for c in again.ranked] == [c.score for c in found.ranked]


@given(candidates, wishes)
def test_a_plan_survives_json(field: list[Candidate], limits: dict[str, Any]) -> None:
    found = plan(*field, **limits)
    assert Plan.model_validate_json(found.model_dump_json()) == found


def test_a_thousand_candidates_are_planned() -> None:
    field = [make(f"b{n}", price(str(n % 97), str(n % 97 + 1)), healthy=n % 3 > 0) for n in range(1000)]
    found = plan(*field, max_cost=usd("50"), order=tuple(f"b{n}" for n in range(999, 900, -1)))
    assert len(found.candidates) == 1000
    assert found.ranked[0].backend == "b998"
    assert len(found.removed) > 500
