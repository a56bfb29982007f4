"""Where runs go, and where they go when that fails."""

from __future__ import annotations

from datetime import timedelta

import pytest
from engine_setup import make_task, open_gateway, run_to_end

from gateway import CostOutcome, FailureKind, NoBackend, Status, Task
from gateway.errors import InvalidInput, UnknownBackend, UnknownModel
from gateway.lifecycle import AttemptStatus
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import Money

pytestmark = pytest.mark.anyio


def tell(run: object) -> list[tuple[str, str]]:
    return [(attempt.backend, attempt.status.value) for attempt in run.attempts]  # type: ignore[attr-defined]


async def test_a_run_passes_the_job_statuses_and_returns_the_answer() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, answer=lambda value: {"said": value["text"]})
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert run.output == {"said": "hello"}
    assert run.status is Status.COMPLETED
    assert next(status for status, _ in run.passed) is Status.RECEIVED
    assert [status for status, _ in run.passed][-2:] == [Status.RUNNING, Status.COMPLETED]
    assert run.cost_outcome is CostOutcome.NOT_CHARGED


async def test_a_refused_connection_fails_over_at_once() -> None:
    clock = FakeClock()
    a, b = FakeAdapter("a", clock=clock), FakeAdapter("b", clock=clock)
    a.arm("refuse")
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert tell(run) == [("a", "refused"), ("b", "succeeded")]
    assert (a.accepted, len(b.accepted)) == ([], 1)
    assert run.attempts[0].cost.outcome is CostOutcome.NOT_CHARGED


async def test_a_rejection_goes_elsewhere_but_never_back() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    a.arm("reject", 10)
    async with open_gateway(a, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task())
    assert tell(run) == [("a", "refused")]
    assert run.failure is not None
    assert (run.failure.kind, run.failure.code, run.failure.backend) == (FailureKind.REJECTED, "no", "a")


async def test_throttling_waits_as_long_as_the_backend_asked() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, retry_after_seconds=60.0)
    a.arm("throttle", 2)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert tell(run) == [("a", "refused"), ("a", "refused"), ("a", "succeeded")]
    assert run.updated_at - run.created_at >= timedelta(seconds=120)


async def test_max_attempts_counts_all_of_them() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    a.arm("refuse", 100)
    async with open_gateway(a, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(max_attempts=3))
    assert tell(run) == [("a", "refused")] * 3
    assert a.calls["submit"] == 3
    assert run.failure is not None
    assert "all 3 attempts" in run.failure.message


async def test_preparing_that_fails_costs_nothing_and_goes_elsewhere() -> None:
    clock = FakeClock()
    a, b = FakeAdapter("a", clock=clock), FakeAdapter("b", clock=clock)
    a.arm("refuse_prepare")
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await gateway.run(make_task())
    assert tell(run) == [("a", "refused"), ("b", "succeeded")]
    assert (a.calls["submit"], run.attempts[0].envelope) == (0, None)


@pytest.mark.parametrize(("on_failed", "statuses"), [("stop", ["failed"]), ("next", ["failed", "succeeded"])])
async def test_a_failed_job_moves_on_only_if_the_task_says_so(on_failed: str, statuses: list[str]) -> None:
    clock = FakeClock()
    a, b = FakeAdapter("a", clock=clock), FakeAdapter("b", clock=clock)
    a.arm("fail_job")
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task(on_failed=on_failed))
    assert [status for _, status in tell(run)] == statuses
    assert len(a.accepted) == 1


@pytest.mark.parametrize("end", ["failed", "lost"])
async def test_a_job_that_is_being_cancelled_at_its_backend_and_fails_ends_the_run(end: str) -> None:
    clock = FakeClock()
    steps = [(0.0, Status.RUNNING), (1.0, Status.CANCELLING), (1.0, Status.COMPLETED)]
    a, b = FakeAdapter("a", clock=clock, steps=steps), FakeAdapter("b", clock=clock)
    if end == "failed":
        a.arm("fail_job")
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await gateway.submit(make_task(on_failed="next"))
        await clock.sleep(1.5)
        if end == "lost":
            a.backend.forget_all()
        await clock.sleep(60)
        run = await gateway.get(run.id)
    assert run.status is Status.FAILED
    assert tell(run) == [("a", end)]
    assert b.accepted == []


async def test_a_lost_job_is_a_failure_of_its_own_kind() -> None:
    clock = FakeClock()
    a, b = FakeAdapter("a", clock=clock), FakeAdapter("b", clock=clock)
    a.arm("lose_job")
    async with open_gateway(a, b, clock=clock) as gateway:
        run = await run_to_end(gateway, make_task())
        assert run.failure is not None
        assert run.failure.kind is FailureKind.LOST
        assert tell(run) == [("a", "lost")]


async def test_nothing_is_stored_or_sent_for_a_task_that_nobody_can_run() -> None:
    clock = FakeClock()
    a, b = FakeAdapter("a", clock=clock), FakeAdapter("b", clock=clock, price=Money.parse("1 USD"))
    a.backend.is_down = True
    async with open_gateway(a, b, clock=clock) as gateway:
        with pytest.raises(NoBackend) as caught:
            await gateway.run(make_task(max_cost=Money.parse("0.5 USD")))
        assert [(name, rule) for name, rule, _ in caught.value.removed] == [
            ("a", "unhealthy"),
            ("b", "max_cost"),
        ]
        assert "it may cost 1 USD, more than 0.5 USD" in str(caught.value)
        assert await gateway.list_runs() == []
    assert a.calls["submit"] + b.calls["submit"] == 0


async def test_unknown_names_are_errors_that_name_the_nearest() -> None:
    clock = FakeClock()
    async with open_gateway(FakeAdapter("node1", clock=clock), clock=clock) as gateway:
        with pytest.raises(UnknownModel, match="did you mean 'm'"):
            await gateway.run(Task(model="mm"))
        with pytest.raises(UnknownBackend, match="did you mean 'node1'"):
            await gateway.run(make_task(), "node2")
        with pytest.raises(InvalidInput, match="named backend"):
            await gateway.run(Task(target={"app": "echo"}))
        with pytest.raises(InvalidInput, match="cheapst"):
            await gateway.run(make_task(), "auto:cheapst")


async def test_a_task_may_carry_its_own_target() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    async with open_gateway(a, clock=clock) as gateway:
        run = await gateway.run(Task(target={"app": "other"}, input=1), "a")
        assert run.attempts[0].envelope is not None
        assert run.attempts[0].envelope.payload["app"] == "other"
        with pytest.raises(InvalidInput, match="app"):
            await gateway.run(Task(target={"ap": "other"}, input=1), "a")
    assert len(a.accepted) == 1


async def test_a_list_of_backends_is_tried_in_its_order() -> None:
    clock = FakeClock()
    names = ("a", "b", "c")
    adapters = [FakeAdapter(name, clock=clock) for name in names]
    adapters[2].arm("refuse")
    async with open_gateway(*adapters, clock=clock) as gateway:
        run = await gateway.run(make_task(), ["c", "b"])
    assert tell(run) == [("c", "refused"), ("b", "succeeded")]


async def test_auto_cheapest_takes_the_cheapest_by_quote() -> None:
    clock = FakeClock()
    dear = FakeAdapter("dear", clock=clock, price=Money.parse("2 USD"))
    cheap = FakeAdapter("cheap", clock=clock, price=Money.parse("1 USD"))
    async with open_gateway(dear, cheap, clock=clock) as gateway:
        run = await gateway.run(make_task(), "auto:cheapest")
        quotes = await gateway.quote(make_task())
    attempt = run.attempts[0]
    assert (attempt.backend, attempt.cost.quoted, attempt.cost.settled) == (
        "cheap",
        Money.parse("1 USD"),
        Money.parse("1 USD"),
    )
    assert run.cost_outcome is CostOutcome.CHARGED
    assert {name: str(quote.expected) for name, quote in quotes.items()} == {
        "dear": "2 USD",
        "cheap": "1 USD",
    }


async def test_auto_fastest_learns_from_earlier_runs() -> None:
    clock = FakeClock()
    slow = FakeAdapter("slow", clock=clock, steps=[(60.0, Status.COMPLETED)])
    quick = FakeAdapter("quick", clock=clock, steps=[(1.0, Status.COMPLETED)])
    async with open_gateway(slow, quick, clock=clock) as gateway:
        for name in ("slow", "quick"):
            await gateway.run(make_task(), name)
        run = await gateway.run(make_task(), "auto:fastest")
    assert run.attempts[0].backend == "quick"


async def test_the_plan_shows_every_candidate_with_its_reason() -> None:
    clock = FakeClock()
    a, b, c = (FakeAdapter(name, clock=clock) for name in "abc")
    b.backend.is_down = True
    async with open_gateway(a, b, c, clock=clock) as gateway:
        plan = await gateway.plan(make_task(ignore=("c",)))
    assert [(x.backend, x.rank, x.removed_by) for x in plan.candidates] == [
        ("a", 1, None),
        ("b", 0, "unhealthy"),
        ("c", 0, "ignore"),
    ]
    assert a.calls["prepare"] + a.calls["submit"] == 0


async def test_input_and_output_are_reshaped_per_target() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, answer=lambda value: {"result": {"text": value["text"].upper()}})
    async with open_gateway(a, clock=clock) as gateway:
        pass
    targets = {"a": {"app": "x", "input": {"text": "$.prompt"}, "output": "$.result.text"}}
    a = FakeAdapter("a", clock=clock, answer=lambda value: {"result": {"text": value["text"].upper()}})
    async with open_gateway(a, clock=clock, targets=targets) as gateway:
        run = await gateway.run(Task(model="m", input={"prompt": "hi"}))
        assert run.output == "HI"
        with pytest.raises(NoBackend, match=r"nothing at \$\.prompt"):
            await gateway.run(Task(model="m", input={"text": "hi"}))


async def test_an_answer_that_does_not_fit_the_mapping_is_kept() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, answer=lambda _: {"other": 1})
    targets = {"a": {"app": "x", "output": "$.result.text"}}
    async with open_gateway(a, clock=clock, targets=targets) as gateway:
        run = await run_to_end(gateway, make_task())
    assert run.failure is not None
    assert run.failure.kind is FailureKind.OUTPUT_ERROR
    assert run.failure.detail == {"output": {"other": 1}}
    assert run.attempts[0].status is AttemptStatus.SUCCEEDED


async def test_map_keeps_the_order_and_the_failures() -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock, refuses=lambda value: value["text"] == "3")
    async with open_gateway(a, clock=clock) as gateway:
        runs = await gateway.map([make_task(str(n)) for n in range(10)], concurrency=4)
    assert [run.task.input["text"] for run in runs] == [str(n) for n in range(10)]
    assert [run.status is Status.COMPLETED for run in runs] == [n != 3 for n in range(10)]
