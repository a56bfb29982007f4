from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chain.rpc import Head
from gateway.lifecycle import Status
from gateway.task import FailureKind
from gateway_infernet.answers import Form
from gateway_infernet.delegated import Delegation, Signature, Subscription, encode_subscription_tuple
from gateway_infernet.progress import (
    BEHIND_SECONDS,
    Delivery,
    Look,
    Stage,
    Stored,
    get_interval,
    make_snapshot,
    progress_of,
)

OWNER = "0xbdEd0D2bf404bdcBa897a74E6657f1f12e5C6fb6"
NODES = [f"0x{number:040x}" for number in range(1, 6)]


def make_delegation(**changes: Any) -> Delegation:
    fields: dict[str, Any] = {"owner": OWNER, "containers": ("echo",), "active_at": 1000}
    return Delegation(
        subscription=Subscription(**fields | changes),
        signature=Signature(nonce=1, expiry=2000, v=27, r=1, s=1),
        chain_id=31337,
        coordinator=OWNER,
    )


def stored_as(delegation: Delegation, **changes: Any) -> Stored:
    changed = replace(delegation.subscription, **changes)
    return Stored.of(encode_subscription_tuple(changed))


def answer(interval: int = 1, node: int = 0, output: Any = "x", form: Form = Form.OBJECT) -> Delivery:
    return Delivery(interval, NODES[node], f"0x{interval}{node}", 10, form, output)


def look(delegation: Delegation, *deliveries: Delivery, at: int = 1500, **changes: Any) -> Look:
    counts: dict[int, int] = {}
    for delivery in deliveries:
        counts[delivery.interval] = counts.get(delivery.interval, 0) + 1
    fields: dict[str, Any] = {
        "head": Head(10, at),
        "subscription_id": 5,
        "stored": stored_as(delegation),
        "deliveries": deliveries,
        "counts": counts,
    }
    return Look(**fields | changes)


@pytest.mark.parametrize(
    ("at", "stage"), [(2000 + BEHIND_SECONDS - 1, Stage.WAITING), (2000 + BEHIND_SECONDS, Stage.EXPIRED)]
)
def test_without_an_id(at: int, stage: Stage) -> None:
    one = make_delegation()
    assert progress_of(one, Look(head=Head(10, at))).stage is stage


@pytest.mark.parametrize("at", [1500, 10_000])
def test_created_is_running_for_ever(at: int) -> None:
    one = make_delegation()
    assert progress_of(one, look(one, at=at)).stage is Stage.RUNNING


def test_an_answer_needs_log_and_count() -> None:
    one = make_delegation()
    assert progress_of(one, look(one, answer())).stage is Stage.FULFILLED
    assert progress_of(one, look(one, answer(), counts={1: 0})).stage is Stage.RUNNING
    assert progress_of(one, look(one, answer(), counts={})).stage is Stage.RUNNING
    assert progress_of(one, look(one, counts={1: 1})).stage is Stage.RUNNING


def test_too_many_answers_to_one_interval_are_none_to_another() -> None:
    one = make_delegation(period=10, frequency=2)
    progress = progress_of(one, look(one, answer(1, 0), answer(1, 1), at=1005))
    assert (progress.stage, progress.missing) == (Stage.RUNNING, 1)


@pytest.mark.parametrize(
    ("at", "stage"), [(1020 + BEHIND_SECONDS - 1, Stage.RUNNING), (1020 + BEHIND_SECONDS, Stage.INCOMPLETE)]
)
def test_after_the_last_interval(at: int, stage: Stage) -> None:
    one = make_delegation(period=10, frequency=2)
    assert progress_of(one, look(one, answer(1), at=at)).stage is stage
    assert progress_of(one, look(one, answer(1), answer(2), at=at)).stage is Stage.FULFILLED
    # The count knows of an answer that the log has not shown yet.
    assert progress_of(one, look(one, answer(1), at=at, counts={1: 1, 2: 1})).stage is Stage.RUNNING


def test_cancelled() -> None:
    one = make_delegation(redundancy=2)
    cancelled = stored_as(one, active_at=2**32 - 1)
    assert progress_of(one, look(one, answer(), stored=cancelled)).stage is Stage.CANCELLED
    both = look(one, answer(), answer(node=1), stored=cancelled)
    assert progress_of(one, both).stage is Stage.FULFILLED


@pytest.mark.parametrize(
    "changes",
    [
        {"containers": ("other",)},
        {"active_at": 1001},
        {"period": 1},
        {"redundancy": 2},
        {"lazy": True},
        {"payment_amount": 1},
        {"wallet": OWNER},
    ],
)
def test_another_subscription_of_the_same_nonce(changes: dict[str, Any]) -> None:
    one = make_delegation()
    progress = progress_of(one, look(one, answer(), stored=stored_as(one, **changes)))

    assert progress.stage is Stage.FOREIGN
    assert progress.deliveries == ()
    assert make_snapshot(one, progress, backend="n").output is None


def test_the_case_of_an_owner_makes_no_other_subscription() -> None:
    one = make_delegation(owner=OWNER.lower())
    stored = stored_as(one, owner=OWNER)
    assert progress_of(one, look(one, answer(), stored=stored)).stage is Stage.FULFILLED


def test_every_stage_is_a_status_and_says_why() -> None:
    one = make_delegation()
    expected = {
        Stage.WAITING: (Status.QUEUED, None),
        Stage.EXPIRED: (Status.FAILED, FailureKind.EXPIRED),
        Stage.FOREIGN: (Status.REJECTED, FailureKind.REJECTED),
        Stage.RUNNING: (Status.RUNNING, None),
        Stage.INCOMPLETE: (Status.FAILED, FailureKind.EXPIRED),
        Stage.CANCELLED: (Status.CANCELLED, FailureKind.CANCELLED),
        Stage.FULFILLED: (Status.COMPLETED, None),
    }
    assert set(expected) == set(Stage)
    fulfilled = progress_of(one, look(one, answer()))
    for stage, (status, kind) in expected.items():
        snapshot = make_snapshot(one, replace(fulfilled, stage=stage, message="why"), backend="n")
        assert (snapshot.status, snapshot.failure and snapshot.failure.kind) == (status, kind)
        assert snapshot.message == "why"
        json.dumps(snapshot.model_dump())


def test_the_output_of_a_single_answer_is_that_answer() -> None:
    one = make_delegation()
    snapshot = make_snapshot(one, progress_of(one, look(one, answer(output={"a": 1}))), backend="n")
    assert snapshot.output == {"a": 1}
    assert snapshot.detail["delegated"]["deliveries"][0]["output"] == {"a": 1}


def test_two_looks_that_see_the_same_are_the_same() -> None:
    one = make_delegation()
    early, late = (
        progress_of(one, look(one, answer(), head=Head(number, 1500 + number))) for number in (10, 11)
    )
    assert make_snapshot(one, early, backend="n") == make_snapshot(one, late, backend="n")


def test_the_outputs_of_many_are_in_the_order_of_their_intervals() -> None:
    one = make_delegation(period=10, frequency=2)
    snapshot = make_snapshot(
        one, progress_of(one, look(one, answer(2, output="b"), answer(1, output="a"))), backend="n"
    )
    assert [(part["interval"], part["output"]) for part in snapshot.output] == [(1, "a"), (2, "b")]


@given(
    frequency=st.integers(1, 4),
    redundancy=st.integers(1, 3),
    places=st.sets(st.tuples(st.integers(1, 4), st.integers(0, 4))),
    at=st.integers(0, 3000),
)
@settings(deadline=None)
def test_success_is_exactly_that_every_interval_has_enough(
    frequency: int, redundancy: int, places: set[tuple[int, int]], at: int
) -> None:
    one = make_delegation(period=10, frequency=frequency, redundancy=redundancy)
    answers = [answer(interval, node) for interval, node in places if interval <= frequency]
    progress = progress_of(one, look(one, *answers, at=at))
    enough = all(
        sum(given.interval == interval for given in answers) >= redundancy
        for interval in range(1, frequency + 1)
    )

    assert (progress.stage is Stage.FULFILLED) == enough == (progress.missing == 0)


@pytest.mark.parametrize(
    ("at", "interval"), [(999, None), (1000, 1), (1009, 1), (1010, 2), (1029, 3), (5000, 3)]
)
def test_intervals(at: int, interval: int | None) -> None:
    assert get_interval(make_delegation(period=10, frequency=3), at) == interval
    assert get_interval(make_delegation(), at) == (None if interval is None else 1)
