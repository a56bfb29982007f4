from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.devnet.inferencesh.envelopes import Problem
from gateway.devnet.inferencesh.listing import list_page

ITEMS = [
    {
        "id": f"t{n}",
        "created_at": f"2026-01-0{n}T00:00:00Z",
        "name": name,
        "tags": ["x", name],
        "at": n,
        "note": note,
    }
    for n, (name, note) in enumerate(
        [("alpha", None), ("Beta", ""), ("gamma", "g%"), ("delta", "d")], start=1
    )
]


def list_ids(**request: Any) -> list[str]:
    return [item["id"] for item in list_page(ITEMS, request)["items"]]


@pytest.mark.parametrize(
    ("field", "operator", "value", "found"),
    [
        ("name", "eq", "alpha", ["t1"]),
        ("name", "neq", "alpha", ["t4", "t3", "t2"]),
        ("name", "in", ["alpha", "gamma"], ["t3", "t1"]),
        ("name", "not_in", ["alpha", "gamma"], ["t4", "t2"]),
        ("at", "gt", 3, ["t4"]),
        ("at", "gte", 3, ["t4", "t3"]),
        ("at", "lt", 2, ["t1"]),
        ("at", "lte", 2, ["t2", "t1"]),
        ("created_at", "gte", "2026-01-03T02:00:00+02:00", ["t4", "t3"]),
        ("name", "like", "b%", []),
        ("name", "ilike", "b%", ["t2"]),
        ("name", "like", "_elta", ["t4"]),
        ("name", "contains", "ALPH", ["t1"]),
        ("tags", "contains", "gamma", ["t3"]),
        ("name", "not_contains", "a", []),
        ("note", "is_null", None, ["t1"]),
        ("note", "is_not_null", None, ["t4", "t3", "t2"]),
        ("note", "is_empty", None, ["t2", "t1"]),
        ("note", "is_not_empty", None, ["t4", "t3"]),
        ("note", "gt", "c", ["t4", "t3"]),
    ],
)
def test_filters(field: str, operator: str, value: Any, found: list[str]) -> None:
    assert list_ids(filters=[{"field": field, "operator": operator, "value": value}]) == found


def test_search_sort_and_fields() -> None:
    assert list_ids(search={"term": "ETA"}) == ["t2"]
    assert list_ids(search={"term": "eta", "exact": True}) == []
    assert list_ids(sort=[{"field": "name", "dir": "asc"}]) == ["t2", "t1", "t4", "t3"]
    page = list_page(ITEMS, {"fields": ["name"], "limit": 1})
    assert page["items"] == [{"id": "t4", "name": "delta"}]


@pytest.mark.parametrize(
    "request_",
    [
        {"filters": [{"field": "nope", "operator": "eq", "value": 1}]},
        {"filters": [{"field": "name", "operator": "is", "value": 1}]},
        {"filters": [{"field": "name", "operator": "in", "value": "alpha"}]},
        {"filters": [{"field": "at", "operator": "gt", "value": "3"}]},
        {"filters": [{"field": "created_at", "operator": "gt", "value": "soon"}]},
        {"sort": [{"field": "nope"}]},
        {"cursor": "bm9uZQ=="},
        {"cursor": "!"},
        {"limit": -1},
        {"limit": "10"},
    ],
)
def test_bad_requests_are_problems(request_: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        list_page(ITEMS, request_)
    assert (caught.value.status, caught.value.code) == (400, "validation_error")


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 7), st.sampled_from(["asc", "desc"]))
def test_pages_forward_hold_each_item_once_and_backward_leads_home(
    values: list[int], limit: int, direction: str
) -> None:
    items: list[dict[str, Any]] = [{"id": f"i{n}", "value": value} for n, value in enumerate(values)]
    request: dict[str, Any] = {"limit": limit, "sort": [{"field": "value", "dir": direction}]}
    page = list_page(items, request)
    assert not page["has_previous"]
    pages = [page]
    while page["has_next"]:
        page = list_page(items, {**request, "cursor": page["next_cursor"]})
        pages.append(page)
    seen = [item["id"] for page in pages for item in page["items"]]
    assert sorted(seen) == sorted(item["id"] for item in items)
    assert [v["value"] for p in pages for v in p["items"]] == sorted(values, reverse=direction == "desc")
    for earlier in reversed(pages[:-1]):
        page = list_page(items, {**request, "cursor": page["prev_cursor"], "direction": "prev"})
        assert page["items"] == earlier["items"]
