"""A changed configuration takes the place of another, and one that is wrong changes nothing."""

from __future__ import annotations

import asyncio
import threading
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.clock import SystemClock
from gateway.config import Config
from gateway.observe.observer import NOBODY
from gateway.observe.tracing import Traces
from gateway.server.app import App
from gateway.server.keys import create_key, revoke_key
from gateway.server.making import make_service
from gateway.server.problems import Refusal
from gateway.server.reloading import Reloader
from gateway.server.service import Service
from gateway.store.protocol import RunFilter
from gateway.task import Run
from gateway.testing import FakeClock
from gateway.testing.store_promises.samples import make_end, make_run

pytestmark = pytest.mark.anyio

COUNTED = '[server]\nmetrics = "open"\n'
TRACED = f'{COUNTED}[observability]\ntraces = "console"\n'
GATEWAY = '[gateway]\nretention = "30d"\nstore = "{store}"\n'


def read(text: str, store: str = "memory:") -> Config:
    return Config.model_validate(tomllib.loads(GATEWAY.format(store=store) + text))


@asynccontextmanager
async def open_service(text: str = "", store: str = "memory:") -> AsyncIterator[tuple[Service, Any]]:
    """Start what is configured so; gives it, and what reloads it with another text."""
    given, first = [read(text, store)], read(text, store)
    service = make_service(first, SystemClock())
    reloader = Reloader(service, first, lambda: given[0])

    async def reload(changed: Config) -> bool:
        given[0] = changed
        return await reloader.reload()

    await service.start()
    try:
        yield service, reload
    finally:
        await service.aclose()


def find_traces(service: Service) -> list[Traces]:
    observer = service.observing.observer if service.observing is not None else NOBODY
    assert service.gateway._engine._journal.observer is observer
    return [one for one in getattr(observer, "_observers", ()) if isinstance(one, Traces)]


async def test_traces_begin_and_end_with_the_configuration_and_what_was_counted_stays() -> None:
    async with open_service(COUNTED) as (service, reload):
        assert service.observing is not None
        counting = service.observing.counting
        assert find_traces(service) == []
        assert await reload(read(TRACED))
        (first,) = find_traces(service)
        assert await reload(read(TRACED))
        assert find_traces(service) == [first]
        assert await reload(read(f'{TRACED}propagate = ["*"]'))
        assert find_traces(service) not in ([], [first])
        assert await reload(read(COUNTED))
        assert find_traces(service) == []
        assert service.observing.counting is counting is not None


async def test_where_nothing_was_watched_traces_can_begin() -> None:
    async with open_service() as (service, reload):
        assert service.observing is None
        assert await reload(read(TRACED.removeprefix(COUNTED)))
        assert len(find_traces(service)) == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (read("", store="sqlite:///other.db"), "gateway.store can't change"),
        (read('[backends.a]\nadapter = "none-such"'), "none-such"),
    ],
)
async def test_what_can_not_be_taken_changes_nothing(
    changed: Config, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_service(COUNTED) as (service, reload):
        before = service.gateway, service.settings, service.observing
        assert not await reload(changed)
        assert (service.gateway, service.settings, service.observing) == before
    assert told in caplog.text


async def test_what_counts_from_the_next_start_on_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with open_service() as (_, reload):
        assert await reload(read('[server]\nport = 1\nmetrics = "open"\n[observability]\nlogs = "json"'))
    for name in ("server.port", "server.metrics", "observability.logs"):
        assert f"{name} counts from the next start on" in caplog.text


async def test_who_was_asking_when_the_configuration_changed_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with open_service(store=store) as (service, reload):
        asking, going, list_runs = asyncio.Event(), asyncio.Event(), service.gateway.list_runs

        async def list_slowly(which: RunFilter) -> list[Run]:
            asking.set()
            await going.wait()
            return await list_runs(which)

        monkeypatch.setattr(service.gateway, "list_runs", list_slowly)
        transport = httpx2.ASGITransport(App(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            early = asyncio.create_task(client.get("/v1/runs"))
            await asking.wait()
            assert await reload(read(COUNTED, store=store))
            await asyncio.sleep(0)
            assert len(service.retired) == 1
            going.set()
            assert (await early).status_code == 200
        while service.retired:  # noqa: ASYNC110  nobody tells of its end
            await asyncio.sleep(0.01)


async def test_keys_are_learnt_from_the_store_of_now(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with open_service(store=store) as (service, reload):
        key = await create_key(service.store.shelf, "team", now=service.clock.now())
        assert (await service.learning.find_caller(key)).key == "team"
        assert await reload(read(COUNTED, store=store))
        while service.retired:  # noqa: ASYNC110  nobody tells of its end
            await asyncio.sleep(0.01)
        await revoke_key(service.store.shelf, "team", now=service.clock.now())
        await service.learning.learn()
        with pytest.raises(Refusal, match="opens nothing"):
            await service.learning.find_caller(key)


async def test_the_gateways_of_a_server_forget_what_the_configuration_says() -> None:
    async with open_service() as (service, reload):
        assert await reload(read(COUNTED))
        for gateway in (service.gateway, *service.retired):
            assert gateway._engine.cleaner.retention == timedelta(days=30)


async def test_nothing_is_forgotten_any_more_by_a_retention_of_before() -> None:
    clock, first = FakeClock(), read("")
    service = make_service(first, clock)
    await service.start()
    long_ago = clock.now() - timedelta(days=40)
    run = make_run(created_at=long_ago)
    await service.store.create(run, owner="me")
    await service.store.save(replace(make_end(run), ended_at=long_ago), fence=1)
    service.gateway.hosting.callers += 1  # it stays, as it does while it has runs
    for_ever = Config.model_validate(tomllib.loads('[gateway]\nstore = "memory:"\n'))
    assert await Reloader(service, first, lambda: for_ever).reload()
    await clock.sleep(120)  # it is looked for after a minute
    assert len(service.retired) == 1
    assert (await service.gateway.get(run.id)).id == run.id
    await service.aclose()


async def test_the_gateways_of_a_server_have_one_store_open(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"

    before = set(threading.enumerate())  # some of another test's may be at their end

    def count_writers() -> int:
        return sum(thread.name == "gateway-store" for thread in set(threading.enumerate()) - before)

    async with open_service(store=store) as (service, reload):
        for _ in range(3):
            service.gateway.hosting.callers += 1  # it stays, as it does while it has runs
            assert await reload(read(COUNTED, store=store))
        assert len(service.retired) == 3
        assert count_writers() == 1
        for old in service.retired:
            old.hosting.callers -= 1
        while service.retired:  # noqa: ASYNC110  nobody tells of its end
            await asyncio.sleep(0.01)
        assert await service.gateway.list_runs(RunFilter()) == []
    assert count_writers() == 0
