"""What stands on the wire, in the gateway's words and back. Pure: no I/O, no clock, no dice.

The shapes are those of the public SDKs (Python 0.7.8 and 0.36.0, JavaScript) and the public documentation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.errors import InvalidInput
from gateway.http import Answer, encode_json, parse_json
from gateway.lifecycle import Status
from gateway.types import JSON

STATUSES: Mapping[int, Status | None] = {
    0: None,  # "unknown" is no news
    1: Status.RECEIVED,
    2: Status.QUEUED,
    3: Status.DISPATCHED,
    4: Status.PREPARING,
    5: Status.SERVING,
    6: Status.SETTING_UP,
    7: Status.RUNNING,
    8: Status.CANCELLING,
    9: Status.UPLOADING,
    10: Status.COMPLETED,
    11: Status.FAILED,
    12: Status.CANCELLED,
    13: Status.REJECTED,
}
"""The numbers of the generated types. Older REST tables are off by one and wrong."""

STATUS_NAMES: Mapping[str, Status | None] = {
    "unknown": None,
    "scheduled": Status.DISPATCHED,  # its older name
    **{status.name.lower(): status for status in Status},
}

UNSOUND: JSON = object()
"""Stands for what our own stores can't keep: nesting too deep, integers without end."""
_MAX_DIGITS = 4300  # Python's own bound for reading an integer

_WRAPPER = frozenset({"success", "status", "data", "error", "messages"})


def parse_status(value: JSON) -> Status | None:
    """Read a status, as number or name; None for one that says nothing or was never heard of."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip().lower()
        return STATUSES.get(int(text)) if text.isdecimal() else STATUS_NAMES.get(text)
    return STATUSES.get(value) if isinstance(value, int) else None


class BrokenAnswer(ValueError):
    """An answer says success, and what it carries can't be read."""


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing to set up before an app can run.

    Attributes:
        type: "secret", "credential" (once "integration") or "scope".
        key: its name.
        message: the backend's sentence about it.
        action: how to mend it: type add_secret, connect or add_scopes, and what that needs.
    """

    type: str
    key: str
    message: str
    action: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was refused, out of whichever generation of answers.

    Attributes:
        code: the API's word ("payment_required", "SESSION_EXPIRED"), "" if it said none.
        message: its sentence.
        meta: what it says beside that.
        missing: the items of a 412.
        status: as the body says it; the HTTP status decides where there is one.
    """

    code: str = ""
    message: str = ""
    meta: Mapping[str, JSON] = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """What an answer of success carries.

    Attributes:
        data: the object itself, out of its envelope; None for 204.
        messages: `{level, code, message, meta?}` each, V3 only.
        problem: set if the answer says success by its HTTP status and failure by its body (V1).
        served_at: the server's own time, from its Date header.
        is_sound: false if there is something in `data` that our own stores can't keep.
    """

    data: JSON = None
    messages: tuple[Mapping[str, JSON], ...] = ()
    problem: Problem | None = None
    served_at: datetime | None = None
    is_sound: bool = True


def parse_body(answer: Answer) -> Body:
    """Take the data out of a 2xx answer: V1 `{success,status,data}`, V2 bare, V3 `{data,messages}`.

    Raises:
        BrokenAnswer: if it is not JSON, or does not say that it is.
    """
    served_at = parse_http_date(answer.headers.get("date"))
    if answer.status == 204 or not answer.body.strip():
        return Body(served_at=served_at)
    if not answer.is_json:
        raise BrokenAnswer(f"it is {answer.headers.get('content-type') or 'of no type'} and not JSON")
    try:
        body, is_sound = parse_json(answer.body), True
    except ValueError as error:
        try:
            body, is_sound = _parse_odd_json(answer.body)
        except (ValueError, RecursionError):
            raise BrokenAnswer(f"it is not JSON ({error})") from error
    if not isinstance(body, dict):
        return Body(body, served_at=served_at, is_sound=is_sound)
    if body.get("success") is False:
        return Body(problem=_parse_problem_object(body), served_at=served_at)
    if "data" not in body or not body.keys() <= _WRAPPER:
        return Body(body, served_at=served_at, is_sound=is_sound)
    messages = body.get("messages") if is_sound else None
    told = tuple(m for m in messages if isinstance(m, dict)) if isinstance(messages, list) else ()
    return Body(body["data"], told, served_at=served_at, is_sound=is_sound)


def _parse_odd_json(body: bytes) -> tuple[JSON, bool]:
    """Read what only Python's own json reads, and say whether it can be kept.

    An app's output may hold such things, and is paid for. Halves of characters (a language model that was cut
    off leaves them) become U+FFFD, as they do in most readers. Raises ValueError, RecursionError.
    """

    def parse_int(text: str) -> JSON:
        return int(text) if len(text) <= _MAX_DIGITS else UNSOUND

    value = json.loads(body.decode(errors="replace"), parse_int=parse_int)
    try:
        text = json.dumps(value, ensure_ascii=False)
        return parse_json(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")), True
    except (ValueError, TypeError, RecursionError):
        return value, False


def mark_unsound(task: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return a task without the fields that our own stores can't keep; such an output is UNSOUND."""
    sound = {name: value for name, value in task.items() if _is_sound(value)}
    return sound if "output" in sound or "output" not in task else {**sound, "output": UNSOUND}


def _is_sound(value: JSON) -> bool:
    try:
        parse_json(encode_json(value))
    except (InvalidInput, ValueError):
        return False
    return True


def parse_problem(answer: Answer) -> Problem:
    """Read an answer that is no success, whatever it is: problem+json, V1's error, 412, HTML, nothing."""
    if answer.is_json:
        try:
            body = parse_json(answer.body)
        except ValueError:
            return Problem()
        return _parse_problem_object(body) if isinstance(body, dict) else Problem(message=str(body)[:500])
    is_page = "html" in answer.headers.get("content-type", "").lower()
    text = "" if is_page else " ".join(answer.body[:500].decode(errors="replace").split())
    return Problem(message=text)


def _parse_problem_object(body: Mapping[str, JSON]) -> Problem:
    status = body.get("status") if isinstance(body.get("status"), int) else None
    if isinstance(body.get("errors"), list) and "satisfied" in body:
        items = tuple(parse_missing(item) for item in body["errors"])
        told = "; ".join(f"{item.type} {item.key} ({item.message})" for item in items)
        return Problem("requirements_not_met", f"requirements not met: {told}", missing=items, status=412)
    error = body.get("error")
    if isinstance(error, dict):  # V1
        meta = error.get("meta")
        return Problem(
            code=_text(error.get("code")),
            message=_text(error.get("message")),
            meta=meta if isinstance(meta, dict) else {},
            status=status,
        )
    known = {"type", "title", "status", "detail", "message", "code", "meta", "success", "error", "instance"}
    code = _text(body.get("type")).rstrip("/").rpartition("/")[2] or _text(body.get("code"))
    said = (body.get("detail"), body.get("title"), body.get("message"), error)
    meta = body.get("meta")
    return Problem(
        code="" if code == "about:blank" else code,
        message=next((text for text in said if isinstance(text, str) and text), ""),
        meta=meta if isinstance(meta, dict) else {k: v for k, v in body.items() if k not in known},
        status=status,
    )


def parse_missing(item: JSON) -> Missing:
    """Read one item of a 412."""
    if not isinstance(item, dict):
        return Missing("", "", _text(item))
    action = item.get("action")
    return Missing(
        type=_text(item.get("type")),
        key=_text(item.get("key")),
        message=_text(item.get("message")),
        action=action if isinstance(action, dict) else {},
    )


def encode_missing(item: Missing) -> JSON:
    """Write one item of a 412 as data."""
    return {"type": item.type, "key": item.key, "message": item.message, "action": dict(item.action)}


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def parse_time(value: JSON) -> datetime | None:
    """Read a time of a DTO, with up to nanoseconds; None if it is none. Without an offset it is UTC."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def parse_http_date(value: str | None) -> datetime | None:
    """Read a Date header; None if it can't be read."""
    from email.utils import parsedate_to_datetime

    if value is None:
        return None
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def is_same_json(one: JSON, other: JSON) -> bool:
    """Say whether two values are the same JSON: 1 is 1.0, and neither is true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same_json, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
