"""From a task as the API shows it to a Snapshot. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace

from gateway.errors import CostOutcome
from gateway.lifecycle import Status
from gateway.task import Cost, Failure, FailureKind, Snapshot
from gateway.types import JSON, Money
from gateway_inferencesh.wire import UNSOUND, parse_status

_DETAIL = (
    "session_id",
    "usage_events",
    "events",
    "timings",
    "egress",
    "app_id",
    "app_version_id",
    "function",
    "infra",
    "worker_id",
    "short_id",
    "created_at",
    "updated_at",
    "run_at",
)
"""What is kept of a task beside its output. Not `socket`: it holds a token."""

_MAX_LOG_CHARACTERS = 64 * 1024
_LOG_TYPES: Mapping[JSON, str] = {0: "build", 1: "run", 2: "serve", 3: "setup", 4: "task"}

_NOBODY_TOOK_IT = ("task expired while waiting", "no active workers with matching resources")
"""How the error of a task begins that waited in the queue to its end (documentation of 2026-10-12)."""


def make_snapshot(task: Mapping[str, JSON], *, backend: str, microcents_per_usd: int) -> Snapshot | None:
    """Return one look at a task; None if it has no status that says something."""
    status = parse_status(task.get("status"))
    if status is None:
        return None
    if task.get("output") is UNSOUND:
        return _make_unsound(task, backend=backend, microcents_per_usd=microcents_per_usd)
    output, meta = split_output(task.get("output"))
    detail = {name: task[name] for name in _DETAIL if task.get(name) not in (None, "", [], {})}
    if meta is not None:
        detail["output_meta"] = meta
    if logs := parse_logs(task.get("logs")):
        detail["logs"] = logs
    text = task.get("status_text")
    return Snapshot(
        status=status,
        output=output,
        failure=_make_failure(task, status, backend),
        cost=make_cost(task, status, microcents_per_usd) if status.is_final else None,
        message=text if isinstance(text, str) and text.lower() != status.name.lower() and text else None,
        detail=detail,
    )


def _make_unsound(task: Mapping[str, JSON], *, backend: str, microcents_per_usd: int) -> Snapshot | None:
    """Return a look at a task whose output can't be kept: where it has completed, that is a failure."""
    seen = make_snapshot({**task, "output": None}, backend=backend, microcents_per_usd=microcents_per_usd)
    if seen is None or seen.status is not Status.COMPLETED:
        return seen
    job_id = task.get("id")
    failure = Failure(
        kind=FailureKind.MISBEHAVED,
        message="its output holds what can't be kept: nesting too deep, or an integer of thousands of digits",
        backend=backend,
        job_id=job_id if isinstance(job_id, str) else None,
    )
    return replace(seen, status=Status.FAILED, failure=failure)


def make_lost(job_id: str, backend: str) -> Snapshot:
    """Return the look at a job that was accepted and is unknown to the backend now."""
    failure = Failure(
        kind=FailureKind.LOST,
        message=f"the backend accepted task {job_id} and does not know it any more",
        backend=backend,
        job_id=job_id,
        code="not_found",
        http_status=404,
    )
    return Snapshot(status=Status.FAILED, failure=failure)


def split_output(output: JSON) -> tuple[JSON, JSON]:
    """Take `output_meta`, which is not the app's, out of an output."""
    if not (isinstance(output, dict) and "output_meta" in output):
        return output, None
    return {name: value for name, value in output.items() if name != "output_meta"}, output["output_meta"]


def parse_logs(logs: JSON) -> list[JSON]:
    """Read the log parts of a task as `{log_type, content}`, the newest characters of each.

    The content is base64 on the wire (Go's bytes); what isn't is taken as it stands.
    """
    if not isinstance(logs, list):
        return []
    return [
        {
            "log_type": _LOG_TYPES.get(log.get("log_type", ""), str(log.get("log_type"))),
            "content": _decode(log.get("content"))[-_MAX_LOG_CHARACTERS:],
        }
        for log in logs
        if isinstance(log, dict)
    ]


def _decode(content: JSON) -> str:
    try:
        return base64.b64decode(str(content or ""), validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return str(content)


def _make_failure(task: Mapping[str, JSON], status: Status, backend: str) -> Failure | None:
    if not status.is_final or status is Status.COMPLETED:
        return None
    error = task.get("error")
    text = error if isinstance(error, str) else "" if error is None else str(error)
    kind = {Status.CANCELLED: FailureKind.CANCELLED, Status.REJECTED: FailureKind.REJECTED}.get(
        status, FailureKind.JOB
    )
    if status is Status.FAILED and text.lower().startswith(_NOBODY_TOOK_IT):
        kind = FailureKind.EXPIRED
    job_id = task.get("id")
    return Failure(
        kind=kind,
        message=text or f"the task ended {status.name.lower()} and does not say why",
        backend=backend,
        job_id=job_id if isinstance(job_id, str) else None,
        code=status.name.lower(),
    )


def make_cost(task: Mapping[str, JSON], status: Status, microcents_per_usd: int) -> Cost:
    """Say what is known of an ended task's cost.

    Usage events count units, not money: they prove that something was charged, not how much. Only if
    each of them tells its microcents there is a sum.
    """
    if status is Status.REJECTED:
        return Cost(outcome=CostOutcome.NOT_CHARGED, evidence={"status": "rejected"})
    events = task.get("usage_events")
    if not isinstance(events, list) or not events:
        return Cost(outcome=CostOutcome.UNKNOWN)
    told = [event.get("microcents") if isinstance(event, dict) else None for event in events]
    sums = [amount for amount in told if isinstance(amount, int) and not isinstance(amount, bool)]
    settled = make_money(sum(sums), microcents_per_usd) if len(sums) == len(told) else None
    return Cost(settled=settled, outcome=CostOutcome.CHARGED, evidence={"usage_events": events})


def make_money(microcents: float, microcents_per_usd: int) -> Money:
    """Turn the bill's units into USD, rounded up to the 1e-8 that Money holds."""
    numerator, denominator = (microcents * 10**8).as_integer_ratio()
    return Money(-(-numerator // (denominator * microcents_per_usd)), "USD")
