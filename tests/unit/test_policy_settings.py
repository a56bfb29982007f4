"""Limits of task, model and gateway: the first that says something wins, and what contradicts is named."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidInput, UnknownBackend
from gateway.limits import Limits
from gateway.policy.settings import check_names, merge_limits
from gateway.types import Money

USD = Money.parse("1 USD")
names = st.lists(st.sampled_from("abcdef"), max_size=3, unique=True).map(tuple)
layers = st.builds(
    Limits,
    ignore=st.lists(st.sampled_from("xyz"), max_size=3).map(tuple),
    require=st.lists(st.sampled_from(["cancel", "stream"]), max_size=2).map(tuple),
    order=names,
    max_cost=st.none() | st.just(USD),
    deadline=st.none() | st.timedeltas(timedelta(0), timedelta(days=1)),
    max_attempts=st.none() | st.integers(1, 9),
    on_failed=st.sampled_from([None, "stop", "next"]),
    doubt_wait=st.none() | st.just(timedelta(0)),
    idempotent=st.none() | st.booleans(),
)


def test_nothing_said_is_nothing_set() -> None:
    assert merge_limits() == merge_limits(Limits(), Limits()) == Limits()


@given(st.lists(layers, max_size=4))
def test_the_first_that_says_something_wins(said: list[Limits]) -> None:
    merged = merge_limits(*said)
    for name in ("max_cost", "deadline", "max_attempts", "on_failed", "doubt_wait", "idempotent"):
        first = next((value for layer in said if (value := getattr(layer, name)) is not None), None)
        assert getattr(merged, name) == first
    assert merged.order == next((layer.order for layer in said if layer.order), ())


@given(st.lists(layers, max_size=4))
def test_what_forbids_and_demands_adds_up(said: list[Limits]) -> None:
    merged = merge_limits(*said)
    for name in ("ignore", "require"):
        asked = [item for layer in said for item in getattr(layer, name)]
        assert set(getattr(merged, name)) == set(asked)
        assert len(getattr(merged, name)) == len(set(asked))


@given(layers)
def test_one_layer_stays_as_it_is(layer: Limits) -> None:
    assert merge_limits(layer, Limits()) == merge_limits(Limits(), layer)
    assert merge_limits(layer).order == layer.order


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_every_limit_comes_through(name: str) -> None:
    """A new field that is forgotten here shows up by itself."""
    values: dict[str, Any] = {
        "only": ("a",),
        "ignore": ("a",),
        "order": ("a",),
        "require": ("cancel",),
        "max_cost": USD,
        "deadline": timedelta(0),
        "max_attempts": 1,
        "on_doubt": "fail",
        "on_failed": "next",
        "doubt_wait": timedelta(0),
        "sort": "cheapest",
        "weights": {"a": 2.0},
        "value_of_time": USD,
        "idempotent": False,
        "hedge": 1,
        "quorum": (1, 1),
        "agree": "exact",
        "explore": "never",
        "when_all_open": "wait",
    }
    said = {name: values[name], **({"quorum": (1, 1)} if name == "agree" else {})}
    layer = Limits(**said)
    assert merge_limits(Limits(), layer, Limits()) == layer


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_attempts": 0}, "max_attempts is 0: a run needs at least one attempt"),
        ({"max_attempts": -1}, "max_attempts is -1"),
        ({"deadline": timedelta(days=4_000_000)}, "is longer than any run can take"),
        ({"doubt_wait": timedelta.max}, "is longer than any run can take"),
        ({"on_doubt": "resubmit"}, 'on_doubt="resubmit" may pay twice: it needs a max_cost'),
        ({"only": ("a",), "ignore": ("a", "b")}, "name the same backend"),
        ({"only": ("a",), "order": ("a", "b")}, "names a backend that only"),
        ({"order": ("a",), "ignore": ("a",)}, "name the same backend"),
        ({"weights": {"a": 0.0}}, "each must be above 0"),
        ({"hedge": 0}, "hedge is 0"),
        ({"hedge": 2}, "hedge=2 may pay 2 times"),
        ({"quorum": (3, 2)}, "must be (k, n) with 1 <= k <= n"),
        ({"quorum": (0, 2)}, "must be (k, n) with 1 <= k <= n"),
        ({"quorum": (1, 2), "hedge": 2, "idempotent": True}, "a run has one of them"),
        ({"agree": "exact"}, "means nothing without a quorum"),
        ({"value_of_time": USD, "sort": "fastest"}, "alone, not by 'fastest'"),
    ],
)
def test_what_contradicts_is_named(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        merge_limits(Limits(**limits))
    assert message in str(caught.value)


def test_layers_that_are_fine_alone_may_contradict_together() -> None:
    with pytest.raises(InvalidInput, match="name the same backend"):
        merge_limits(Limits(only=("a",)), Limits(ignore=("a",)))
    assert merge_limits(Limits(on_doubt="resubmit"), Limits(max_cost=USD)).max_cost == USD


def test_an_unknown_backend_is_named_with_the_nearest() -> None:
    check_names(Limits(only=("node1",), weights={"hosted": 2.0}), ["node1", "hosted"])
    for limits in (
        {"only": ("nod1",)},
        {"ignore": ("nod1",)},
        {"order": ("nod1",)},
        {"weights": {"nod1": 1.0}},
    ):
        with pytest.raises(UnknownBackend) as caught:
            check_names(Limits(**limits), ["node1", "hosted"])
        assert str(caught.value) == f"{next(iter(limits))}: there is no backend 'nod1'; did you mean 'node1'?"
