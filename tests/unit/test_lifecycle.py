"""The statuses' names and numbers, how they are read, and the laws of the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.lifecycle import (
    ATTEMPT_NEXT,
    RUN_NEXT,
    AttemptStatus,
    IllegalTransitionError,
    Phase,
    Status,
    advance_attempt,
    advance_run,
    can_follow,
)

S = TypeVar("S", bound=Enum)
FINAL = {Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.REJECTED}
ATTEMPT_FINAL = {
    AttemptStatus.REFUSED,
    AttemptStatus.SUCCEEDED,
    AttemptStatus.FAILED,
    AttemptStatus.CANCELLED,
    AttemptStatus.LOST,
    AttemptStatus.UNRESOLVED,
}


def test_names_and_numbers_are_those_of_the_hosted_api() -> None:
    assert {status.name: status.value for status in Status} == {
        "RECEIVED": 1,
        "QUEUED": 2,
        "DISPATCHED": 3,
        "PREPARING": 4,
        "SERVING": 5,
        "SETTING_UP": 6,
        "RUNNING": 7,
        "CANCELLING": 8,
        "UPLOADING": 9,
        "COMPLETED": 10,
        "FAILED": 11,
        "CANCELLED": 12,
        "REJECTED": 13,
    }


@pytest.mark.parametrize("status", Status)
def test_a_status_is_read_from_its_number_and_its_name_in_any_case(status: Status) -> None:
    name = status.name
    for value in (
        status,
        status.value,
        str(status.value),
        f" {status.value}\n",
        name,
        name.lower(),
        name.title(),
        f" {name} ",
    ):
        assert Status.parse(value) is status


@pytest.mark.parametrize(
    "value",
    [
        0, -1, 14, 999, 10**30, True, False, None, 7.0, "7.0", "", " ", "0", "14", "-7", "+7", "seven",
        "RUN NING", "1" * 5000, "²", b"7", [7], {"status": 7}, "is_final", "name", "mro",
        "__members__", "Status.RUNNING",
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_never_guessed(value: object) -> None:
    with pytest.raises(ValueError, match="is not a status"):
        Status.parse(value)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none(), st.booleans()))
def test_reading_gives_a_status_or_one_error(value: object) -> None:
    try:
        found = Status.parse(value)
    except ValueError:
        return
    assert str(value).strip().upper() in {found.name, str(found.value)} or int(str(value)) == found


def test_final_statuses_and_phases() -> None:
    assert {status for status in Status if status.is_final} == FINAL
    phases = {status: status.phase for status in Status}
    assert {s for s, phase in phases.items() if phase is Phase.SUCCESS} == {Status.COMPLETED}
    assert {s for s, phase in phases.items() if phase is Phase.FAILED} == FINAL - {Status.COMPLETED}
    assert {s for s, phase in phases.items() if phase is Phase.RUNNING} == set(Status) - FINAL
    assert [phase.value for phase in Phase] == ["running", "success", "failed"]
    assert {status for status in AttemptStatus if status.is_final} == ATTEMPT_FINAL


TABLES = pytest.mark.parametrize(
    ("table", "final", "first"),
    [(RUN_NEXT, FINAL, Status.RECEIVED), (ATTEMPT_NEXT, ATTEMPT_FINAL, AttemptStatus.PREPARED)],
    ids=["runs", "attempts"],
)


def reach(table: Mapping[S, frozenset[S]], start: S) -> set[S]:
    """Return every status that a walk from `start` can come to."""
    found, todo = {start}, [start]
    while todo:
        new = table[todo.pop()] - found
        found |= new
        todo += new
    return found


@TABLES
def test_the_tables_are_total(table: Mapping[S, frozenset[S]], final: set[S], first: S) -> None:
    assert set(table) == set(type(first))
    assert all(set(following) <= set(table) for following in table.values())
    assert all(status not in following for status, following in table.items())


@TABLES
def test_nothing_follows_an_end_and_every_way_leads_to_one(
    table: Mapping[S, frozenset[S]], final: set[S], first: S
) -> None:
    assert {status for status, following in table.items() if not following} == final
    for status in table:
        assert reach(table, status) & final


@TABLES
def test_no_status_is_out_of_reach(table: Mapping[S, frozenset[S]], final: set[S], first: S) -> None:
    assert reach(table, first) == set(table)


def test_what_the_design_says_of_runs() -> None:
    assert can_follow(Status.RUNNING, Status.QUEUED)  # the next attempt begins there
    assert not any(can_follow(status, Status.RECEIVED) for status in Status)
    assert not can_follow(Status.CANCELLING, Status.RUNNING)  # a wish to end is not taken back
    assert not can_follow(Status.CANCELLING, Status.QUEUED)
    assert all(can_follow(status, end) for status in set(Status) - FINAL for end in FINAL)
    assert not any(can_follow(status, status) for status in Status)


def test_what_the_design_says_of_attempts() -> None:
    landed = {AttemptStatus.SUCCEEDED, AttemptStatus.FAILED, AttemptStatus.LOST}
    before = {AttemptStatus.PREPARED, AttemptStatus.IN_DOUBT}
    for status in before:
        assert not ATTEMPT_NEXT[status] & landed  # nothing has an outcome that did not land
    assert AttemptStatus.PREPARED in ATTEMPT_NEXT[AttemptStatus.IN_DOUBT]  # sent again: the same envelope
    assert AttemptStatus.CANCELLED not in ATTEMPT_NEXT[AttemptStatus.IN_DOUBT]  # it may be paid for
    assert not ATTEMPT_NEXT[AttemptStatus.SUBMITTED] & {*before, AttemptStatus.REFUSED}


@pytest.mark.parametrize(
    ("advance", "table"),
    [(advance_run, RUN_NEXT), (advance_attempt, ATTEMPT_NEXT)],
    ids=["runs", "attempts"],
)
def test_a_step_is_allowed_exactly_where_the_table_has_it(advance: Callable[..., Any], table: Any) -> None:
    for now in table:
        for following in table:
            if following is now or following in table[now]:
                assert advance(now, following) is following
            else:
                with pytest.raises(IllegalTransitionError, match="can't go from"):
                    advance(now, following)


@given(st.data(), st.lists(st.sampled_from(Status), max_size=40))
def test_a_random_walk_never_leaves_an_end(data: st.DataObject, steps: list[Status]) -> None:
    now, ended = data.draw(st.sampled_from(Status)), None
    for step in steps:
        if now.is_final:
            ended = now
        try:
            now = advance_run(now, step)
        except IllegalTransitionError:
            assert not can_follow(now, step)
        assert ended in (None, now)


@given(st.lists(st.sampled_from(AttemptStatus), max_size=40))
def test_a_random_attempt_never_leaves_an_end(steps: list[AttemptStatus]) -> None:
    now, ended = AttemptStatus.PREPARED, None
    for step in steps:
        if now.is_final:
            ended = now
        try:
            now = advance_attempt(now, step)
        except IllegalTransitionError:
            assert step not in ATTEMPT_NEXT[now]
        assert ended in (None, now)
