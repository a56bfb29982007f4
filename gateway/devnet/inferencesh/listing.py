"""The cursor list that every `POST .../list` speaks: filters, search, sort, pages. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from gateway.devnet.inferencesh.clock import parse_time
from gateway.devnet.inferencesh.envelopes import Problem
from gateway.types import JSON

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


def _is_like(have: JSON, want: JSON, flags: int = 0) -> bool:
    pattern = "".join(".*" if c == "%" else "." if c == "_" else re.escape(c) for c in str(want))
    return have is not None and re.fullmatch(pattern, str(have), flags | re.DOTALL) is not None


def _compare(have: JSON, want: JSON, holds: Callable[[JSON, JSON], bool]) -> bool:
    if have is None or want is None:
        return False
    try:
        return holds(have, want)
    except TypeError as error:
        raise Problem(400, "validation_error", f"cannot compare {have!r} with {want!r}") from error


def _contains(have: JSON, want: JSON) -> bool:
    return want in have if isinstance(have, list) else str(want).lower() in str(have or "").lower()


_OPERATORS: Mapping[str, Callable[[JSON, JSON], bool]] = {
    "eq": lambda have, want: bool(have == want),
    "neq": lambda have, want: bool(have != want),
    "in": lambda have, want: have in want,
    "not_in": lambda have, want: have not in want,
    "gt": lambda have, want: _compare(have, want, lambda a, b: bool(a > b)),
    "gte": lambda have, want: _compare(have, want, lambda a, b: bool(a >= b)),
    "lt": lambda have, want: _compare(have, want, lambda a, b: bool(a < b)),
    "lte": lambda have, want: _compare(have, want, lambda a, b: bool(a <= b)),
    "like": _is_like,
    "ilike": lambda have, want: _is_like(have, want, re.IGNORECASE),
    "contains": _contains,
    "not_contains": lambda have, want: not _contains(have, want),
    "is_null": lambda have, _: have is None,
    "is_not_null": lambda have, _: have is not None,
    "is_empty": lambda have, _: not have,
    "is_not_empty": lambda have, _: bool(have),
}


def list_page(
    items: Sequence[Mapping[str, JSON]],
    request: Mapping[str, JSON],
    *,
    fields: frozenset[str] | None = None,
    read_value: Callable[[str, JSON], JSON] | None = None,
) -> JSON:
    """Answer one cursor list request over DTOs that each have an `id`.

    Newest first (`created_at`) unless the request sorts. A cursor names the item at the page's edge, so pages
    stay right while items are added. `fields` are those that may be filtered and sorted by (default: the keys
    of the first item). `read_value` turns a filter's value into what the DTO holds, for
    instance a status name into its number. Raises Problem 400 for unknown fields, operators or cursors.
    """
    known = fields or (frozenset(items[0]) if items else None)
    rows = [item for item in items if _passes(item, request, known, read_value)]
    rows = _sort(rows, request.get("sort") or [{"field": "created_at", "dir": "desc"}], known)
    limit = _read_limit(request.get("limit"))
    start, stop = _find_page(rows, request, limit)
    page = rows[start:stop]
    has_previous, has_next = start > 0, stop < len(rows)
    return {
        "items": [_project(item, request.get("fields")) for item in page],
        "next_cursor": _encode_cursor(page[-1]["id"]) if has_next else "",
        "prev_cursor": _encode_cursor(page[0]["id"]) if has_previous and page else "",
        "has_next": has_next,
        "has_previous": has_previous,
        "items_per_page": limit,
    }


def _passes(
    item: Mapping[str, JSON],
    request: Mapping[str, JSON],
    known: frozenset[str] | None,
    read_value: Callable[[str, JSON], JSON] | None,
) -> bool:
    for rule in request.get("filters") or []:
        name, operator, want = rule.get("field"), rule.get("operator", "eq"), rule.get("value")
        _check_field(name, known)
        if operator not in _OPERATORS:
            raise Problem(400, "validation_error", f'unknown operator "{operator}"')
        if operator in ("in", "not_in") and not isinstance(want, list):
            raise Problem(400, "validation_error", f"{operator} takes a list")
        read = read_value or (lambda _name, value: value)
        want = [read(name, each) for each in want] if isinstance(want, list) else read(name, want)
        if not _OPERATORS[operator](_read_time(name, item.get(name)), _read_time(name, want)):
            return False
    search = request.get("search") or {}
    term = str(search.get("term") or "").lower()
    values = [str(value).lower() for value in item.values() if isinstance(value, str)]
    return not term or any(term == value if search.get("exact") else term in value for value in values)


def _sort(
    rows: list[Mapping[str, JSON]], orders: Sequence[Mapping[str, JSON]], known: frozenset[str] | None
) -> list[Mapping[str, JSON]]:
    if _is_descending(orders[0]):
        rows.reverse()  # so that the newest of equals comes first
    for order in reversed(orders):
        name = cast("str", order.get("field"))
        _check_field(name, known)
        descending = _is_descending(order)
        rows.sort(
            key=lambda row: (row.get(name) is not None, _make_sortable(row.get(name))), reverse=descending
        )
    return rows


def _is_descending(order: Mapping[str, JSON]) -> bool:
    return str(order.get("dir", "asc")).lower() == "desc"


def _make_sortable(value: JSON) -> JSON:
    return value if isinstance(value, int | float | str) else str(value)


def _check_field(name: JSON, known: frozenset[str] | None) -> None:
    if not isinstance(name, str) or (known is not None and name not in known):
        raise Problem(400, "validation_error", f'unknown field "{name}"')


def _read_time(name: str, value: JSON) -> JSON:
    if not name.endswith("_at") or not isinstance(value, str):
        return value
    try:
        return parse_time(value)
    except ValueError as error:
        raise Problem(400, "validation_error", f'"{value}" is not a time') from error


def _read_limit(value: JSON) -> int:
    if value in (None, 0):
        return DEFAULT_LIMIT
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Problem(400, "validation_error", "limit has to be a positive number")
    return min(value, MAX_LIMIT)


def _find_page(
    rows: Sequence[Mapping[str, JSON]], request: Mapping[str, JSON], limit: int
) -> tuple[int, int]:
    cursor = request.get("cursor")
    if not cursor:
        return 0, limit
    try:
        edge = base64.urlsafe_b64decode(str(cursor)).decode()
    except ValueError as error:
        raise Problem(400, "validation_error", "the cursor is none of ours") from error
    position = next((i for i, row in enumerate(rows) if row["id"] == edge), None)
    if position is None:
        raise Problem(400, "validation_error", "the cursor is none of ours")
    if str(request.get("direction") or "next").lower() in ("prev", "previous", "backward"):
        return max(0, position - limit), position
    return position + 1, position + 1 + limit


def _encode_cursor(item_id: str) -> str:
    return base64.urlsafe_b64encode(item_id.encode()).decode()


def _project(item: Mapping[str, JSON], fields: JSON) -> JSON:
    return {k: v for k, v in item.items() if k == "id" or k in fields} if fields else dict(item)
