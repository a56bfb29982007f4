"""Webhooks: tells a caller's own server that a run has ended; signed, retried, kept in the store till then.

The headers are those of Standard Webhooks (standardwebhooks.com): webhook-id, webhook-timestamp and
webhook-signature, "v1," and the base64 of HMAC-SHA256 over "id.timestamp.body". A message may come twice,
with the same id.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gateway.engine.waits import repeat
from gateway.errors import ConfigError, InvalidInput, RunFailed, RunNotFound
from gateway.http import parse_retry_after
from gateway.server.outbound import check_url, pin, resolve
from gateway.server.receivers import Receivers
from gateway.server.views import view, view_run
from gateway.server.wire import encode
from gateway.store.shelf import Note
from gateway.task import Run

if TYPE_CHECKING:
    from gateway.server.service import Service

_log = logging.getLogger("gateway.server")

KIND = "webhook"
RETRIES = tuple(timedelta(seconds=s) for s in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400))
"""How long after each failed try the next one comes; after the last of them nobody is told any more."""

_LOOK_EVERY_SECONDS = 1.0
_LEASE = timedelta(seconds=60)
_OPEN_RUN = (timedelta(seconds=5), timedelta(minutes=1))
_SEND_SECONDS = 15.0
_MOST_BYTES = 256 * 1024
_AT_ONCE = 50
_SECRET_PREFIX = "whsec_"  # noqa: S105  what a secret begins with


def make_secret(master: str, key: str | None) -> str:
    """Return the secret that the webhooks of an API key's runs are signed with; None is for no key.

    Each key has its own, made from the server's: who can check one key's webhooks can't forge another's.

    Raises:
        ConfigError: the server's own is no "whsec_" with base64 of 24 to 64 bytes.
    """
    try:
        raw = base64.b64decode(master.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        raw = b""
    if not 24 <= len(raw) <= 64:
        raise ConfigError('server.webhook_secret is "whsec_" and the base64 of 24 to 64 random bytes')
    own = hmac.digest(raw, f"webhooks of {'' if key is None else '/' + key}".encode(), hashlib.sha256)
    return _SECRET_PREFIX + base64.b64encode(own).decode("ascii")


def sign(secret: str, id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers of a message, as Standard Webhooks has them."""
    raw = base64.b64decode(secret.removeprefix(_SECRET_PREFIX))
    stamp = str(int(at.timestamp()))
    digest = hmac.digest(raw, f"{id}.{stamp}.".encode("ascii") + body, hashlib.sha256)
    signature = f"v1,{base64.b64encode(digest).decode('ascii')}"
    return {"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": signature}


class Webhooks:
    """Notes which runs' ends are to be told, and tells them. Several processes may do so over one store."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._wake = asyncio.Event()
        self._watched: dict[str, Note] = {}
        self._receivers = Receivers()
        self.resolve = resolve

    def check(self, url: str) -> None:
        """Raise InvalidInput if nothing can be sent there, ConfigError if webhooks are not configured."""
        if self._service.settings.webhook_secret is None:
            raise InvalidInput("this server sends no webhooks: server.webhook_secret is not set")
        check_url(url, self._service.settings.webhook_networks)

    async def note(self, run: Run, url: str) -> None:
        """Write down that somebody wants to hear of a run's end. It is told after a restart as well."""
        body = encode({"url": url, "tries": 0})
        due_at = self._service.clock.now() + (timedelta() if run.status.is_final else _OPEN_RUN[0])
        note = Note(kind=KIND, id=run.id, body=body, due_at=due_at)
        await self._service.store.shelf.put(note)
        self._watch(note)

    async def keep_sending(self) -> None:
        """Tell of the ends that are due, for ever."""
        await repeat("sending the webhooks that are due", self._send_all, self._service.clock)

    async def send_due(self) -> int:
        """Tell of the ends that are due now, and say how many notes were looked at."""
        due = await self._claim(_AT_ONCE)
        await asyncio.gather(*(self._try(note) for note in due))
        return len(due)

    async def _claim(self, limit: int) -> list[Note]:
        now = self._service.clock.now()
        return await self._service.store.shelf.claim(KIND, now=now, until=now + _LEASE, limit=limit)

    async def _send_all(self) -> None:
        """Tell of what is due, so many at once: none waits for another to be sent."""
        for note in await self._service.store.shelf.list_notes(KIND):
            self._watch(note)
        sending: set[asyncio.Task[None]] = set()

        def end(done: asyncio.Task[None]) -> None:
            sending.discard(done)
            self._wake.set()

        try:
            while True:
                self._wake.clear()
                due = await self._claim(_AT_ONCE - len(sending)) if len(sending) < _AT_ONCE else []
                for note in due:
                    trying = asyncio.create_task(self._try(note))
                    sending.add(trying)
                    trying.add_done_callback(end)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY_SECONDS):
                        await self._wake.wait()
        finally:
            for trying in list(sending):
                trying.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def _try(self, note: Note) -> None:
        try:
            await self._handle(note)
        except Exception:  # noqa: BLE001  logged; it is tried again when its lease is over
            _log.exception("a webhook could not be sent, and will be tried again")

    def _watch(self, note: Note) -> None:
        """Hear of a run's end at once, if this process works on it."""
        run_id, gateway = note.id, self._service.find_gateway(note.id)
        if run_id in self._watched:
            self._watched[run_id] = note  # it may say another place than the one before
            return
        if not gateway.hosting.works_on(run_id):
            return
        self._watched[run_id] = note

        async def wait() -> None:
            try:
                with suppress(RunFailed):
                    await gateway.wait(run_id)
                newest = replace(self._watched[run_id], due_at=self._service.clock.now())
                await self._service.store.shelf.put(newest)
                self._wake.set()
            finally:
                del self._watched[run_id]

        self._service.begin(wait())

    async def _put(self, note: Note, data: dict[str, Any], due_at: datetime) -> None:
        await self._service.store.shelf.put(replace(note, body=encode(data), due_at=due_at))

    async def _handle(self, note: Note) -> None:
        data, now = json.loads(note.body), self._service.clock.now()
        try:
            run = await self._service.store.get(note.id)
        except RunNotFound:  # pruned meanwhile
            await self._service.store.shelf.remove(KIND, note.id)
            return
        if not run.status.is_final:
            wait = min(max((now - run.created_at) / 4, _OPEN_RUN[0]), _OPEN_RUN[1])
            await self._put(note, data, now + wait)
            return
        async with self._receivers.enter(urlsplit(data["url"]).netloc) as may_send:
            if not may_send:  # its host hangs: it is tried again when its lease is over
                return
            failure, wait_at_least = await self._send(run, data["url"])
        if failure is None or data["tries"] >= len(RETRIES):
            if failure is not None:
                _log.warning("the webhook of run %s is given up: %s", run.id, failure)
            await self._service.store.shelf.remove(KIND, note.id)
            return
        wait = max(RETRIES[data["tries"]], wait_at_least)
        _log.info("the webhook of run %s is tried again in %s: %s", run.id, wait, failure)
        await self._put(note, {**data, "tries": data["tries"] + 1}, now + wait)

    async def _send(self, run: Run, url: str) -> tuple[str | None, timedelta]:
        """Send one message; returns why it failed, or None, and how long to wait at least."""
        import httpx2

        settings, at = self._service.settings, self._service.clock.now()
        none = timedelta()
        if settings.webhook_secret is None:
            return "server.webhook_secret is not set any more", none
        body = make_body(run, at)
        secret = make_secret(settings.webhook_secret.get_secret_value(), run.api_key)
        headers = {**sign(secret, f"msg_{run.id}", at, body), "content-type": "application/json"}
        try:
            pinned = await pin(url, settings.webhook_networks, self.resolve)
            headers |= {"host": pinned.host, "user-agent": "inference-gateway"}
            async with (
                httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=_SEND_SECONDS) as client,
                asyncio.timeout(_SEND_SECONDS),
                client.stream(
                    "POST",
                    pinned.url,
                    content=body,
                    headers=headers,
                    extensions={"sni_hostname": pinned.name},
                ) as answer,
            ):
                status = answer.status_code
                retry_after = parse_retry_after(answer.headers.get("retry-after"), now=at)
        except (httpx2.HTTPError, OSError, TimeoutError, InvalidInput) as error:
            return f"{type(error).__name__}: {error}", none
        if 200 <= status < 300:
            return None, none
        if status == 410:  # gone: it wants to hear no more
            return None, none
        return f"it answered {status}", retry_after or none


def make_body(run: Run, at: datetime) -> bytes:
    """Return the message about a run's end; a large one leaves out input and output, and says so."""
    data = view_run(run)
    message = {"type": "run.ended", "timestamp": view(at), "data": data}
    body = encode(message)
    if len(body) <= _MOST_BYTES:
        return body
    data |= {"output": None, "attempts": [], "task": {**data["task"], "input": None}, "shortened": True}
    return encode(message)
