"""What a caller says wrongly is refused in words before anything is stored, sent or waited for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from engine_setup import make_task, open_gateway

from gateway import AsyncGateway, Limits, RunFailed, Status, Task
from gateway.errors import InvalidInput
from gateway.store import make_store
from gateway.testing import FakeAdapter, FakeClock

pytestmark = pytest.mark.anyio

WRONG_LIMITS: tuple[dict[str, Any], ...] = (
    {"max_cost": "0.01 USD"},
    {"value_of_time": 3},
    {"deadline": "5s"},
    {"doubt_wait": "soon"},
    {"on_failed": "go on"},
    {"on_doubt": "duplicate"},
    {"sort": "best"},
    {"only": "node1"},
    {"quorum": 2},
    {"weights": {"a": "heavy"}},
)
WRONG_WORDS: tuple[dict[str, Any], ...] = (
    {"model": 5},
    {"accept": "best"},
    {"stream": "yes"},
    {"labels": {"a": 5}},
    {"limits": None},
    {"limits": {"max_attempts": 1}},
)


@pytest.mark.parametrize("wrong", WRONG_LIMITS, ids=str)
async def test_a_limit_that_cannot_be_meant_is_refused_by_its_name(
    wrong: Mapping[str, Any], tmp_path: Path
) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    store = make_store(f"sqlite:///{tmp_path / 'runs.db'}")
    async with open_gateway(a, clock=clock, store=store) as gateway:
        for call in (gateway.run, gateway.plan, gateway.submit):
            with pytest.raises(InvalidInput, match=f"^{next(iter(wrong))}="):
                await call(make_task(**wrong))
        assert (await gateway.list_runs(), a.accepted) == ([], [])


def test_nor_are_the_limits_of_a_gateway() -> None:
    with pytest.raises(InvalidInput, match=r"^max_cost="):
        AsyncGateway([FakeAdapter("a")], limits=Limits(max_cost="1 USD"))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", WRONG_WORDS, ids=str)
async def test_a_task_that_could_not_be_read_again_is_refused(
    wrong: Mapping[str, Any], tmp_path: Path
) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    store = make_store(f"sqlite:///{tmp_path / 'runs.db'}")
    async with open_gateway(a, clock=clock, store=store) as gateway:
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            await gateway.run(Task(**{"model": "m", "input": {"text": "hello"}, **wrong}))
        assert (await gateway.list_runs(), a.accepted) == ([], [])


@pytest.mark.parametrize("levels", [253, 300])
async def test_what_is_nested_too_deep_is_refused_and_nothing_is_sent(levels: int, tmp_path: Path) -> None:
    deep: Any = "the end"
    for _ in range(levels):
        deep = [deep]
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    store = make_store(f"sqlite:///{tmp_path / 'runs.db'}")
    async with open_gateway(a, clock=clock, store=store) as gateway:
        with pytest.raises((InvalidInput, RunFailed), match="is not JSON"):
            await gateway.run(Task(model="m", input=deep))
        run = await gateway.run(make_task())
        assert [one.id for one in await gateway.list_runs() if one.status is Status.COMPLETED] == [run.id]
        assert len(a.accepted) == 1


async def test_seconds_as_a_plain_number_are_a_duration() -> None:
    clock = FakeClock()
    async with open_gateway(FakeAdapter("a", clock=clock), clock=clock) as gateway:
        run = await gateway.run(make_task(deadline=5))
        assert run.deadline_at == run.created_at + timedelta(seconds=5)


@pytest.mark.parametrize("timeout", ["5", timedelta(seconds=5), float("nan")], ids=repr)
async def test_a_wrong_timeout_is_refused_before_anything_is_submitted(timeout: Any) -> None:
    clock = FakeClock()
    a = FakeAdapter("a", clock=clock)
    async with open_gateway(a, clock=clock) as gateway:
        with pytest.raises(InvalidInput, match=r"timeout=.* is not a number of seconds"):
            await gateway.run(make_task(), timeout=timeout)
        assert (await gateway.list_runs(), a.accepted) == ([], [])


@pytest.mark.parametrize("concurrency", [0, -1, "4"])
async def test_a_map_of_nothing_at_a_time_does_not_wait_for_ever(concurrency: Any) -> None:
    clock = FakeClock()
    async with open_gateway(FakeAdapter("a", clock=clock), clock=clock) as gateway:
        with pytest.raises(InvalidInput, match="concurrency="):
            await gateway.map([make_task()], concurrency=concurrency)


@pytest.mark.parametrize("backend", [5, None, [5], {"a"}], ids=repr)
async def test_a_backend_is_said_in_words(backend: Any) -> None:
    clock = FakeClock()
    async with open_gateway(FakeAdapter("a", clock=clock), clock=clock) as gateway:
        with pytest.raises(InvalidInput, match="backend="):
            await gateway.run(make_task(), backend)


@pytest.mark.parametrize("key", ["", " ", 5])
async def test_an_idempotency_key_is_said_in_words(key: Any) -> None:
    clock = FakeClock()
    async with open_gateway(FakeAdapter("a", clock=clock), clock=clock) as gateway:
        with pytest.raises(InvalidInput, match="an idempotency key has to say something"):
            await gateway.run(make_task(), idempotency_key=key)
