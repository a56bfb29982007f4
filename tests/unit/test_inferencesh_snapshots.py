"""What a task of inference.sh says, and what it costs, in the gateway's words."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CostOutcome
from gateway.lifecycle import Status
from gateway.task import FailureKind
from gateway.types import Money
from gateway_inferencesh.quotes import get_file_fields, make_quote
from gateway_inferencesh.snapshots import make_money, make_snapshot, parse_logs


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
