"""Tasks: runs, as the API shows them."""

from __future__ import annotations

from datetime import datetime

from gateway.files import parse_file
from gateway.lifecycle import Status
from gateway.server.dialects.inferencesh.words import CONFLICT, INVALID, answer, write_time
from gateway.server.problems import Refusal
from gateway.server.wire import Answer, Request
from gateway.store.protocol import RunFilter
from gateway.task import Run
from gateway.types import JSON

_MOST_LISTED = 100
_OPERATORS = ("eq", "in")


async def get_task(request: Request) -> Answer:
    """Show one whole."""
    return answer(request, view_task(await find_run(request)))


async def get_status(request: Request) -> Answer:
    """Show the least that a poller needs."""
    run = await find_run(request)
    return answer(
        request, {"id": run.id, "status": int(run.status), "updated_at": write_time(run.updated_at)}
    )


async def cancel_task(request: Request) -> Answer:
    """Ask for its end. One that has ended is a conflict."""
    run = await find_run(request)
    if run.status.is_final:
        raise Refusal(CONFLICT, f"the task {run.id} has ended: {run.status.name.lower()}")
    run = await request.service.find_gateway(run.id).cancel(run.id)
    return answer(request, {"id": run.id, "status": int(run.status), "cancelled": True})


async def list_tasks(request: Request) -> Answer:
    """List the caller's tasks, newest first; filters are known for `status`, with eq and in."""
    body = await request.read_json()
    body = body if isinstance(body, dict) else {}
    limit = body.get("limit") or 50
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= _MOST_LISTED:
        raise Refusal(INVALID, f"limit must be a number from 1 to {_MOST_LISTED}")
    before, before_id = _read_cursor(body.get("cursor"))
    wanted = _read_filters(body.get("filters"))
    found: list[Run] = []
    for status in wanted or (None,):
        which = RunFilter(
            status=status,
            api_key=request.caller.key,
            before=before,
            before_id=before_id,
            limit=limit + 1,
        )
        found += await request.service.gateway.list_runs(which)
    found.sort(key=lambda run: (run.created_at, run.id), reverse=True)
    shown, more = found[:limit], len(found) > limit
    page = {
        "items": [view_task(run) for run in shown],
        "next_cursor": f"{shown[-1].created_at.isoformat()}~{shown[-1].id}" if more else None,
        "prev_cursor": None,
        "has_next": more,
        "has_previous": body.get("cursor") is not None,
        "items_per_page": limit,
    }
    return answer(request, page)


def _read_cursor(cursor: JSON) -> tuple[datetime | None, str | None]:
    if not cursor:
        return None, None
    time, _, run_id = str(cursor).partition("~")
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not run_id or "\0" in run_id:
        raise Refusal(INVALID, "cursor: it is not the next_cursor of a page")
    return at, run_id


def _read_filters(filters: JSON) -> list[Status]:
    """Return the statuses that are asked for. Raises Refusal for a filter that would be ignored."""
    wanted: list[Status] = []
    for one in filters if isinstance(filters, list) else []:
        if (
            not isinstance(one, dict)
            or one.get("field") != "status"
            or one.get("operator", "eq") not in _OPERATORS
        ):
            raise Refusal(INVALID, "filters: only the field status is known here, with eq and in")
        values = one["value"] if isinstance(one.get("value"), list) else [one.get("value")]
        try:
            wanted += [Status.parse(value) for value in values]
        except ValueError as error:
            raise Refusal(INVALID, f"filters: {error}") from None
    return list(dict.fromkeys(wanted))


async def find_run(request: Request) -> Run:
    """Return the run of the path. Raises RunNotFound."""
    return await request.service.get_run(request.caller, request.params["id"])


def find_session(run: Run) -> str | None:
    """Return the session that a run's job was in, as its backend told."""
    for attempt in reversed(run.attempts):
        details = [attempt.snapshot.detail] if attempt.snapshot else []
        details += [attempt.handle.detail] if attempt.handle else []
        for detail in details:
            if isinstance(detail.get("session_id"), str):
                return str(detail["session_id"])
    return None


def view_result(run: Run) -> dict[str, JSON]:
    """Return the slim task that a run is answered with."""
    output = run.output
    if output is None and run.attempt is not None and run.attempt.snapshot is not None:
        output = run.attempt.snapshot.output
    return {
        "id": run.id,
        "short_id": run.id[-8:],
        "created_at": write_time(run.created_at),
        "updated_at": write_time(run.updated_at),
        "status": int(run.status),
        "status_text": run.status.name.lower(),
        "input": show_input(run.task.input),
        "output": output,
        "error": None if run.failure is None else run.failure.message,
        "session_id": find_session(run),
        "run_at": None,
    }


def view_task(run: Run) -> dict[str, JSON]:
    """Return the whole task."""
    events = [
        {
            "id": f"{run.id}_{number}",
            "created_at": write_time(at),
            "event_time": write_time(at),
            "task_id": run.id,
            "status": int(status),
        }
        for number, (status, at) in enumerate(run.passed)
    ]
    target = run.attempt.target if run.attempt else (run.task.target or {})
    return {
        **view_result(run),
        "app_id": run.task.model,
        "function": target.get("function"),
        "infra": "cloud",
        "events": events,
        "logs": [],
        "usage_events": [],
        "metadata": dict(run.task.labels),
        "visibility": "private",
    }


def show_input(value: JSON) -> JSON:
    """Return an input with its files by their names: their content is not sent back."""
    if isinstance(value, dict):
        file = parse_file(value)
        if file is not None:
            return file.name
        return {name: show_input(item) for name, item in value.items()}
    return [show_input(item) for item in value] if isinstance(value, list) else value
