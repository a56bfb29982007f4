"""Statuses, envelopes, problems, times and money of inference.sh, without a network."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CostOutcome, InDoubt, Misbehaved, Rejected, Throttled, Unavailable
from gateway.http import Answer
from gateway.lifecycle import Status
from gateway.task import FailureKind
from gateway.types import Money
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
from gateway_inferencesh.quotes import get_file_fields, make_quote
from gateway_inferencesh.snapshots import make_money, make_snapshot, parse_logs
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
    def test_by_status(self, status: int, *, lands: bool, kind: type) -> None:
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
    def test_by_code_in_every_generation(self, status: int, code: str, kind: type) -> None:
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
        items = [
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


class TestSnapshot:
    def make(self, **task: Any) -> Any:
        return make_snapshot({"id": "t1", **task}, backend="hosted", microcents_per_usd=100_000_000)

    @pytest.mark.parametrize("status", list(Status))
    def test_every_status(self, status: Status) -> None:
        snapshot = self.make(status=status.value, output={"a": 1}, error="why")
        assert snapshot.status is status
        assert (snapshot.failure is None) == (not status.is_final or status is Status.COMPLETED)
        assert (snapshot.cost is None) == (not status.is_final)

    def test_no_status_is_no_snapshot(self) -> None:
        assert self.make(status=0) is None
        assert self.make() is None

    def test_output_meta_is_taken_out_and_kept(self) -> None:
        snapshot = self.make(status=10, output={"text": "hi", "output_meta": {"tokens": 3}})
        assert snapshot.output == {"text": "hi"}
        assert snapshot.detail["output_meta"] == {"tokens": 3}

    def test_no_token_is_kept(self) -> None:
        snapshot = self.make(status=7, socket={"token": "s3cret"}, session_id="sess")
        assert "s3cret" not in snapshot.model_dump_json().decode()
        assert snapshot.detail == {"session_id": "sess"}

    @pytest.mark.parametrize(
        ("status", "error", "kind"),
        [
            (11, "boom", FailureKind.JOB),
            (11, None, FailureKind.JOB),
            (11, "task expired while waiting for available capacity, please retry", FailureKind.EXPIRED),
            (11, "no active workers with matching resources", FailureKind.EXPIRED),
            (12, "", FailureKind.CANCELLED),
            (13, "no payment method", FailureKind.REJECTED),
        ],
    )
    def test_failures(self, status: int, error: str | None, kind: FailureKind) -> None:
        failure = self.make(status=status, error=error).failure
        assert failure.kind is kind
        assert failure.job_id == "t1"
        assert failure.message == (error or failure.message)
        assert failure.message

    def test_cost_is_honest(self) -> None:
        usage = [{"resource_id": "gpu", "quantity": 3, "unit": "seconds"}]
        charged = self.make(status=10, usage_events=usage).cost
        assert (charged.outcome, charged.settled) == (CostOutcome.CHARGED, None)
        assert charged.evidence == {"usage_events": usage}
        assert self.make(status=10).cost.outcome is CostOutcome.UNKNOWN
        assert self.make(status=11, usage_events=usage).cost.outcome is CostOutcome.CHARGED
        assert self.make(status=13).cost.outcome is CostOutcome.NOT_CHARGED

    def test_cost_in_money_only_if_all_of_it_is_told(self) -> None:
        told = {"microcents": 100_000}
        assert self.make(status=10, usage_events=[told, told]).cost.settled == Money.parse("0.002 USD")
        assert self.make(status=10, usage_events=[told, {"quantity": 1}]).cost.settled is None

    def test_logs_are_text(self) -> None:
        line = base64.b64encode("größer\n".encode()).decode()
        logs = [{"log_type": 4, "content": line}, {"log_type": 9, "content": "not base64!"}, "?"]
        assert parse_logs(logs) == [
            {"log_type": "task", "content": "größer\n"},
            {"log_type": "9", "content": "not base64!"},
        ]


class TestQuote:
    def make(self, estimate: Any, unseen: frozenset[str] = frozenset(), factor: int = 10**8) -> Any:
        at = datetime(2030, 1, 1, tzinfo=UTC)
        return make_quote(estimate, microcents_per_usd=factor, quoted_at=at, unseen=unseen)

    def test_exact(self) -> None:
        quote = self.make({"confidence": "exact", "microcents": 200_000, "depends_on": []})
        assert quote.expected == quote.upper == Money.parse("0.002 USD")
        assert quote.confidence == "exact"

    def test_range(self) -> None:
        quote = self.make({"confidence": "range", "min": 10, "max": 30})
        assert (quote.expected, quote.upper) == (Money(20, "USD"), Money(30, "USD"))

    @pytest.mark.parametrize(
        "estimate",
        [
            {},
            {"confidence": "unknown", "estimate_error": "e"},
            {"confidence": "exact"},
            {"confidence": "exact", "microcents": True},
            {"confidence": "exact", "microcents": -5},
            {"confidence": "range", "min": 3},
            {"confidence": "sure", "microcents": 3},
        ],
    )
    def test_unknown_is_none_and_never_zero(self, estimate: Any) -> None:
        quote = self.make(estimate)
        assert (quote.expected, quote.upper, quote.confidence) == (None, None, "unknown")

    def test_a_price_that_depends_on_a_file_is_unknown(self) -> None:
        estimate = {"confidence": "exact", "microcents": 5, "depends_on": ["input.image.width"]}
        assert self.make(estimate, frozenset({"image"})).confidence == "unknown"
        assert self.make(estimate, frozenset({"mask"})).confidence == "exact"

    def test_file_fields(self) -> None:
        assert get_file_fields({"a": [{"$file": {"data": "QQ=="}}], "b": "/etc/hostname"}) == {"a"}
        assert get_file_fields("text") == frozenset()

    @given(st.integers(0, 10**15), st.sampled_from([10**8, 10**6, 10**2]))
    def test_money_is_never_rounded_down(self, microcents: int, factor: int) -> None:
        money = make_money(microcents, factor)
        assert money.amount * factor >= microcents * 10**8 > (money.amount - 1) * factor


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
