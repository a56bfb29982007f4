from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import CostOutcome
from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle, Snapshot
from gateway.types import Money
from gateway_infernet.outcomes import make_snapshot
from gateway_infernet.wire import Look

JOB = Handle("n", "j", {"kind": "job", "strict": True})
LAX = Handle("n", "j", {"kind": "job", "strict": False})
STREAM = Handle("n", "j", {"kind": "stream", "strict": True})


def snapshot_of(
    status: Any, result: Any, handle: Handle = JOB, price: Money | None = None, **more: Any
) -> Any:
    return make_snapshot(handle, Look({"id": "j", "status": status, "result": result, **more}), price=price)


def kind_of(snapshot: Snapshot) -> FailureKind:
    assert snapshot.failure is not None
    assert (snapshot.failure.backend, snapshot.failure.job_id) == ("n", "j")
    return snapshot.failure.kind


def test_running() -> None:
    assert snapshot_of("running", None) == Snapshot(status=Status.RUNNING)


@pytest.mark.parametrize(
    "output", [{"a": 1}, [1], "text", 3, True, None, {"code": "200"}, {"code": 200}, {"code": None}]
)
def test_success_with_any_json(output: Any) -> None:
    seen = snapshot_of("success", {"container": "c", "output": output})
    assert (seen.status, seen.output, seen.detail) == (Status.COMPLETED, output, {"container": "c"})
    assert seen.cost.outcome is CostOutcome.NOT_CHARGED


@pytest.mark.parametrize("code", ["500", 500, "400", "201", "overloaded"])
def test_a_success_with_an_error_object_is_the_failure_it_is(code: Any) -> None:
    output = {"code": code, "name": "Internal Server Error", "description": "it broke"}
    seen = snapshot_of("success", {"container": "c", "output": output})
    assert (seen.status, kind_of(seen)) == (Status.FAILED, FailureKind.OUTPUT_ERROR)
    assert seen.failure.message == f"container c answered an error: {code} Internal Server Error it broke"
    assert (seen.failure.code, seen.failure.detail) == (str(code), output)
    assert snapshot_of("success", {"container": "c", "output": output}, LAX).status is Status.COMPLETED


def test_a_failed_job_says_which_container() -> None:
    result = {"container": "second", "error": "Server disconnected"}
    first = [{"container": "first", "output": 1}]
    seen = snapshot_of("failed", result, intermediate_results=first)
    assert (seen.status, kind_of(seen)) == (Status.FAILED, FailureKind.JOB)
    assert seen.failure.message == "container second failed: Server disconnected"
    assert seen.detail == {"container": "second", "intermediate_results": first}


@pytest.mark.parametrize(("handle", "limit"), [(JOB, "180 s"), (STREAM, "60 s")])
def test_an_empty_error_is_the_nodes_timeout(handle: Handle, limit: str) -> None:
    seen = snapshot_of("failed", {"container": "c", "error": ""}, handle)
    assert kind_of(seen) is FailureKind.TIMEOUT
    assert limit in seen.failure.message


def test_a_status_that_was_put_has_no_result() -> None:
    seen = snapshot_of("success", None)
    assert (seen.status, seen.output) == (Status.COMPLETED, None)
    assert "without a result" in seen.message
    assert kind_of(snapshot_of("failed", None)) is FailureKind.JOB


def test_lost() -> None:
    seen = make_snapshot(JOB, Look(None), price=None)
    assert seen is not None
    assert (seen.status, kind_of(seen)) == (Status.FAILED, FailureKind.LOST)
    assert make_snapshot(JOB, Look(None, is_certain=False), price=None) is None


@pytest.mark.parametrize(
    ("status", "result"),
    [
        ("failure", None),
        ("RUNNING", None),
        (None, None),
        (["running"], None),
        (7, None),
        ("success", 3),
        ("success", {}),
    ],
)
def test_what_a_node_never_says_is_no_news(status: Any, result: Any) -> None:
    assert snapshot_of(status, result) is None


def test_what_cannot_be_kept_is_a_failure_of_its_own() -> None:
    entry = {"id": "j", "status": "success", "result": {"container": "c", "output": "\ud800"}}
    seen = make_snapshot(JOB, Look(entry, is_sound=False), price=None)
    assert seen is not None
    assert kind_of(seen) is FailureKind.MISBEHAVED
    assert seen.model_dump_json()


def test_a_configured_price_is_settled_by_success_only() -> None:
    price = Money.parse("0.001 USD")
    paid = snapshot_of("success", {"container": "c", "output": 1}, price=price).cost
    assert (paid.settled, paid.outcome) == (price, CostOutcome.CHARGED)
    failed = snapshot_of("failed", {"container": "c", "error": "x"}, price=price).cost
    assert (failed.settled, failed.outcome) == (None, CostOutcome.UNKNOWN)
