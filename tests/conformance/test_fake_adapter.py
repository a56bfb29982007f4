from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from gateway.adapter import Feature
from gateway.lifecycle import Status
from gateway.task import Handle, Task
from gateway.testing import AdapterConformance, ConformanceCase, FakeAdapter, FakeClock, FakeConfig, Sample
from gateway.testing.backend import DEFAULT_STEPS, FakeBackend, Step
from gateway.types import JSON, Money

ALL = FakeConfig(features=frozenset(Feature))


def steps_of(input: JSON) -> Sequence[Step]:
    if input == "slow":
        return ((0.0, Status.RUNNING), (3600.0, Status.COMPLETED))
    return DEFAULT_STEPS


def shout(input: JSON) -> JSON:
    if input == "fail":
        raise ValueError("it was told to")
    return str(input).upper()


SCRIPT: Mapping[str, Any] = {
    "answer": shout,
    "steps": steps_of,
    "refuses": lambda text: text == "refuse",
}


def make_case(adapter: FakeAdapter) -> ConformanceCase:
    backend = adapter.backend

    def sample(text: str) -> Sample:
        return Sample(task=Task(input=text), target={"app": "shout"})

    def make_adapter() -> FakeAdapter:
        return FakeAdapter("fake", adapter.config, clock=adapter.clock, backend=backend)

    return ConformanceCase(
        good=sample("hello"),
        expected="HELLO",
        failing=sample("fail"),
        slow=sample("slow"),
        refused=sample("refuse"),
        bad_target={"app": 7},
        unknown=Handle("fake", "job-that-never-was"),
        accepted=lambda: len(backend.accepted),
        go_down=lambda: setattr(backend, "is_down", True),
        come_back=lambda: setattr(backend, "is_down", False),
        lose_answer=lambda: backend.arm("lose_answer"),
        make_adapter=make_adapter,
        secrets=("hunter2",),
    )


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter(clock=FakeClock(), **SCRIPT)


@pytest.fixture
def case(adapter: FakeAdapter) -> ConformanceCase:
    return make_case(adapter)


class TestFakeAdapter(AdapterConformance):
    """As it comes."""


class TestWithEverything(AdapterConformance):
    """Streams, quotes, and answers that want accepting."""

    @pytest.fixture
    def adapter(self) -> FakeAdapter:
        clock = FakeClock()
        backend = FakeBackend(clock=clock, **SCRIPT, price=Money.parse("0.01 USD"))
        return FakeAdapter("fake", ALL, clock=clock, backend=backend, pieces=list)


class TestWithAccepting(AdapterConformance):
    """An answer is UPLOADING until it was accepted."""

    @pytest.fixture
    def adapter(self) -> FakeAdapter:
        clock = FakeClock()
        backend = FakeBackend(clock=clock, **SCRIPT, wants_accepting=True)
        return FakeAdapter("fake", FakeConfig(), clock=clock, backend=backend)
