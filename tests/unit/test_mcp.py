"""The tools for assistants: approve before spending."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.adapter import Feature
from gateway.client import AsyncGateway
from gateway.errors import InvalidInput, Misbehaved, NoBackend, RunNotFound
from gateway.mcp.quotes import LASTS
from gateway.mcp.tools import Tools
from gateway.store.memory import MemoryStore
from gateway.task import Task
from gateway.testing import FakeAdapter, FakeClock
from gateway.testing.adapter import DEFAULT_FEATURES
from gateway.testing.backend import Fault
from gateway.types import Money

pytestmark = pytest.mark.anyio


class Place:
    """A gateway with a backend that costs, one that is free, and the tools over them."""

    def __init__(self) -> None:
        self.clock, self.store = FakeClock(), MemoryStore()
        self.paid = FakeAdapter("paid", clock=self.clock, price=Money.parse("0.02 USD"))
        self.free = FakeAdapter("free", clock=self.clock)
        models = {
            "m": {"targets": {"paid": {"app": "x"}, "free": {"app": "x"}}, "hedge": 2, "idempotent": True}
        }
        self.gateway = AsyncGateway([self.paid, self.free], models, store=self.store, clock=self.clock)
        self.tools = Tools(self.gateway, self.store.shelf, self.clock)

    async def get_offer(self, backend: str) -> dict[str, Any]:
        quoted: Any = await self.tools.quote("m", {"text": "hi"})
        return next(offer for offer in quoted["offers"] if offer["backend"] == backend)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    place = Place()
    async with place.gateway:
        yield place


async def test_a_quote_spends_nothing_and_one_id_is_one_run(place: Place) -> None:
    offer = await place.get_offer("paid")
    assert (offer["price"], offer["at_most"]) == ("0.02 USD", "0.02 USD")
    assert not place.paid.accepted
    first = await place.tools.run(offer["quote_id"])
    assert (first["status"], first["output"], first["backend"]) == ("COMPLETED", {"text": "hi"}, "paid")
    assert first["cost"] == {"outcome": "charged", "settled": ["0.02 USD"]}
    for _ in range(3):
        assert await place.tools.run(offer["quote_id"]) == first
    assert len(place.paid.accepted) == 1
    assert not place.free.accepted


async def test_what_gave_no_quote_is_not_called_free(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise Misbehaved("no price today", backend="free")

    monkeypatch.setattr(FakeAdapter, "features", DEFAULT_FEATURES | {Feature.QUOTE})
    monkeypatch.setattr(place.free, "quote", refuse)
    assert (await place.get_offer("free"))["quote_id"] is None


async def test_a_quote_is_for_one_attempt_even_if_that_fails(place: Place) -> None:
    offer = await place.get_offer("paid")
    place.paid.backend.arm(Fault.FAIL_JOB, times=5)
    failed = await place.tools.run(offer["quote_id"])
    assert failed["phase"] == "failed"
    assert await place.tools.run(offer["quote_id"]) == failed
    assert len(place.paid.accepted) == 1


async def test_a_quote_that_is_old_begins_nothing_and_one_that_began_is_still_found(place: Place) -> None:
    used, unused = await place.get_offer("paid"), await place.get_offer("paid")
    run = await place.tools.run(used["quote_id"])
    await place.clock.sleep(LASTS.total_seconds() + 1)
    with pytest.raises(InvalidInput, match="expired"):
        await place.tools.run(unused["quote_id"])
    assert await place.tools.run(used["quote_id"]) == run


async def test_a_free_backend_costs_nothing(place: Place) -> None:
    offer = await place.get_offer("free")
    assert offer["at_most"] == "free"
    assert (await place.tools.run(offer["quote_id"]))["cost"]["outcome"] == "not_charged"  # type: ignore[index]


async def test_what_is_no_quote_or_no_run_of_these_tools_is_refused(place: Place) -> None:
    with pytest.raises(InvalidInput, match="no quote"):
        await place.tools.run("made-up")
    others = await place.gateway.run(Task(model="m", input={}), "free")
    for call in (place.tools.get, place.tools.cancel):
        with pytest.raises(RunNotFound):
            await call(others.id)
    with pytest.raises(InvalidInput, match="path"):
        await place.tools.quote("m", {"file": {"$file": {"path": "/etc/passwd"}}})


async def test_a_run_is_waited_for_as_long_as_asked_and_cancelled(place: Place) -> None:
    place.paid.backend.arm(Fault.NEVER_END, times=1)
    offer = await place.get_offer("paid")
    begun = await place.tools.run(offer["quote_id"], wait_seconds=1.0)
    assert begun["phase"] == "running"
    await place.tools.cancel(str(begun["run_id"]))
    assert (await place.tools.get(str(begun["run_id"]), wait_seconds=60.0))["status"] == "CANCELLED"


async def test_models_are_listed(place: Place) -> None:
    assert await place.tools.list_models() == [
        {"model": "m", "description": None, "backends": ["paid", "free"]}
    ]


async def test_what_was_approved_as_free_is_not_paid_for(place: Place) -> None:
    offer = await place.get_offer("free")
    place.free.backend.price = Money.parse("5 USD")
    await place.clock.sleep(60)
    with pytest.raises(NoBackend, match="free"):
        await place.tools.run(offer["quote_id"])
    assert not place.free.accepted
