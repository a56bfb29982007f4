"""What follows an attempt that ended without success: a table, and the laws that no case may break."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BackendError, InDoubt, Misbehaved, Rejected, Throttled, Unavailable
from gateway.lifecycle import AttemptStatus
from gateway.limits import Limits, OnDoubt, OnFailed
from gateway.policy.retry import (
    DEFAULT_MAX_ATTEMPTS,
    Decision,
    GoElsewhere,
    Stop,
    TryAgain,
    decide,
    make_failure,
)
from gateway.task import Attempt, FailureKind
from gateway.types import AttemptId, Money

SOON = timedelta(seconds=7)
LEAVES = [Rejected, Unavailable, Throttled, InDoubt, Misbehaved]
ENDS = [status for status in AttemptStatus if status.is_final and status is not AttemptStatus.SUCCEEDED]
COST = Money.parse("1 USD")
ELSEWHERE, AGAIN, AGAIN_SOON = GoElsewhere(), TryAgain(), TryAgain(SOON)


def make_attempts(count: int, last: AttemptStatus) -> list[Attempt]:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    return [
        Attempt(
            id=AttemptId(f"a{number}"),
            number=number,
            backend=f"b{number}",
            address="",
            target={},
            status=last if number == count else AttemptStatus.REFUSED,
            created_at=at,
        )
        for number in range(1, count + 1)
    ]


def ask(
    status: AttemptStatus,
    error: BackendError | None = None,
    *,
    count: int = 1,
    untried: int = 1,
    pieces_out: bool = False,
    **limits: Any,
) -> Decision:
    return decide(
        make_attempts(count, status),
        Limits(**limits),
        error=error,
        untried=[f"u{number}" for number in range(untried)],
        pieces_out=pieces_out,
    )


@pytest.mark.parametrize(
    ("error", "with_others", "alone"),
    [
        (Rejected("no"), ELSEWHERE, Stop("it would be refused again")),
        (Rejected("no", retry_after=SOON), ELSEWHERE, Stop("it would be refused again")),
        (Unavailable("down"), ELSEWHERE, AGAIN),
        (Unavailable("down", retry_after=SOON), ELSEWHERE, AGAIN_SOON),
        (Throttled("slow"), ELSEWHERE, AGAIN),
        (Throttled("slow", retry_after=SOON), ELSEWHERE, AGAIN_SOON),
        (InDoubt("who knows"), Stop("it would be refused again"), Stop("it would be refused again")),
        (Misbehaved("what"), Stop("it would be refused again"), Stop("it would be refused again")),
    ],
)
def test_what_did_not_land_goes_where_its_error_says(
    error: BackendError, with_others: Decision, alone: Decision
) -> None:
    for on_failed in (None, "stop", "next"):
        for on_doubt in (None, "wait", "fail", "resubmit"):
            told: dict[str, Any] = {"on_failed": on_failed, "on_doubt": on_doubt, "max_cost": COST}
            assert ask(AttemptStatus.REFUSED, error, **told) == with_others
            assert ask(AttemptStatus.REFUSED, error, untried=0, **told) == alone


@pytest.mark.parametrize("status", [AttemptStatus.FAILED, AttemptStatus.LOST])
@pytest.mark.parametrize(
    ("on_failed", "untried", "then"),
    [
        ("next", 1, ELSEWHERE),
        ("next", 0, Stop("the job itself failed")),
        ("stop", 1, Stop("the job itself failed")),
        (None, 1, Stop("the job itself failed")),
    ],
)
def test_what_failed_after_it_landed_moves_on_only_if_told_to(
    status: AttemptStatus, on_failed: OnFailed | None, untried: int, then: Decision
) -> None:
    assert ask(status, on_failed=on_failed, untried=untried) == then


@pytest.mark.parametrize(
    ("on_doubt", "untried", "then"),
    [
        ("resubmit", 1, ELSEWHERE),
        ("resubmit", 0, AGAIN),
        ("fail", 1, Stop("nothing is left to try")),
        ("wait", 1, Stop("nothing is left to try")),
        (None, 1, Stop("nothing is left to try")),
    ],
)
def test_what_nobody_knows_is_sent_again_only_if_told_to(
    on_doubt: OnDoubt | None, untried: int, then: Decision
) -> None:
    for error in (None, InDoubt("who knows")):
        assert ask(AttemptStatus.UNRESOLVED, error, on_doubt=on_doubt, untried=untried) == then


def test_what_was_cancelled_ends() -> None:
    assert isinstance(ask(AttemptStatus.CANCELLED, on_failed="next", on_doubt="resubmit"), Stop)


def test_a_refusal_without_a_word_ends() -> None:
    assert isinstance(ask(AttemptStatus.REFUSED), Stop)


@pytest.mark.parametrize("most", [1, 2, 4, 9, None])
def test_attempts_are_counted_wherever_they_were(most: int | None) -> None:
    number = most or DEFAULT_MAX_ATTEMPTS
    last = ask(AttemptStatus.REFUSED, Unavailable("x"), count=number, max_attempts=most)
    assert last == Stop(f"all {number} attempts are used up")
    if number > 1:
        assert ask(AttemptStatus.REFUSED, Unavailable("x"), count=number - 1, max_attempts=most) == ELSEWHERE


any_limits = st.builds(
    Limits,
    max_attempts=st.none() | st.integers(1, 6),
    on_failed=st.sampled_from([None, "stop", "next"]),
    on_doubt=st.sampled_from([None, "wait", "fail", "resubmit"]),
    max_cost=st.just(COST),
)
any_errors = st.none() | st.builds(
    lambda cls, wait: cls("no", retry_after=wait), st.sampled_from(LEAVES), st.none() | st.just(SOON)
)
any_ends = st.sampled_from(ENDS)
LAWS = given(any_ends, any_errors, any_limits, st.integers(1, 12), st.integers(0, 3), st.booleans())


def decide_anything(
    status: AttemptStatus,
    error: BackendError | None,
    limits: Limits,
    count: int,
    untried: int,
    pieces_out: bool,  # noqa: FBT001
) -> Decision:
    names = [f"u{number}" for number in range(untried)]
    return decide(make_attempts(count, status), limits, error=error, untried=names, pieces_out=pieces_out)


@LAWS
def test_never_more_than_max_attempts(
    status: AttemptStatus,
    error: BackendError | None,
    limits: Limits,
    count: int,
    untried: int,
    pieces_out: bool,  # noqa: FBT001
) -> None:
    decision = decide_anything(status, error, limits, count, untried, pieces_out)
    if count >= (limits.max_attempts or DEFAULT_MAX_ATTEMPTS):
        assert isinstance(decision, Stop)


@LAWS
def test_never_on_from_doubt_unless_told_to(
    status: AttemptStatus,
    error: BackendError | None,
    limits: Limits,
    count: int,
    untried: int,
    pieces_out: bool,  # noqa: FBT001
) -> None:
    """The law that the gateway is for: what may have been paid for is not sent a second time."""
    decision = decide_anything(status, error, limits, count, untried, pieces_out)
    if isinstance(decision, Stop):
        return
    if status is AttemptStatus.UNRESOLVED:
        assert limits.on_doubt == "resubmit"
    elif status is AttemptStatus.REFUSED:
        assert error is not None
        assert error.landed is False
    else:
        assert limits.on_failed == "next"


@LAWS
def test_never_on_after_a_part_of_the_answer_is_out(
    status: AttemptStatus,
    error: BackendError | None,
    limits: Limits,
    count: int,
    untried: int,
    pieces_out: bool,  # noqa: FBT001
) -> None:
    decision = decide_anything(status, error, limits, count, untried, pieces_out)
    assert isinstance(decision, Stop) or not pieces_out


@LAWS
def test_elsewhere_needs_somewhere_and_every_stop_says_why(
    status: AttemptStatus,
    error: BackendError | None,
    limits: Limits,
    count: int,
    untried: int,
    pieces_out: bool,  # noqa: FBT001
) -> None:
    decision = decide_anything(status, error, limits, count, untried, pieces_out)
    if isinstance(decision, GoElsewhere):
        assert untried
    if isinstance(decision, Stop):
        assert decision.why
    if isinstance(decision, TryAgain):
        assert decision.retry_after == (
            error.retry_after if status is AttemptStatus.REFUSED and error else None
        )


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (Rejected, FailureKind.REJECTED),
        (Unavailable, FailureKind.UNAVAILABLE),
        (Throttled, FailureKind.THROTTLED),
        (Misbehaved, FailureKind.MISBEHAVED),
        (InDoubt, FailureKind.UNRESOLVED),
    ],
)
def test_an_error_is_told_as_data(cls: type[BackendError], kind: FailureKind) -> None:
    error = cls("it said no", backend="b", job_id="j", code="c", http_status=418, detail={"a": [1]})
    failure = make_failure(error)
    told = {field.name: getattr(failure, field.name) for field in fields(failure)}
    assert told == {
        "kind": kind,
        "message": "it said no",
        "backend": "b",
        "job_id": "j",
        "code": "c",
        "http_status": 418,
        "detail": {"a": [1]},
    }
    assert make_failure(cls("no")).backend is None
