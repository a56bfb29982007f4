"""Every route of the table, whatever face it belongs to, with what nobody should send."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.config import ServerSettings
from gateway.server.app import App, make_faces
from gateway.server.callers import KeyScope
from gateway.server.keys import create_key, list_keys
from gateway.server.routes import Route, Table
from gateway.server.service import RUNS_AT_ONCE, Service
from gateway.store.memory import MemoryStore
from gateway.store.protocol import RunFilter
from gateway.task import Run, Task
from gateway.testing import FakeAdapter

pytestmark = pytest.mark.anyio

ROUTES = Table(make_faces()).routes
CLOSED = [route for route in ROUTES if route.scope is not None]
TAKES_BODY = [route for route in ROUTES if route.method in ("POST", "PUT", "PATCH")]
SETTINGS = ServerSettings(max_body=20_000, body_timeout=timedelta(seconds=0.2))
Message = MutableMapping[str, Any]


def name(route: Route) -> str:
    return f"{route.method} {route.template}"


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    gateway = AsyncGateway([FakeAdapter("fake")], {"echo": {"targets": {"fake": {}}}}, store=MemoryStore())
    service = Service(gateway, SETTINGS, SystemClock())
    await service.start()
    yield service
    await service.aclose()


async def make_key(service: Service, name: str, *scopes: KeyScope) -> str:
    shelf = service.store.shelf
    key = await create_key(shelf, name, now=datetime.now(UTC), scopes=scopes or tuple(KeyScope))
    service.keys.learn(await list_keys(shelf))
    return key


async def ask(
    service: Service,
    route: Route,
    receive: Callable[[], Awaitable[Message]],
    *headers: tuple[bytes, bytes],
    id: str = "run_unknown",
    query: str = "",
) -> tuple[int, bytes]:
    """Send a request as ASGI has it; returns the status and the whole body."""
    path = re.sub(r"\{[^}]+\}", id, route.template)
    scope = {
        "type": "http",
        "method": route.method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("127.0.0.1", 1),
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await App(service)(scope, receive, send)
    assert sent[0]["type"] == "http.response.start"
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def give(body: bytes) -> Callable[[], Awaitable[Message]]:
    """Return the `receive` of a body that comes at once, and of a client that goes away after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


JSON_TYPE = (b"content-type", b"application/json")


@pytest.mark.parametrize("route", CLOSED, ids=name)
async def test_without_a_key_nothing_is_shown_and_nothing_is_done(service: Service, route: Route) -> None:
    await make_key(service, "somebody")
    status, _ = await ask(service, route, give(b"{}"), JSON_TYPE)
    assert status == 401
    assert await service.store.list_runs(_everything()) == []


@pytest.mark.parametrize("route", CLOSED, ids=name)
async def test_a_key_without_the_scope_is_refused(service: Service, route: Route) -> None:
    assert route.scope is not None
    others = [scope for scope in KeyScope if scope not in (route.scope, KeyScope.ADMIN)]
    key = await make_key(service, "limited", *others)
    status, _ = await ask(
        service, route, give(b"{}"), JSON_TYPE, (b"authorization", f"Bearer {key}".encode())
    )
    assert status == 403


@pytest.mark.parametrize("route", [route for route in CLOSED if "{" in route.template], ids=name)
async def test_anothers_run_is_as_unknown_as_one_that_is_not_there(service: Service, route: Route) -> None:
    run = await service.gateway.submit(Task(model="echo", input={"text": "mine"}), api_key="mine")
    key = await make_key(service, "other", KeyScope.READ, KeyScope.RUN)
    headers = (JSON_TYPE, (b"authorization", f"Bearer {key}".encode()))
    hidden, body = await ask(service, route, give(b'{"answer_id": "a"}'), *headers, id=run.id)
    unknown, _ = await ask(service, route, give(b'{"answer_id": "a"}'), *headers, id="run_unknown")
    assert hidden == unknown
    assert b"mine" not in body
    assert (await service.gateway.get(run.id)).cancel_requested_at is None


@pytest.mark.parametrize("route", [route for route in CLOSED if "{" in route.template], ids=name)
async def test_a_nul_in_an_address_is_the_callers_mistake(service: Service, route: Route) -> None:
    """PostgreSQL refuses it, which would look as if the store were broken."""
    status, _ = await ask(service, route, give(b"{}"), JSON_TYPE, id="run_\0")
    assert status == 400


@pytest.mark.parametrize("query", ["model=%00", "key=a%00b", "idempotency_key=%00"])
async def test_a_nul_in_a_query_is_the_callers_mistake(service: Service, query: str) -> None:
    (route,) = [route for route in CLOSED if name(route) == "GET /v1/runs"]
    status, _ = await ask(service, route, give(b""), query=query)
    assert status == 400


@pytest.mark.parametrize("route", TAKES_BODY, ids=name)
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", b"application/json"),
        (b"{", b"application/json"),
        (b"[1]", b"application/json"),
        (b'"text"', b"application/json"),
        (b"\xff\xfe{}", b"application/json"),
        (b'{"model": NaN}', b"application/json"),
        (b'{"model": "echo", "input": 1e999}', b"application/json"),
        (b"[" * 5_000 + b"]" * 5_000, b"application/json"),
        (b'{"input": ' + b'{"a":' * 3_000 + b"1" + b"}" * 3_001, b"application/json"),
        (json.dumps({"model": "echo", "input": "x" * 10}).encode(), b"text/plain"),
        (b"a=b", b"application/x-www-form-urlencoded"),
    ],
    ids=[
        "empty",
        "half",
        "list",
        "text",
        "no-unicode",
        "nan",
        "huge",
        "deep-lists",
        "deep-objects",
        "plain",
        "form",
    ],
)
async def test_a_wrong_body_is_the_callers_mistake(
    service: Service, route: Route, body: bytes, kind: bytes
) -> None:
    status, told = await ask(service, route, give(body), (b"content-type", kind))
    assert status < 500, told


@pytest.mark.parametrize("route", TAKES_BODY, ids=name)
async def test_a_body_that_is_too_large_is_not_read_to_its_end(service: Service, route: Route) -> None:
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 1_000
        return {"type": "http.request", "body": b" " * 1_000, "more_body": True}

    status, _ = await ask(service, route, receive, JSON_TYPE)
    assert status < 500
    assert read <= SETTINGS.max_body + 1_000
    declared = (b"content-length", b"9999999999")
    status, _ = await ask(service, route, receive, JSON_TYPE, declared)
    assert status < 500


@pytest.mark.parametrize("route", TAKES_BODY, ids=name)
async def test_a_body_that_does_not_come_is_not_waited_for(service: Service, route: Route) -> None:
    async def receive() -> Message:
        await asyncio.sleep(3600)
        raise AssertionError

    async with asyncio.timeout(60):
        status, _ = await ask(service, route, receive, JSON_TYPE)
    assert status < 500


@pytest.mark.parametrize("route", ROUTES, ids=name)
async def test_other_names_and_other_sites_are_refused(service: Service, route: Route) -> None:
    wrong_host = [(b"host", b"evil.example")]
    for origin in (b"https://evil.example", b"null", b"http://[", b""):
        if route.method != "GET":
            status, _ = await ask(service, route, give(b"{}"), JSON_TYPE, (b"origin", origin))
            assert status == 403
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    path = re.sub(r"\{[^}]+\}", "x", route.template)
    scope = {"type": "http", "method": route.method, "path": path, "query_string": b"", "headers": wrong_host}
    await App(service)(scope, give(b"{}"), send)
    assert sent[0]["status"] == 421


def test_there_are_routes() -> None:
    assert len(ROUTES) > 10
    assert len(TAKES_BODY) > 3
    assert len({name(route) for route in ROUTES}) == len(ROUTES)


def _everything() -> Any:
    from gateway.store.protocol import RunFilter

    return RunFilter()


@pytest.mark.parametrize("path", ["/infernet/info", "/infernet/api/jobs", "/inferencesh/sessions"])
async def test_a_list_has_few_runs_in_memory_at_once(
    service: Service, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of a thousand may be as large as its input and its output."""
    ids = [(await service.gateway.submit(Task(model="echo", input=number))).id for number in range(60)]
    read, list_runs = [], service.gateway.list_runs

    async def note(which: RunFilter | None = None) -> list[Run]:
        read.append(await list_runs(which))
        return read[-1]

    monkeypatch.setattr(service.gateway, "list_runs", note)
    (route,) = [route for route in ROUTES if name(route) == f"GET {path}"]
    status, _ = await ask(service, route, give(b""))
    assert status == 200
    if path != "/infernet/info":  # it looks at those that go on
        assert [run.id for page in read for run in page] == ids[::-1]
    assert max(map(len, read)) <= RUNS_AT_ONCE
