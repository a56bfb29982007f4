"""Statuses, envelopes, problems, times and money of inference.sh, without a network."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BackendError, InDoubt, Misbehaved, Rejected, Throttled, Unavailable
from gateway.http import Answer
from gateway.lifecycle import Status
from gateway_inferencesh.errors import (
    InsufficientScope,
    KeyRefused,
    PaymentRequired,
    RequirementsNotMet,
    SessionEnded,
    SessionExpired,
    SessionMismatch,
    SessionNotFound,
    WorkerLeased,
    make_error,
)
from gateway_inferencesh.wire import (
    STATUS_NAMES,
    STATUSES,
    Body,
    BrokenAnswer,
    Missing,
    is_same_json,
    parse_body,
    parse_status,
    parse_time,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def make_answer(body: Any, status: int = 200, kind: str = "application/json", **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"content-type": kind, **named}, data)


def make_problem(status: int, code: str, detail: str = "so it is", **more: Any) -> Answer:
    body = {
        "type": f"https://api.inference.sh/errors/{code}",
        "title": "T",
        "status": status,
        "detail": detail,
    }
    return make_answer({**body, **more}, status, "application/problem+json")


def to_error(answer: Answer, *, lands: bool = True) -> Any:
    return make_error(answer, "run", backend="hosted", lands=lands, job_id="t1")


class TestStatus:
    def test_the_table_is_total(self) -> None:
        assert {s for s in STATUSES.values() if s} == set(Status)
        assert {s for s in STATUS_NAMES.values() if s} == set(Status)
        for status in Status:
            assert STATUSES[status.value] is status
            assert STATUS_NAMES[status.name.lower()] is status
            assert parse_status(status.value) is status
            assert parse_status(str(status.value)) is status
            assert parse_status(status.name.lower()) is status
            assert parse_status(status.name) is status

    def test_the_old_name_of_dispatched(self) -> None:
        assert parse_status("scheduled") is Status.DISPATCHED

    @pytest.mark.parametrize("value", [0, "unknown", 14, -1, 99, "dreaming", "", None, True, 10.0, [10], {}])
    def test_what_says_nothing_is_no_status(self, value: Any) -> None:
        assert parse_status(value) is None


class TestEnvelopes:
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda dto: {"success": True, "status": 200, "data": dto},
            lambda dto: dto,
            lambda dto: {"data": dto, "messages": []},
            lambda dto: {"data": dto, "messages": None},
            lambda dto: {"success": True, "status": 200, "data": dto, "messages": []},
        ],
        ids=["v1", "v2", "v3", "v3-null", "both"],
    )
    @pytest.mark.parametrize("dto", [{"id": "t1", "status": 7}, [{"id": "a"}], [], {}])
    def test_every_generation_gives_the_same(self, wrap: Any, dto: Any) -> None:
        assert parse_body(make_answer(wrap(dto))).data == dto

    def test_a_bare_object_with_a_field_called_data_stays_whole(self) -> None:
        dto = {"id": "t1", "data": {"x": 1}}
        assert parse_body(make_answer(dto)).data == dto

    def test_messages_are_kept(self) -> None:
        told = {"level": "warning", "code": "old", "message": "m"}
        assert parse_body(make_answer({"data": {}, "messages": [told]})).messages == (told,)

    def test_no_content(self) -> None:
        assert parse_body(Answer(204, {}, b"")) == Body()

    @pytest.mark.parametrize(
        "answer",
        [
            make_answer(b"<html>", kind="text/html"),
            make_answer(b'{"id": "t1"', kind="application/json"),
            Answer(200, {}, b'{"id": "t1"}'),
        ],
    )
    def test_what_is_not_json_is_broken(self, answer: Answer) -> None:
        with pytest.raises(BrokenAnswer):
            parse_body(answer)

    def test_a_failure_with_http_status_200(self) -> None:
        body = {"success": False, "status": 402, "error": {"code": "payment_required", "message": "no money"}}
        problem = parse_body(make_answer(body)).problem
        assert problem is not None
        assert (problem.code, problem.message, problem.status) == ("payment_required", "no money", 402)
        error = make_error(make_answer(body), "run", backend="b", lands=True, problem=problem)
        assert isinstance(error, PaymentRequired)

    def test_a_failure_that_does_not_say_which_leaves_a_doubt(self) -> None:
        answer = make_answer({"success": False})
        problem = parse_body(answer).problem
        assert type(make_error(answer, "run", backend="b", lands=True, problem=problem)) is InDoubt
        assert type(make_error(answer, "get", backend="b", lands=False, problem=problem)) is Misbehaved


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "lands", "kind"),
        [
            (400, True, Rejected),
            (401, True, KeyRefused),
            (402, True, PaymentRequired),
            (403, True, Rejected),
            (404, True, Rejected),
            (409, True, Rejected),
            (410, True, Rejected),
            (302, True, Rejected),
            (408, True, InDoubt),
            (429, True, Throttled),
            (500, True, InDoubt),
            (502, True, InDoubt),
            (504, True, InDoubt),
            (503, True, Unavailable),
            (500, False, Unavailable),
            (408, False, Unavailable),
            (503, False, Unavailable),
        ],
    )
    def test_by_status(self, status: int, *, lands: bool, kind: type[BackendError]) -> None:
        error = to_error(make_problem(status, "some_code"), lands=lands)
        assert type(error) is kind
        assert (error.code, error.http_status, error.job_id) == ("some_code", status, "t1")
        assert "so it is" in str(error)
        assert "some_code" in str(error)

    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (404, "SESSION_NOT_FOUND", SessionNotFound),
            (410, "SESSION_EXPIRED", SessionExpired),
            (410, "SESSION_ENDED", SessionEnded),
            (409, "WORKER_LEASED", WorkerLeased),
            (409, "APP_MISMATCH", SessionMismatch),
            (409, "VERSION_MISMATCH", SessionMismatch),
            (403, "insufficient_scope", InsufficientScope),
        ],
    )
    def test_by_code_in_every_generation(self, status: int, code: str, kind: type[BackendError]) -> None:
        v1 = make_answer(
            {"success": False, "status": status, "error": {"code": code, "message": "m"}}, status
        )
        for answer in (make_problem(status, code), v1):
            error = to_error(answer)
            assert type(error) is kind
            assert error.code == code

    def test_scope(self) -> None:
        error = to_error(make_problem(403, "insufficient_scope", meta={"required_scope": "apps:execute"}))
        assert error.required_scope == "apps:execute"

    def test_extension_members_of_a_problem_are_kept(self) -> None:
        error = to_error(make_problem(402, "limit_exceeded", resource="gpu", limit=2, current=2))
        assert error.detail == {"resource": "gpu", "limit": 2, "current": 2}

    def test_requirements_name_each_missing_item(self) -> None:
        items: list[Any] = [
            {
                "type": "secret",
                "key": "OPENAI_KEY",
                "message": "needs a key",
                "action": {"type": "add_secret", "secrets": ["OPENAI_KEY"]},
            },
            {"type": "credential", "key": "google.drive", "message": "needs Drive"},
            {"type": "scope", "key": "gmail.read", "message": "needs mail"},
        ]
        error = to_error(make_answer({"satisfied": False, "errors": items}, 412))
        assert isinstance(error, RequirementsNotMet)
        assert error.code == "requirements_not_met"
        assert error.missing[0] == Missing("secret", "OPENAI_KEY", "needs a key", items[0]["action"])
        assert [item.key for item in error.missing] == ["OPENAI_KEY", "google.drive", "gmail.read"]
        assert all(item["key"] in str(error) and item["message"] in str(error) for item in items)
        assert json.loads(json.dumps(error.detail))[1]["key"] == "google.drive"

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(502, {"content-type": "text/html"}, b"<html>Bad gateway</html>"),
            Answer(502, {}, b""),
            Answer(502, {"content-type": "application/json"}, b"{"),
            Answer(502, {"content-type": "application/json"}, b"[1]"),
            Answer(502, {"content-type": "application/json"}, b'{"errors": 3, "satisfied": 1, "error": 7}'),
        ],
    )
    def test_any_body_gives_an_error(self, answer: Answer) -> None:
        error = to_error(answer)
        assert type(error) is InDoubt
        assert "<" not in str(error)

    @given(json_values, st.integers(300, 599))
    def test_any_json_gives_an_error(self, body: Any, status: int) -> None:
        error = to_error(make_answer(json.dumps(body).encode(), status))
        assert error.http_status == status
        assert error.message

    @given(json_values)
    def test_any_json_of_success_is_read(self, body: Any) -> None:
        parse_body(make_answer(body))

    def test_retry_after_in_seconds(self) -> None:
        answer = make_answer({}, 503, retry_after="7")
        assert to_error(answer).retry_after == timedelta(seconds=7)

    def test_retry_after_as_a_date_by_the_servers_clock(self) -> None:
        answer = make_answer(
            {}, 503, retry_after="Wed, 21 Oct 2015 07:28:30 GMT", date="Wed, 21 Oct 2015 07:28:00 GMT"
        )
        assert to_error(answer).retry_after == timedelta(seconds=30)

    def test_rate_limit_reset_stands_in(self) -> None:
        answer = make_answer({}, 429, x_ratelimit_reset="1445412490", date="Wed, 21 Oct 2015 07:28:00 GMT")
        assert to_error(answer).retry_after == timedelta(seconds=10)

    @pytest.mark.parametrize("text", ["", "soon", "nan", "1e400"])
    def test_an_unreadable_wait_is_none(self, text: str) -> None:
        wait = to_error(make_answer({}, 429, x_ratelimit_reset=text)).retry_after
        assert wait is None


class TestSameJson:
    @given(json_values)
    def test_a_round_trip_changes_nothing(self, value: Any) -> None:
        assert is_same_json(value, json.loads(json.dumps(value)))

    @pytest.mark.parametrize(
        ("one", "other"),
        [(1, True), (0, False), (None, False), ({}, []), ({"a": 1}, {"a": 2}), ([1], [1, 2]), ("1", 1)],
    )
    def test_what_differs(self, one: Any, other: Any) -> None:
        assert not is_same_json(one, other)
        assert not is_same_json([{"x": one}], [{"x": other}])

    def test_one_is_one(self) -> None:
        assert is_same_json({"a": [1]}, {"a": [1.0]})


def test_times_up_to_nanoseconds() -> None:
    assert parse_time("2026-01-02T03:04:05.123456789Z") == datetime(2026, 1, 2, 3, 4, 5, 123456, UTC)
    assert parse_time("2026-01-02T03:04:05") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert parse_time("yesterday") is None
    assert parse_time(None) is None
