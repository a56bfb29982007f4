from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.config import ServerSettings
from gateway.engine.key_budgets import parse_budget
from gateway.errors import ConfigError
from gateway.lifecycle import Status
from gateway.server.app import App
from gateway.server.callers import KeyScope
from gateway.server.keys import (
    LEARNT_EVERY_SECONDS,
    KeyBook,
    Learning,
    create_key,
    list_keys,
    revoke_key,
)
from gateway.server.problems import NO_KEY, TOO_MANY, Refusal
from gateway.server.service import Service
from gateway.store.archive import Pruning
from gateway.store.memory import MemoryStore
from gateway.store.protocol import RunFilter
from gateway.store.shelf import MemoryShelf, Note
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import Money

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def add_key(service: Service, name: str, *scopes: KeyScope, **more: str) -> dict[str, str]:
    """Make a key that the server knows; returns the headers to send it with."""
    key = await create_key(service.store.shelf, name, now=NOW, scopes=scopes or tuple(KeyScope)[:2], **more)  # type: ignore[arg-type]  # words as they are
    service.keys.learn(await list_keys(service.store.shelf))
    return {"authorization": f"Bearer {key}"}


async def test_a_key_is_not_in_the_store(service: Service) -> None:
    headers = await add_key(service, "team")
    secret = headers["authorization"].split("_", 2)[2]
    (note,) = await service.store.shelf.list_notes("api_key")
    assert secret.encode() not in note.body
    assert len(secret) >= 43


async def test_a_key_that_was_made_just_now_keeps_to_its_budget_at_once() -> None:
    adapter = FakeAdapter("fake", steps=((0.0, Status.COMPLETED),), price=Money.parse("1 USD"))
    service = Service(
        AsyncGateway([adapter], {"echo": {"targets": {"fake": {}}}}), ServerSettings(), SystemClock()
    )
    await service.start()
    try:
        await add_key(service, "old")
        budgets = [parse_budget("2 USD/total")]
        key = await create_key(service.store.shelf, "new", now=NOW, budgets=budgets)
        transport = httpx2.ASGITransport(App(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers, task = {"authorization": f"Bearer {key}"}, {"model": "echo", "input": 1}
            answers = [await client.post("/v1/runs?wait=5", json=task, headers=headers) for _ in range(4)]
    finally:
        await service.aclose()
    assert [answer.status_code for answer in answers[2:]] == [402, 402]
    assert len(adapter.accepted) == 2


async def test_once_there_is_a_key_nothing_goes_without(service: Service, client: httpx2.AsyncClient) -> None:
    assert (await client.get("/v1/runs")).status_code == 200
    headers = await add_key(service, "team")
    wrong_ones: tuple[Any, ...] = (
        {},
        {"authorization": "Bearer gw_x_y"},
        {"authorization": headers["authorization"][:-1]},
        {"authorization": headers["authorization"] + "A"},
        {"authorization": headers["authorization"].replace("gw_", "gx_")},
        {"x-api-key": b"gw_\xe9_\xff"},
    )
    for wrong in wrong_ones:
        refused = await client.get("/v1/runs", headers=wrong)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
    assert (await client.get("/v1/runs", headers=headers)).status_code == 200
    key = headers["authorization"].removeprefix("Bearer ")
    assert (await client.get("/v1/runs", headers={"x-api-key": key})).status_code == 200


async def test_when_the_last_key_is_revoked_the_server_is_not_open(
    service: Service, client: httpx2.AsyncClient
) -> None:
    headers = await add_key(service, "team")
    await revoke_key(service.store.shelf, "team", now=NOW)
    service.keys.learn(await list_keys(service.store.shelf))
    assert (await client.get("/v1/runs", headers=headers)).status_code == 401
    assert (await client.get("/v1/runs")).status_code == 401
    with pytest.raises(ConfigError):
        await revoke_key(service.store.shelf, "team", now=NOW)


async def test_a_key_sees_only_its_own_runs(service: Service, client: httpx2.AsyncClient) -> None:
    mine, other = await add_key(service, "mine"), await add_key(service, "other")
    admin = await add_key(service, "admin", KeyScope.ADMIN)
    run = (await client.post("/v1/runs", json={"model": "echo"}, headers=mine)).json()
    assert run["api_key"] == "mine"
    for method, path in (
        ("GET", f"/v1/runs/{run['id']}"),
        ("GET", f"/v1/runs/{run['id']}/events"),
        ("GET", f"/v1/runs/{run['id']}/plan"),
        ("POST", f"/v1/runs/{run['id']}/cancel"),
    ):
        hidden = await client.request(method, path, headers=other)
        unknown = await client.request(method, path.replace(run["id"], "run_x"), headers=other)
        assert hidden.status_code == unknown.status_code == 404
        assert hidden.json()["title"] == unknown.json()["title"]
        assert (await client.request(method, path, headers=admin)).status_code in (200, 202)
    assert (await client.get("/v1/runs", headers=other)).json()["runs"] == []
    assert (await client.get("/v1/runs?key=mine", headers=other)).json()["runs"] == []
    assert len((await client.get("/v1/runs", headers=mine)).json()["runs"]) == 1
    assert len((await client.get("/v1/runs?key=mine", headers=admin)).json()["runs"]) == 1


async def test_a_key_does_what_its_scopes_say(service: Service, client: httpx2.AsyncClient) -> None:
    reads = await add_key(service, "reads", KeyScope.READ)
    assert (await client.get("/v1/models", headers=reads)).status_code == 200
    refused = await client.post("/v1/runs", json={"model": "echo"}, headers=reads)
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
    assert (await client.get("/v1/costs", headers=reads)).status_code == 200
    runs = await add_key(service, "runs", KeyScope.RUN)
    assert (await client.get("/v1/costs", headers=runs)).status_code == 403


async def test_a_key_sees_only_its_own_costs(service: Service, client: httpx2.AsyncClient) -> None:
    mine, other = await add_key(service, "mine"), await add_key(service, "other")
    admin = await add_key(service, "admin", KeyScope.ADMIN)
    for headers in (mine, mine, other):
        await client.post("/v1/runs?wait=30", json={"model": "echo"}, headers=headers)

    async def count(headers: dict[str, str], query: str = "") -> dict[str | None, int]:
        lines = (await client.get(f"/v1/costs?by=key{query}", headers=headers)).json()["lines"]
        return {line["key"]: line["attempts"] for line in lines}

    for _ in range(2):
        assert await count(mine) == await count(mine, "&key=other") == {"mine": 2}
        assert await count(other) == {"other": 1}
        assert await count(admin) == {"mine": 2, "other": 1}
        assert await count(admin, "&key=other") == {"other": 1}
        assert await count(await add_key(service, f"new{_}")) == {}
        await service.store.archive.prune(Pruning(ended_before=service.clock.now()), limit=9)
    assert await service.store.list_runs(RunFilter()) == []


async def test_an_idempotency_key_is_each_callers_own(service: Service, client: httpx2.AsyncClient) -> None:
    runs = set()
    for name in ("a", "b"):
        headers = {**await add_key(service, name), "idempotency-key": "k"}
        for _ in range(2):
            run = (await client.post("/v1/runs", json={"model": "echo"}, headers=headers)).json()
            assert run["idempotency_key"] == "k"
            runs.add(run["id"])
    assert len(runs) == 2


async def test_a_rate_is_kept_and_says_when_there_is_room() -> None:
    clock, shelf = FakeClock(), MemoryShelf()
    book = KeyBook(clock)
    key = await create_key(shelf, "team", now=NOW, rate="2/m")
    book.learn(await list_keys(shelf))
    for _ in range(2):
        assert book.find_caller(key).key == "team"
    with pytest.raises(Refusal) as refused:
        book.find_caller(key)
    assert refused.value.kind is TOO_MANY
    assert (b"retry-after", b"30") in refused.value.headers
    book.learn(await list_keys(shelf))  # news of the keys gives no new room
    with pytest.raises(Refusal):
        book.find_caller(key)
    await clock.sleep(31)
    assert book.find_caller(key).key == "team"


async def test_a_wrong_key_costs_nobodys_rate() -> None:
    clock, shelf = FakeClock(), MemoryShelf()
    book = KeyBook(clock)
    key = await create_key(shelf, "team", now=NOW, rate="1/m")
    book.learn(await list_keys(shelf))
    for _ in range(3):
        with pytest.raises(Refusal) as refused:
            book.find_caller(key[:-1])
        assert refused.value.kind is NO_KEY
    assert book.find_caller(key).key == "team"


class CountingShelf(MemoryShelf):
    read = 0

    async def list_notes(self, kind: str) -> list[Note]:
        self.read += 1
        return await super().list_notes(kind)


async def test_a_key_that_was_made_just_now_opens_at_once() -> None:
    clock, shelf = FakeClock(), CountingShelf()
    book = KeyBook(clock)
    learning = Learning(book, lambda: shelf, clock)
    await learning.learn()
    assert book.is_open
    for name in ("first", "second"):  # also the one that ends the time without keys
        key = await create_key(shelf, name, now=NOW)
        assert (await learning.find_caller(key)).key == name
    assert not book.is_open
    assert clock.monotonic() < LEARNT_EVERY_SECONDS


async def test_whoever_tries_keys_does_not_keep_the_store_busy() -> None:
    clock, shelf = FakeClock(), CountingShelf()
    book = KeyBook(clock)
    learning = Learning(book, lambda: shelf, clock)
    key = await create_key(shelf, "team", now=NOW)
    await learning.learn()
    before = shelf.read
    tried = [f"gw_{n:012x}_{'x' * 43}" for n in range(300)]
    for batch in (tried[:100], tried[100:200], tried[200:]):
        found = await asyncio.gather(*map(learning.find_caller, batch), return_exceptions=True)
        assert {getattr(one, "kind", None) for one in found} == {NO_KEY}
    assert shelf.read - before <= 3
    assert clock.monotonic() == pytest.approx(0.4)
    for wrong in ("", "gw_x_y", "sk-123"):
        with pytest.raises(Refusal):
            await learning.find_caller(wrong)
    assert (await learning.find_caller(key)).key == "team"
    assert shelf.read - before <= 3


async def test_what_one_asks_while_the_keys_are_read_is_read_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, shelf = FakeClock(), MemoryShelf()
    learning = Learning(KeyBook(clock), lambda: shelf, clock)
    await create_key(shelf, "old", now=NOW)
    reading, go_on, list_notes = asyncio.Event(), asyncio.Event(), shelf.list_notes

    async def read_slowly(kind: str) -> list[Note]:
        notes = await list_notes(kind)
        reading.set()
        await go_on.wait()
        return notes

    monkeypatch.setattr(shelf, "list_notes", read_slowly)
    early = asyncio.create_task(learning.find_caller(f"gw_{'0' * 12}_{'x' * 43}"))
    await reading.wait()
    monkeypatch.undo()
    key = await create_key(shelf, "new", now=NOW)
    late = asyncio.create_task(learning.find_caller(key))
    go_on.set()
    assert (await late).key == "new"
    with pytest.raises(Refusal):
        await early


@pytest.mark.parametrize(("name", "more"), [("", {}), ("a/b", {}), ("x" * 101, {}), ("a", {"rate": "many"})])
async def test_a_key_that_makes_no_sense_is_refused(name: str, more: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        await create_key(MemoryStore().shelf, name, now=NOW, **more)  # type: ignore[arg-type]  # words as they are


async def test_a_name_is_taken_until_its_key_is_revoked() -> None:
    shelf = MemoryShelf()
    first = await create_key(shelf, "a", now=NOW)
    with pytest.raises(ConfigError, match="already"):
        await create_key(shelf, "a", now=NOW)
    await revoke_key(shelf, "a", now=NOW)
    assert await create_key(shelf, "a", now=NOW) != first
