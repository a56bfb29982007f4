"""Many tasks at backends with small rate limits: all get through, and few are refused on the way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx2
import pytest

from gateway import AsyncGateway, Limits, Status, Task
from gateway.adapter import Adapter
from gateway.devnet.inferencesh import InferenceshApi, account
from gateway.devnet.infernet import InfernetNode
from gateway_inferencesh import InferenceshAdapter, InferenceshConfig
from gateway_infernet import InfernetAdapter, InfernetConfig

pytestmark = pytest.mark.anyio

KEY = "inf_secret_of_the_test"
TASKS = 200
SUBMISSIONS = {"/apps/run", "/api/jobs", "/api/jobs/batch"}


def make_client(seen: Counter[int]) -> httpx2.AsyncClient:
    async def count(answer: httpx2.Response) -> None:
        if answer.request.method == "POST" and answer.request.url.path in SUBMISSIONS:
            seen[answer.status_code] += 1

    return httpx2.AsyncClient(event_hooks={"response": [count]})


async def run_all(adapter: Adapter[Any], target: dict[str, Any]) -> list[Status]:
    models = {"m": {"targets": {adapter.name: target}}}
    async with AsyncGateway([adapter], models, store="memory:") as gateway:
        tasks = [Task(model="m", input={"n": n}, limits=Limits(max_attempts=10)) for n in range(TASKS)]
        return [run.status for run in await gateway.map(tasks, concurrency=TASKS)]


async def test_an_account_with_runs_per_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "WINDOW_SECONDS", 2)
    api, seen = InferenceshApi("hosted", api_key=KEY, rate_limit=50), Counter[int]()
    await api.start()
    try:
        async with make_client(seen) as client:
            config = InferenceshConfig.model_validate({"url": api.url, "api_key": KEY})
            adapter = InferenceshAdapter("hosted", config, client=client)
            found = await run_all(adapter, {"app": "demo/echo"})
    finally:
        await api.stop()
    assert set(found) == {Status.COMPLETED}
    assert (len(api.journal), seen[200] + seen[201]) == (TASKS, TASKS)
    assert seen[429] <= 10  # at the window's edge one may come too early


async def test_a_node_with_requests_per_period() -> None:
    node, seen = InfernetNode(rate_limit=(10, 2.0)), Counter[int]()
    await node.start()
    try:
        async with make_client(seen) as client:
            adapter = InfernetAdapter("node", InfernetConfig(url=node.url), client=client)
            found = await run_all(adapter, {"containers": ["echo"]})
    finally:
        await node.stop()
    assert set(found) == {Status.COMPLETED}
    assert seen[429] <= 10
