"""Runs to keep, and the words in which StoreConformance asks."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from gateway.errors import CostOutcome
from gateway.lifecycle import AttemptStatus, Status
from gateway.limits import Limits
from gateway.store.protocol import Scope, Store
from gateway.task import (
    Answer,
    Attempt,
    Cost,
    Envelope,
    Event,
    Failure,
    FailureKind,
    Handle,
    Run,
    Snapshot,
    Task,
)
from gateway.types import AttemptId, Money, RunId

StoreMaker: TypeAlias = Callable[[], Store]
START_AT = datetime(2030, 1, 1, tzinfo=UTC)
HERE = Scope(frozenset({("node1", "http://127.0.0.1:4000")}), frozenset({"m"}))
"""A scope that covers the samples."""

_numbers = itertools.count(1)


def after(seconds: float) -> datetime:
    """Return a time so long after the samples' beginning."""
    return START_AT + timedelta(seconds=seconds)


def make_task() -> Task:
    """Make a task with something in every field."""
    return Task(
        model="m",
        input={
            "text": "Grüße, 世界\u0000",
            "big": 10**40,
            "small": -0.5,
            "none": None,
            "many": [[], {}, True],
        },
        target={"containers": ["echo"]},
        stream=True,
        limits=Limits(
            only=("node1",),
            ignore=("node2",),
            max_cost=Money.parse("0.5 USD"),
            deadline=timedelta(minutes=2, microseconds=1),
            max_attempts=3,
            on_doubt="resubmit",
        ),
        labels={"who": "me"},
    )


def make_run(task: Task | None = None, **changes: Any) -> Run:
    """Make a new run; each is a second younger than the one before, if it is not told otherwise."""
    number = next(_numbers)
    run = Run(
        id=RunId(f"run_{number}"),
        task=task or Task(model="m", input={"text": "hello"}),
        backend="auto",
        status=Status.RECEIVED,
        created_at=after(number),
        updated_at=after(number),
        passed=((Status.RECEIVED, after(number)),),
    )
    return replace(run, **changes)


def make_attempt(number: int = 1, status: AttemptStatus = AttemptStatus.PREPARED, **changes: Any) -> Attempt:
    """Make an attempt as it is stored before it is sent."""
    attempt_id = AttemptId(f"attempt-{number}")
    attempt = Attempt(
        id=attempt_id,
        number=number,
        backend="node1",
        address="http://127.0.0.1:4000",
        target={"containers": ["echo"]},
        status=status,
        created_at=START_AT,
        envelope=Envelope(
            attempt_id=attempt_id, backend="node1", payload={"id": 1, "raw": "0x00"}, prepared_at=START_AT
        ),
    )
    return replace(attempt, **changes)


def with_attempt(run: Run, attempt: Attempt, status: Status = Status.RUNNING) -> Run:
    """Return the run as it is once it has this attempt."""
    return replace(run.with_attempt(attempt), status=status, updated_at=after(60))


def make_end(run: Run, seconds: float = 1.0, *, succeeded: bool = True, number: int = 1) -> Run:
    """Return the run as it is at its end, its attempt having taken so long."""
    failure = None if succeeded else Failure(kind=FailureKind.JOB, message="it broke", backend="node1")
    status = Status.COMPLETED if succeeded else Status.FAILED
    attempt = make_attempt(
        number,
        AttemptStatus.SUCCEEDED if succeeded else AttemptStatus.FAILED,
        accept=Envelope(attempt_id=AttemptId("attempt-1"), backend="node1", payload={}, act="accept"),
        handle=Handle("node1", "job-1", {"token": "t"}),
        snapshot=Snapshot(
            status=status,
            output={"n": 10**40, "inf": float("inf")},
            failure=failure,
            answers=(Answer(id="0xa", price=Money(5, "ETH")),),
            detail={"seen": [1]},
        ),
        failure=failure,
        cost=Cost(quoted=Money(2**256, "erc20:1:0xab"), outcome=CostOutcome.CHARGED, evidence={"tx": "0x1"}),
        submitted_at=START_AT,
        ended_at=after(seconds),
    )
    run = with_attempt(run, attempt, status)
    return replace(run, output=None if failure else {"n": 1}, failure=failure, ended_at=after(seconds))


def make_event(run: Run, seq: int) -> Event:
    """Make a stored event."""
    look = Snapshot(status=Status.RUNNING, output={"so far": seq})
    return Event(kind="snapshot", seq=seq, run_id=run.id, at=after(seq), snapshot=look, data=b"\x00\xff")


async def expect_raises(kind: type[Exception], work: Awaitable[object], promise: str) -> Exception:
    """Expect that it raises this error, and return that."""
    try:
        await work
    except kind as error:
        return error
    raise AssertionError(promise)
