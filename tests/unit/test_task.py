"""Every value survives JSON as it is, says its schema, and changes by being replaced."""

from __future__ import annotations

import inspect
import json
import math
import pickle
from dataclasses import MISSING, FrozenInstanceError, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import gateway.limits
import gateway.task
from gateway.errors import CostOutcome
from gateway.lifecycle import AttemptStatus, Status
from gateway.limits import Limits
from gateway.task import (
    Attempt,
    Cost,
    Envelope,
    Event,
    Failure,
    FailureKind,
    Handle,
    Quote,
    Run,
    Snapshot,
    Task,
)
from gateway.types import DECIMALS, AttemptId, Money, RunId
from gateway.value import Value

AT = datetime(2030, 1, 1, tzinfo=UTC)
FAILURE = Failure(kind=FailureKind.JOB, message="it broke")
FAILED = {Status.FAILED, Status.CANCELLED, Status.REJECTED}
VALUES = sorted(
    {
        cls
        for module in (gateway.task, gateway.limits)
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, Value) and is_dataclass(cls)
    },
    key=lambda cls: cls.__name__,
)

words = st.text(st.characters(codec="utf-8"), max_size=12)
floats = st.floats(allow_nan=False)
leaves = st.none() | st.booleans() | st.integers(-(10**45), 10**45) | floats | words
inputs = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(words, inputs, max_size=3)
times = st.datetimes(
    timezones=st.just(UTC) | st.sampled_from([timezone(timedelta(hours=h)) for h in (-9, 2)])
)
spans = st.timedeltas(timedelta(0), timedelta(days=400))
money = st.builds(Money, st.integers(-(10**45), 10**45), st.sampled_from([*DECIMALS, "erc20:1:0xab"]))
costs = st.builds(
    Cost,
    quoted=st.none() | money,
    settled=st.none() | money,
    outcome=st.sampled_from(CostOutcome),
    evidence=inputs,
)
failures = st.builds(Failure, kind=st.sampled_from(FailureKind), message=words, detail=inputs)
names = st.tuples(words, words)
limits = st.builds(
    Limits,
    only=st.none() | names,
    order=names,
    max_cost=st.none() | money,
    deadline=st.none() | spans,
    on_doubt=st.sampled_from([None, "wait", "fail", "resubmit"]),
)
tasks = st.builds(
    Task,
    model=st.none() | words,
    input=inputs,
    target=st.none() | objects,
    stream=st.booleans(),
    limits=limits,
    labels=st.dictionaries(words, words, max_size=2),
)
envelopes = st.builds(
    Envelope, attempt_id=words, backend=words, payload=objects, act=st.sampled_from(["submit", "accept"])
)
handles = st.builds(Handle, words, words, objects)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    status = draw(st.sampled_from(Status))
    return Snapshot(
        status=status,
        output=draw(inputs),
        failure=draw(failures) if status in FAILED else None,
        cost=draw(st.none() | costs),
        message=draw(st.none() | words),
        detail=draw(objects),
    )


attempts = st.builds(
    Attempt,
    id=words,
    number=st.integers(1, 9),
    backend=words,
    address=words,
    target=objects,
    status=st.sampled_from(AttemptStatus),
    created_at=times,
    envelope=st.none() | envelopes,
    handle=st.none() | handles,
    snapshot=st.none() | snapshots(),
    failure=st.none() | failures,
    cost=costs,
    ended_at=st.none() | times,
)
runs = st.builds(
    Run,
    id=words,
    task=tasks,
    backend=words | names,
    status=st.sampled_from(Status),
    created_at=times,
    updated_at=times,
    attempts=st.lists(attempts, max_size=2).map(tuple),
    output=inputs,
    failure=st.none() | failures,
    passed=st.lists(st.tuples(st.sampled_from(Status), times), max_size=2).map(tuple),
    deadline_at=st.none() | times,
)
events = st.builds(
    Event,
    kind=st.sampled_from(["snapshot", "piece", "status", "attempt", "end"]),
    at=st.none() | times,
    seq=st.integers(0, 10**9),
    snapshot=st.none() | snapshots(),
    piece=inputs,
    data=st.none() | st.binary(),
    status=st.none() | st.sampled_from(Status),
)
quotes = st.builds(
    Quote,
    expected=st.none() | money,
    upper=st.none() | money,
    confidence=st.sampled_from(["exact", "range", "unknown", "configured", "free"]),
    detail=inputs,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@pytest.mark.parametrize(
    "kind", [tasks, envelopes, handles, snapshots(), attempts, runs, events, quotes, limits]
)
@given(data=st.data())
def test_every_value_survives_json(kind: st.SearchStrategy[Any], data: st.DataObject) -> None:
    value = data.draw(kind)
    text = value.model_dump_json()
    again = type(value).model_validate_json(text)
    assert again == value
    assert again.model_dump_json() == text
    if isinstance(value, Handle):
        assert again.detail == value.detail


@given(objects)
def test_what_is_written_is_json_that_python_reads_alike(value: dict[str, Any]) -> None:
    task = Task(input=value)
    assert json.loads(task.model_dump_json())["input"] == value
    assert task.model_dump()["input"] == value


@pytest.mark.parametrize("number", [math.inf, -math.inf, 10**40, -(10**400), 0.1, -0.0, 5e-324, 1.0, 1])
def test_numbers_are_exact(number: float) -> None:
    again = Snapshot.model_validate_json(Snapshot(status=Status.RUNNING, output=[number]).model_dump_json())
    assert repr(again.output) == repr([number])


def test_nan_comes_back_as_nan() -> None:
    text = Snapshot(status=Status.COMPLETED, output={"score": math.nan}).model_dump_json()
    assert b"NaN" in text
    assert math.isnan(Snapshot.model_validate_json(text).output["score"])


def test_times_keep_their_moment_and_bytes_their_bits() -> None:
    at = datetime(2030, 6, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))
    event = Event(kind="piece", at=at, data=bytes(range(256)))
    again = Event.model_validate_json(event.model_dump_json())
    assert again.at == at
    assert again.at is not None
    assert again.at.utcoffset() == at.utcoffset()
    assert again.data == bytes(range(256))


@pytest.mark.parametrize("cls", VALUES)
def test_every_value_has_a_json_schema_of_its_fields(cls: type[Value]) -> None:
    schema = cls.model_json_schema()
    assert set(schema["properties"]) == {field.name for field in fields(cls)}  # type: ignore[arg-type]  # as checked
    assert schema["additionalProperties"] is False
    json.dumps(schema)


def test_all_values_were_found() -> None:
    assert {
        "Task",
        "Run",
        "Attempt",
        "Envelope",
        "Handle",
        "Snapshot",
        "Failure",
        "Quote",
        "Event",
        "Limits",
    } <= {cls.__name__ for cls in VALUES}


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (Handle, '{"backend": "b", "job_id": "j", "what": 1}'),
        (Handle, '{"backend": "b"}'),
        (Handle, '{"backend": "b", "job_id": 7}'),
        (Handle, "[]"),
        (Handle, "no json"),
        (Snapshot, '{"status": 99}'),
        (Snapshot, '{"status": 11}'),
        (Envelope, '{"attempt_id": "a", "backend": "b", "payload": {}, "act": "pay"}'),
        (Quote, '{"expected": {"amount": 0.5, "asset": "USD"}, "upper": null, "confidence": "exact"}'),
    ],
)
def test_what_is_no_such_value_is_refused(cls: type[Value], text: str) -> None:
    with pytest.raises(ValidationError):
        cls.model_validate_json(text)


@pytest.mark.parametrize("value", [Task(), Handle("b", "j"), Limits(), FAILURE, Event(kind="end")])
def test_values_are_frozen_and_have_no_room_for_more(value: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, "other")
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        value.something_else = 1
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("status", Status)
def test_a_snapshot_has_a_failure_exactly_where_it_failed(status: Status) -> None:
    good, bad = (FAILURE, None) if status in FAILED else (None, FAILURE)
    assert Snapshot(status=status, failure=good).failure is good
    with pytest.raises(ValueError, match=f"a {status.name} snapshot (needs a|has no) failure"):
        Snapshot(status=status, failure=bad)
    with pytest.raises(ValueError, match="failure"):
        replace(Snapshot(status=status, failure=good), failure=bad)


def test_two_handles_are_one_if_they_name_one_job() -> None:
    one, again = Handle("b", "j", {"token": 1}), Handle("b", "j", {"token": 2})
    assert one == again
    assert len({one, again, Handle("b", "k"), Handle("c", "j")}) == 3


def make_attempt(number: int, outcome: CostOutcome = CostOutcome.UNKNOWN) -> Attempt:
    return Attempt(
        id=AttemptId(f"a{number}"),
        number=number,
        backend="b",
        address="",
        target={},
        status=AttemptStatus.PREPARED,
        created_at=AT,
        cost=Cost(outcome=outcome),
    )


def make_run(*attempts: Attempt) -> Run:
    return Run(
        id=RunId("r"),
        task=Task(),
        backend="auto",
        status=Status.RECEIVED,
        created_at=AT,
        updated_at=AT,
        attempts=attempts,
    )


@given(st.lists(st.integers(1, 30), max_size=30))
def test_attempts_stand_in_order_and_the_newest_is_the_last(numbers: list[int]) -> None:
    run = make_run()
    for turn, number in enumerate(numbers):
        run = run.with_attempt(replace(make_attempt(number), address=str(turn)))
    assert [attempt.number for attempt in run.attempts] == sorted(set(numbers))
    last_turn = {number: str(turn) for turn, number in enumerate(numbers)}
    assert {attempt.number: attempt.address for attempt in run.attempts} == last_turn
    assert run.attempt == (run.attempts[-1] if numbers else None)


def test_an_attempt_is_put_into_a_new_run() -> None:
    run = make_run(make_attempt(1))
    longer = run.with_attempt(make_attempt(2))
    assert len(run.attempts) == 1
    assert run.attempt == make_attempt(1)
    assert longer.attempt == make_attempt(2)


@pytest.mark.parametrize(
    ("outcomes", "together"),
    [
        ("", "not_charged"),
        ("not_charged", "not_charged"),
        ("charged not_charged", "charged"),
        ("not_charged unknown charged", "unknown"),
        ("charged unknown", "unknown"),
    ],
)
def test_unknown_money_stays_unknown(outcomes: str, together: str) -> None:
    attempts = [make_attempt(n, CostOutcome(o)) for n, o in enumerate(outcomes.split(), start=1)]
    assert make_run(*attempts).cost_outcome == together


@given(runs, times)
def test_what_is_hot_is_replaced_as_dataclasses_do_it(run: Run, at: datetime) -> None:
    before = run.model_dump_json()
    assert run.replace(updated_at=at, output=1) == replace(run, updated_at=at, output=1)
    assert run.model_dump_json() == before
    with pytest.raises(AttributeError):
        run.replace(no_field=1)
    copied = run.replace(output=1)
    with pytest.raises(FrozenInstanceError):
        copied.output = 2  # type: ignore[misc]  # that is what is tried
    assert pickle.loads(pickle.dumps(copied)) == copied


@pytest.mark.parametrize("kind", [Task, Envelope, Handle, Failure, Cost, Snapshot, Attempt, Run, Event])
def test_values_are_made_as_dataclasses_make_them(kind: type[Any]) -> None:
    parameters = inspect.signature(kind).parameters
    assert list(parameters) == [one.name for one in fields(kind)]
    for one in fields(kind):
        parameter = parameters[one.name]
        assert (parameter.kind is parameter.KEYWORD_ONLY) == one.kw_only
        assert (parameter.default is parameter.empty) == (
            one.default is MISSING and one.default_factory is MISSING
        )
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.__init__\(\) got an unexpected keyword"):
        kind(nothing=1)


def test_each_value_has_containers_of_its_own() -> None:
    assert Task().labels == {}
    assert Task().labels is not Task().labels
