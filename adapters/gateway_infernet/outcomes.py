"""From one entry of GET /api/jobs to a Snapshot. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import CostOutcome
from gateway.lifecycle import Status
from gateway.task import Cost, Failure, FailureKind, Handle, Snapshot
from gateway.types import JSON, Money
from gateway_infernet.wire import STATUS, Look

STREAM_LIMIT_SECONDS = 60
"""A node cuts a stream after a minute, whatever its version, and leaves its job "running" for ever."""

_FREE = Cost(outcome=CostOutcome.NOT_CHARGED, evidence="an Infernet node bills nothing for a job")


def make_snapshot(handle: Handle, look: Look, *, price: Money | None) -> Snapshot | None:
    """Return what a look says about a job that had been accepted, None if it is no news."""
    if look.entry is None:
        return make_lost(handle) if look.is_certain else None
    if not look.is_sound:
        text = "its result holds what can't be kept: half a character (a lone surrogate), or nesting too deep"
        failure = _make_failure(handle, FailureKind.MISBEHAVED, text)
        return Snapshot(status=Status.FAILED, failure=failure, cost=_make_cost(price, ran=False))
    word, result = look.entry.get("status"), look.entry.get("result")
    status = STATUS.get(word) if isinstance(word, str) else None
    if status is None or not (result is None or isinstance(result, dict)):
        return None
    detail = _make_detail(look.entry, result)
    if status is Status.RUNNING:
        return Snapshot(status=status, detail=detail)
    if status is Status.FAILED:
        failure = _make_job_failure(handle, result)
        return Snapshot(status=status, failure=failure, detail=detail, cost=_make_cost(price, ran=False))
    return _make_success(handle, result, detail, price)


def _make_detail(entry: Mapping[str, JSON], result: Mapping[str, JSON] | None) -> dict[str, JSON]:
    detail: dict[str, JSON] = {}
    if result is not None and "container" in result:
        detail["container"] = result["container"]
    if entry.get("intermediate_results"):
        detail["intermediate_results"] = entry["intermediate_results"]
    return detail


def _make_success(
    handle: Handle, result: Mapping[str, JSON] | None, detail: dict[str, JSON], price: Money | None
) -> Snapshot | None:
    cost = _make_cost(price, ran=True)
    if result is None:
        message = "recorded as a success without a result (PUT /api/status carries none)"
        return Snapshot(status=Status.COMPLETED, message=message, detail=detail, cost=cost)
    if "output" not in result:
        return None
    output = result["output"]
    failure = _find_hidden_failure(handle, result, output)
    if failure is None:
        return Snapshot(status=Status.COMPLETED, output=output, detail=detail, cost=cost)
    return Snapshot(status=Status.FAILED, output=output, failure=failure, detail=detail, cost=cost)


def _find_hidden_failure(handle: Handle, result: Mapping[str, JSON], output: JSON) -> Failure | None:
    """Find an error that arrives as a success: a node ignores the HTTP status of its containers.

    Ritual's services answer errors as {"code": "500", "name": ..., "description": ...}, with the code as
    text; the node itself takes any `code` but "200" for an error when it delivers on chain.
    """
    code = output.get("code") if isinstance(output, dict) else None
    if not handle.detail.get("strict", True) or code is None or str(code) == "200":
        return None
    said = [str(output[word]) for word in ("name", "description") if output.get(word)]
    return _make_failure(
        handle,
        FailureKind.OUTPUT_ERROR,
        f"container {result.get('container')} answered an error: {' '.join([str(code), *said])}",
        code=str(code),
        detail=output,
    )


def _make_job_failure(handle: Handle, result: Mapping[str, JSON] | None) -> Failure:
    if result is None:
        return _make_failure(
            handle, FailureKind.JOB, "recorded as failed without a reason (PUT /api/status carries none)"
        )
    container, error = result.get("container"), result.get("error")
    if error == "":  # the only sign of a time-out (measured: 180 s per container, 60 s in a stream)
        limit = STREAM_LIMIT_SECONDS if handle.detail.get("kind") == "stream" else 180
        text = f"container {container} did not answer within the node's limit of {limit} s"
        return _make_failure(handle, FailureKind.TIMEOUT, text, detail=dict(result))
    return _make_failure(
        handle, FailureKind.JOB, f"container {container} failed: {error}", detail=dict(result)
    )


def make_lost(handle: Handle) -> Snapshot:
    """Return the failure of a job that was accepted and that the node doesn't know."""
    text = (
        f"the node accepted job {handle.job_id} and does not know it any more: it was restarted, its store "
        "lost the job or the result, it ran for more than 15 minutes, or we ask from another address now"
    )
    return Snapshot(status=Status.FAILED, failure=_make_failure(handle, FailureKind.LOST, text))


def make_cut(handle: Handle) -> Snapshot:
    """Return the failure of a stream that ended while its job is still called running."""
    text = (
        f"the stream of job {handle.job_id} ended early and the node will call the job running until it "
        f"forgets it (a stream is cut after {STREAM_LIMIT_SECONDS} s, or when its reader goes away)"
    )
    return Snapshot(status=Status.FAILED, failure=_make_failure(handle, FailureKind.TIMEOUT, text))


def _make_failure(
    handle: Handle, kind: FailureKind, message: str, *, code: str | None = None, detail: JSON = None
) -> Failure:
    return Failure(
        kind=kind, message=message, backend=handle.backend, job_id=handle.job_id, code=code, detail=detail
    )


def _make_cost(price: Money | None, *, ran: bool) -> Cost:
    if price is None:
        return _FREE
    if not ran:
        return Cost(quoted=price, outcome=CostOutcome.UNKNOWN)
    return Cost(quoted=price, settled=price, outcome=CostOutcome.CHARGED, evidence="the configured price")
