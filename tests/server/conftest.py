"""A server in the process: the application over a gateway with a scripted backend, and a client to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.config import ServerSettings
from gateway.lifecycle import Status
from gateway.server.app import App
from gateway.server.service import Service
from gateway.testing import FakeAdapter

QUICK = ((0.0, Status.RUNNING), (0.02, Status.COMPLETED))


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    gateway = AsyncGateway(
        [FakeAdapter("fake", steps=QUICK)], {"echo": {"targets": {"fake": {"app": "echo"}}}}
    )
    service = Service(gateway, ServerSettings(), SystemClock())
    await service.start()
    yield service
    await service.aclose()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(App(service))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
