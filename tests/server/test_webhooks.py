from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from gateway.client import AsyncGateway
from gateway.config import ServerSettings
from gateway.errors import ConfigError
from gateway.lifecycle import Status
from gateway.server import webhooks
from gateway.server.app import App
from gateway.server.receivers import AT_ONE_HOST
from gateway.server.service import Service
from gateway.server.webhooks import KIND, RETRIES, make_body, make_secret, sign
from gateway.store.memory import MemoryStore
from gateway.store.shelf import Note
from gateway.task import Run, Task
from gateway.testing import FakeAdapter, FakeClock

pytestmark = pytest.mark.anyio
MASTER = "whsec_" + base64.b64encode(b"m" * 32).decode()
QUICK = ((0.0, Status.RUNNING), (0.01, Status.COMPLETED))


@dataclass
class Receiver:
    """A caller's own server: answers as it is told, and keeps what came."""

    answers: list[bytes] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        exact = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        headers["webhook-signature"] = {name.lower(): value for name, value in exact.items()}[
            "webhook-signature"
        ]
        self.got.append((headers, body))
        writer.write(self.answers.pop(0) if self.answers else b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.hear, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield receiver
    server.close()
    await server.wait_closed()


def make_service(store: MemoryStore, clock: FakeClock, adapter: FakeAdapter, **settings: Any) -> Service:
    """Make a server whose webhooks live by `clock`; its runs live by the system's, which beats less."""
    gateway = AsyncGateway([adapter], {"echo": {"targets": {"fake": {}}}}, store=store)
    settings = {
        "webhook_secret": SecretStr(MASTER),
        "webhook_networks": (ip_network("127.0.0.0/8"),),
        **settings,
    }
    return Service(gateway, ServerSettings(**settings), clock)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def service(clock: FakeClock) -> AsyncIterator[Service]:
    service = make_service(MemoryStore(), clock, FakeAdapter("fake", steps=QUICK))
    await service.gateway.__aenter__()
    yield service
    await service.aclose()


async def post(service: Service, **body: Any) -> httpx2.Response:
    transport = httpx2.ASGITransport(App(service))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post("/v1/runs", json={"model": "echo", **body})


async def end_run(service: Service, url: str) -> Run:
    run = await service.gateway.run(Task(model="echo", input="hi"), api_key="team")
    await service.webhooks.note(run, url)
    return run


def verify(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Check a message as the specification of Standard Webhooks says."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{expected}" in headers["webhook-signature"].split(" ")


async def test_the_end_of_a_run_is_told_once_and_signed_for_its_key(
    service: Service, receiver: Receiver
) -> None:
    run = await end_run(service, receiver.url)
    assert await service.webhooks.send_due() == 1
    ((headers, body),) = receiver.got
    assert headers["webhook-id"] == f"msg_{run.id}"
    assert verify(make_secret(MASTER, "team"), headers, body)
    assert not verify(make_secret(MASTER, "other"), headers, body)
    message = json.loads(body)
    assert (message["type"], message["data"]["id"]) == ("run.ended", run.id)
    assert (message["data"]["status"], message["data"]["output"]) == ("COMPLETED", "hi")
    assert await service.store.shelf.list_notes(KIND) == []
    assert await service.webhooks.send_due() == 0


async def test_a_known_vector_of_the_signature() -> None:
    """From the specification's own example."""
    from datetime import UTC, datetime

    headers = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (b"HTTP/1.1 500 X\r\nconnection: close\r\n\r\n", 5),
        (b"HTTP/1.1 302 X\r\nlocation: http://10.0.0.1/\r\nconnection: close\r\n\r\n", 5),
        (b"HTTP/1.1 429 X\r\nretry-after: 90\r\nconnection: close\r\n\r\n", 90),
        (b"", 5),
    ],
)
async def test_what_failed_is_tried_again_later(
    service: Service, receiver: Receiver, clock: FakeClock, answer: bytes, seconds: float
) -> None:
    await end_run(service, receiver.url)
    receiver.answers.append(answer)
    await service.webhooks.send_due()
    (note,) = await service.store.shelf.list_notes(KIND)
    assert note.due_at == clock.now() + timedelta(seconds=seconds)
    assert await service.webhooks.send_due() == 0
    await clock.sleep(seconds)
    await service.webhooks.send_due()
    first, second = receiver.got
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    assert await service.store.shelf.list_notes(KIND) == []


async def test_nobody_is_told_for_ever(service: Service, receiver: Receiver, clock: FakeClock) -> None:
    await end_run(service, receiver.url)
    refusal = b"HTTP/1.1 500 X\r\nconnection: close\r\n\r\n"
    receiver.answers = [refusal] * 100
    for wait in (timedelta(), *RETRIES, timedelta(days=9)):
        await clock.sleep(wait.total_seconds())
        await service.webhooks.send_due()
    assert len(receiver.got) == len(RETRIES) + 1
    assert await service.store.shelf.list_notes(KIND) == []


async def test_410_says_that_nobody_wants_to_hear_more(service: Service, receiver: Receiver) -> None:
    await end_run(service, receiver.url)
    receiver.answers = [b"HTTP/1.1 410 X\r\nconnection: close\r\n\r\n"]
    await service.webhooks.send_due()
    assert await service.store.shelf.list_notes(KIND) == []


async def test_a_restart_forgets_no_webhook(clock: FakeClock, receiver: Receiver) -> None:
    store, adapter = MemoryStore(), FakeAdapter("fake", steps=((0.0, Status.RUNNING),))
    first = make_service(store, clock, adapter)
    await first.gateway.__aenter__()
    taken = await post(first, webhook={"url": receiver.url})
    assert taken.status_code == 202
    await first.aclose()
    second = make_service(store, clock, FakeAdapter("fake", backend=adapter.backend))
    await second.gateway.__aenter__()
    await second.gateway.cancel(taken.json()["id"])
    await _until(lambda: _is_final(second, taken.json()["id"]))
    await clock.sleep(60)
    await second.webhooks.send_due()
    await second.aclose()
    assert json.loads(receiver.got[0][1])["data"]["id"] == taken.json()["id"]


async def test_of_two_processes_one_tells(clock: FakeClock, service: Service, receiver: Receiver) -> None:
    other = make_service(service.store, clock, FakeAdapter("fake"))  # type: ignore[arg-type]
    await end_run(service, receiver.url)
    counts = await asyncio.gather(service.webhooks.send_due(), other.webhooks.send_due())
    await other.aclose()
    assert sorted(counts) == [0, 1]
    assert len(receiver.got) == 1


async def test_a_note_that_nobody_understands_keeps_no_other_from_being_sent(
    service: Service, receiver: Receiver, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    run = await end_run(service, receiver.url)
    await service.store.shelf.put(Note(kind=KIND, id=run.id + "0", body=b"no JSON", due_at=clock.now()))
    assert await service.webhooks.send_due() == 2
    assert len(receiver.got) == 1
    assert "could not be sent" in caplog.text


async def test_a_receiver_that_hangs_holds_up_no_other(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_SEND_SECONDS", 3600.0)
    begun, go_on = 0, asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun
        begun += 1
        await go_on.wait()
        writer.close()

    hanging = await asyncio.start_server(hang, "127.0.0.1", 0)
    run = await end_run(service, receiver.url)
    (note,) = await service.store.shelf.list_notes(KIND)
    assert note.due_at is not None
    for number in range(2 * webhooks._AT_ONCE):
        body = json.dumps({"url": f"http://127.0.0.1:{hanging.sockets[0].getsockname()[1]}/", "tries": 0})
        other = await service.gateway.run(Task(model="echo", input=number))
        earlier = replace(note, id=other.id, body=body.encode(), due_at=note.due_at - timedelta(seconds=1))
        await service.store.shelf.put(earlier)
    sending = asyncio.create_task(service.webhooks.keep_sending())
    async with asyncio.timeout(60):
        while not receiver.got:  # noqa: ASYNC110  it is a server of its own
            await asyncio.sleep(0.01)
    assert json.loads(receiver.got[0][1])["data"]["id"] == run.id
    assert begun == AT_ONE_HOST
    assert len(await service.store.shelf.list_notes(KIND)) >= 2 * webhooks._AT_ONCE, "none of them is lost"
    go_on.set()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    hanging.close()


async def test_the_place_that_was_said_last_is_told(clock: FakeClock, receiver: Receiver) -> None:
    service = make_service(MemoryStore(), clock, FakeAdapter("fake", steps=((0.0, Status.RUNNING),)))
    await service.start()
    run = await service.gateway.submit(Task(model="echo"))
    await service.webhooks.note(run, "http://127.0.0.1:1/elsewhere")
    await service.webhooks.note(run, receiver.url)
    await service.gateway.cancel(run.id)
    async with asyncio.timeout(60):
        while not receiver.got:  # noqa: ASYNC110  it is a server of its own
            await asyncio.sleep(0.01)
    await service.aclose()
    assert json.loads(receiver.got[0][1])["data"]["status"] == "CANCELLED"


async def test_many_messages_to_one_host_take_turns(service: Service, receiver: Receiver) -> None:
    for _ in range(3 * AT_ONE_HOST):
        await end_run(service, receiver.url)
    await service.webhooks.send_due()
    assert len(receiver.got) == 3 * AT_ONE_HOST


async def test_a_name_that_moves_to_a_private_address_gets_nothing(
    clock: FakeClock, receiver: Receiver
) -> None:
    service = make_service(MemoryStore(), clock, FakeAdapter("fake", steps=QUICK), webhook_networks=())
    await service.gateway.__aenter__()

    async def look_up(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    service.webhooks.resolve = look_up
    await end_run(service, receiver.url.replace("127.0.0.1", "rebound.example"))
    await service.webhooks.send_due()
    await service.aclose()
    assert receiver.got == []


async def test_a_name_is_sent_to_the_address_that_was_checked(service: Service, receiver: Receiver) -> None:
    async def look_up(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    service.webhooks.resolve = look_up
    await end_run(service, receiver.url.replace("127.0.0.1", "hooks.example"))
    await service.webhooks.send_due()
    assert receiver.got[0][0]["host"].startswith("hooks.example:")


async def test_what_can_never_be_sent_is_refused_at_once(clock: FakeClock, service: Service) -> None:
    for url in ("http://10.0.0.1/", "http://[fe80::1]/", "https://a:b@example.com/"):
        refused = await post(service, webhook={"url": url})
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/invalid-input")
    silent = make_service(MemoryStore(), clock, FakeAdapter("fake"), webhook_secret=None)
    refused = await post(silent, webhook={"url": "https://example.com/"})
    await silent.aclose()
    assert (refused.status_code, "webhook_secret" in refused.json()["detail"]) == (422, True)


async def test_a_long_answer_is_left_out_and_said_to_be(service: Service) -> None:
    run = await service.gateway.run(Task(model="echo", input="x" * 300_000))
    message = json.loads(make_body(run, service.clock.now()))
    assert message["data"]["shortened"] is True
    assert message["data"]["status"] == "COMPLETED"
    assert len(json.dumps(message)) < 10_000


@pytest.mark.parametrize("master", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!", "whsec_" + "A" * 200])
def test_a_secret_that_is_none_is_refused(master: str) -> None:
    with pytest.raises(ConfigError):
        make_secret(master, None)


def test_every_key_has_a_secret_of_its_own() -> None:
    secrets = {make_secret(MASTER, key) for key in (None, "", "a", "b")}
    assert len(secrets) == 4
    assert MASTER not in secrets


async def _is_final(service: Service, run_id: str) -> bool:
    return (await service.gateway.get(run_id)).status.is_final


async def _until(is_it: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not await is_it():  # noqa: ASYNC110  nobody tells of it
            await asyncio.sleep(0.01)
