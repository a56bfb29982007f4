"""Finding a task whose answer was lost.

The API takes no id of ours and no idempotency key, so a lost answer can't be told from a lost request. What
can be told: the list has exactly one task that is the same in all that was asked for, was made after the
envelope, and belongs to no other attempt. Anything less is Unknown, and absence proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

from gateway.adapter import Landed, Recovery, Unknown
from gateway.clock import Clock
from gateway.errors import Rejected
from gateway.task import Envelope, Handle
from gateway.types import JSON
from gateway_inferencesh.api import Api
from gateway_inferencesh.config import encode_time, parse_app
from gateway_inferencesh.wire import is_same_json, parse_time

SKEW = timedelta(seconds=5)
"""Between our clock and the server's, after the difference by its Date header was taken out."""
SKEW_WITHOUT_DATE = timedelta(seconds=60)
PAGE = 100
MAX_PAGES = 10
MAX_CLAIMS = 100_000


class Claims:
    """Which attempt has which job, and which submissions are on their way, as far as this adapter knows."""

    def __init__(self) -> None:
        self._jobs: dict[str, str] = {}
        self._under_way: dict[str, JSON] = {}

    def add(self, job_id: str, attempt_id: str) -> None:
        """Note that a job is an attempt's; "" for an attempt that isn't known."""
        if self._jobs.setdefault(job_id, attempt_id) == "":
            self._jobs[job_id] = attempt_id
        if len(self._jobs) > MAX_CLAIMS:
            del self._jobs[next(iter(self._jobs))]

    def is_open(self, job_id: str, attempt_id: str) -> bool:
        """Say whether a job may be this attempt's."""
        return self._jobs.get(job_id, attempt_id) == attempt_id

    def get_job(self, attempt_id: str) -> str | None:
        """Return the job that an attempt is known to have."""
        return next((job for job, attempt in self._jobs.items() if attempt == attempt_id), None)

    @contextmanager
    def sending(self, envelope: Envelope) -> Iterator[None]:
        """Note that a submission is on its way, for as long as the block lasts."""
        self._under_way[envelope.attempt_id] = envelope.payload["body"]
        try:
            yield
        finally:
            del self._under_way[envelope.attempt_id]

    def has_twin_under_way(self, envelope: Envelope) -> bool:
        """Say whether another attempt is sending the same body right now: a task found may be its."""
        body = envelope.payload["body"]
        return any(
            attempt_id != envelope.attempt_id and is_same_json(other, body)
            for attempt_id, other in self._under_way.items()
        )


async def recall(api: Api, clock: Clock, claims: Claims, envelope: Envelope) -> Recovery:
    """Look a submission up in the task list. Raises BackendError when the list can't be had."""
    body = envelope.payload.get("body")
    if envelope.prepared_at is None or not isinstance(body, dict):
        return Unknown("the envelope does not say when it was prepared, or what it holds")
    if claims.has_twin_under_way(envelope):
        return Unknown("another attempt is submitting the very same at this moment")
    found = await _fetch_since(api, clock, envelope.prepared_at)
    if found is None:
        return Unknown(f"the task list has more than {PAGE * MAX_PAGES} tasks since then")
    same = [
        str(task["id"])
        for task in found
        if claims.is_open(str(task["id"]), envelope.attempt_id) and await _is_same_task(api, task, body)
    ]
    if len(same) == 1:
        return Landed(Handle(api.backend, same[0], {"attempt_id": envelope.attempt_id, "recalled": True}))
    if same:
        return Unknown(f"{len(same)} tasks could be it: {', '.join(same[:5])}")
    return Unknown("no such task is in the list, which does not prove that none will be")


async def _fetch_since(api: Api, clock: Clock, prepared_at: datetime) -> list[dict[str, JSON]] | None:
    """Return the tasks made since then, newest first; None if they are too many to look at."""
    cursor, found = "", []
    for _ in range(MAX_PAGES):
        page, served_at = await _fetch_page(api, cursor)
        earliest = prepared_at - SKEW_WITHOUT_DATE
        if served_at is not None:
            earliest = prepared_at + (served_at - clock.now()) - SKEW
        made = [(parse_time(task.get("created_at")), task) for task in _get_items(page)]
        found += [task for at, task in made if at is not None and at >= earliest]
        cursor = page.get("next_cursor") or ""
        if not (page.get("has_next") and cursor) or any(at is not None and at < earliest for at, _ in made):
            return found
    return None


async def _fetch_page(api: Api, cursor: str) -> tuple[dict[str, JSON], datetime | None]:
    request: dict[str, JSON] = {"limit": PAGE, "sort": [{"field": "created_at", "dir": "desc"}]}
    if cursor:
        request["cursor"] = cursor
    body = await api.call("POST", "/tasks/list", what="list tasks", json=request, takes_unsound=True)
    if not isinstance(body.data, dict):
        raise api.make_broken("list tasks", "it carries no page", lands=False)
    return body.data, body.served_at


def _get_items(page: Mapping[str, JSON]) -> list[dict[str, JSON]]:
    items = page.get("items")
    return [i for i in items if isinstance(i, dict) and i.get("id")] if isinstance(items, list) else []


async def _is_same_task(api: Api, task: Mapping[str, JSON], body: Mapping[str, JSON]) -> bool:
    """Compare a task of the list with what was asked for; one that is listed in brief is fetched first."""
    if not may_be_same(task, body):
        return False
    if "input" not in task or "app_id" not in task:
        try:
            task = await api.fetch_task(str(task["id"]))
        except Rejected:
            return False  # deleted meanwhile, or not ours to see
    return is_same(task, body)


def may_be_same(task: Mapping[str, JSON], body: Mapping[str, JSON]) -> bool:
    """Say whether what a task in brief tells does not speak against it."""
    return not (
        ("input" in task and not is_same_json(task["input"], body.get("input")))
        or ("function" in task and not _is_asked(task["function"], _get_function(body)))
    )


def is_same(task: Mapping[str, JSON], body: Mapping[str, JSON]) -> bool:
    """Say whether a whole task is the same in all that was asked for."""
    run_at = body.get("run_at")
    return (
        "input" in task
        and is_same_json(task["input"], body.get("input"))
        and _is_app(task, body)
        and _is_asked(task.get("function"), _get_function(body))
        and is_same_json(task.get("setup") or None, body.get("setup") or None)
        and _is_session(task.get("session_id"), body.get("session"))
        and _is_asked(task.get("app_version_id"), body.get("version_id"))
        and _is_asked(task.get("infra"), body.get("infra"))
        and is_same_json(task.get("workers") or None, body.get("workers") or None)
        and (task.get("webhook") or None) == body.get("webhook")
        and _is_time(task.get("run_at"), run_at)
    )


def _is_app(task: Mapping[str, JSON], body: Mapping[str, JSON]) -> bool:
    if "app_id" in body:
        return bool(task.get("app_id") == body["app_id"])
    wanted = parse_app(str(body.get("app"))).path
    app = task.get("app")
    if isinstance(app, dict):
        space = app.get("namespace")
        return f"{space}/{app.get('name')}" == wanted if space else app.get("name") == wanted
    try:
        return isinstance(app, str) and parse_app(app).path == wanted
    except ValueError:
        return False


def _get_function(body: Mapping[str, JSON]) -> JSON:
    return body.get("function") or (parse_app(str(body["app"])).function if "app" in body else None)


def _is_asked(told: JSON, asked: JSON) -> bool:
    return asked is None or told == asked


def _is_session(told: JSON, asked: JSON) -> bool:
    return bool(told) if asked == "new" else (told or None) == asked


def _is_time(told: JSON, asked: JSON) -> bool:
    at = parse_time(told)
    return not told if asked is None else at is not None and encode_time(at)[:19] == str(asked)[:19]
