"""What the tests of the Infernet stand-in share: a node, and the requests that they make of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from gateway.devnet.infernet import InfernetNode

PRAISE = "VADER is smart, handsome, and funny."
Start = Callable[..., Any]


class Client:
    """A node and the requests that tests make of it."""

    def __init__(self, node: InfernetNode, http: httpx2.AsyncClient) -> None:
        self.node = node
        self.http = http

    async def post(self, containers: Any, data: Any = None, **more: Any) -> httpx2.Response:
        body = {"containers": containers, "data": {} if data is None else data, **more}
        return await self.http.post("/api/jobs", json=body)

    async def look(self, *ids: str, **params: str) -> list[Any]:
        query = [("id", job_id) for job_id in ids]
        answer = await self.http.get("/api/jobs", params=[*query, *params.items()])
        assert answer.status_code == 200
        return json.loads(answer.content)  # type: ignore[no-any-return]

    async def finish(self, job_id: str) -> dict[str, Any]:
        """Look until the job has ended; the containers here take no time."""
        for _ in range(200):
            jobs = await self.look(job_id, intermediate="true")
            if jobs and all(job["status"] != "running" for job in jobs):
                return jobs[0]  # type: ignore[no-any-return]
        raise AssertionError(f"{job_id} did not end: {jobs}")

    async def run(self, containers: Any, data: Any = None, **more: Any) -> dict[str, Any]:
        answer = await self.post(containers, data, **more)
        assert answer.status_code == 200, answer.text
        return await self.finish(answer.json()["id"])


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(address: str = "127.0.0.1", **more: Any) -> Client:
            node = InfernetNode(**{"rate_limit": None, **more})
            await node.start()
            stack.push_async_callback(node.stop)
            transport = httpx2.AsyncHTTPTransport(local_address=address)
            http = httpx2.AsyncClient(base_url=node.url, transport=transport, timeout=60)
            return Client(node, await stack.enter_async_context(http))

        yield start


@pytest.fixture
async def client(start: Start) -> Client:
    return await start()  # type: ignore[no-any-return]


class Gate:
    """A sleep that lasts until it is opened."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.entered = 0

    async def sleep(self, seconds: float) -> None:
        self.entered += 1
        await self._event.wait()

    def open(self) -> None:
        self._event.set()


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds
