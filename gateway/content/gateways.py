"""Reading from configured HTTP gateways, none of which is trusted.

Blocks are asked for (`format=raw` or `format=car`, as the parameter and as Accept) and proven one by one. A
gateway that knows no such formats answers the file itself; that is proven if a known import profile gives it
the CID. Redirects are never followed, and no host is contacted but those of the configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from gateway.clock import Clock, SystemClock
from gateway.content.car import read_inline
from gateway.content.cid import IDENTITY, RAW, Cid
from gateway.content.errors import (
    ContentNotFound,
    ContentTampered,
    ContentTooLarge,
    ContentUnreadable,
    ContentUnverified,
    rename_error,
)
from gateway.content.hedge import race
from gateway.content.proofs import compute_off_loop, limit_time, receive_body, receive_car
from gateway.content.protocol import PAYLOAD_BYTES, PAYLOAD_SECONDS, Stored
from gateway.content.unixfs import find_profile
from gateway.errors import BackendError, ConfigError, NotSupported, Rejected, Throttled, Unavailable
from gateway.http import Answer, HttpClient, StreamAnswer, make_status_error

_log = logging.getLogger(__name__)

_CAR_TYPE, _RAW_TYPE = "application/vnd.ipld.car", "application/vnd.ipld.raw"
_FORM_RAW = ("?format=raw", _RAW_TYPE)
_FORM_CAR = ("?format=car&dag-scope=entity", f"{_CAR_TYPE}; version=1; order=dfs; dups=n")
_FORM_FILE = ("", "*/*")
_NO_SUCH_FORM = (400, 406, 415, 501)

_BAN_SECONDS = 600.0
_LONGEST_REST_SECONDS = 300.0
_FIRST_REST_SECONDS = 15.0
_LONGEST_ERROR_BODY = 64 * 1024


class Gateways:
    """Fetches from the first gateway whose answer is verified; the next is asked when one is slow or fails.

    A gateway that gave wrong content is asked last for ten minutes, one that was ill for a time that doubles
    from 15 s to 5 min; one that said 429 is not asked before the time that it named (at most 5 min).
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        hedge_after_seconds: float = 1.5,
        clock: Clock | None = None,
        client: Any = None,
    ) -> None:
        """Make it without I/O.

        Args:
            urls: for instance "https://gateway.example"; `/ipfs/<cid>` is appended. In the order of asking.
            hedge_after_seconds: how long one is waited for alone.
            clock: for the hedging and the rests.
            client: an httpx.AsyncClient or httpx2.AsyncClient for all of them instead of own ones.

        Raises:
            ConfigError: for no URL, one that is none of http, or a client that follows redirects.
        """
        if not urls or any(urlsplit(url).scheme not in ("http", "https") for url in urls):
            raise ConfigError(f"content gateways are http or https URLs, at least one, not {list(urls)}")
        if getattr(client, "follow_redirects", False):
            raise ConfigError("a client for content gateways must not follow redirects")
        self._clock = clock or SystemClock()
        self._hedge_after_seconds = hedge_after_seconds
        self._gateways = [_Gateway(url, self._clock, client) for url in urls]

    async def put(
        self, data: bytes, *, filename: str = "file", content_type: str = "application/octet-stream"
    ) -> Stored:
        """Refuse: gateways only read. Raises NotSupported."""
        del data, filename, content_type
        raise NotSupported("content gateways only read: configure a pin service or a node to store")

    async def fetch(
        self, cid: Cid, *, max_bytes: int = PAYLOAD_BYTES, timeout: float | None = PAYLOAD_SECONDS
    ) -> bytes:
        """Fetch a file, verified.

        If all fail, the error that is raised is one that may pass, if there is any (so that it is tried
        again), otherwise the gravest; its `detail` lists what each gateway did, as (URL, kind, message).
        """
        if cid.hash_code == IDENTITY:
            return read_inline(cid, max_bytes=max_bytes)
        now = self._clock.monotonic()
        asked = sorted(
            (g for g in self._gateways if g.throttled_until <= now), key=lambda g: g.rests_until > now
        )
        if not asked:
            wait = min(g.throttled_until for g in self._gateways) - now
            raise Throttled("all content gateways want us to wait", retry_after=timedelta(seconds=wait))
        attempts = [partial(gateway.fetch, cid, max_bytes) for gateway in asked]
        async with limit_time(timeout, f"fetching {cid}"):
            try:
                return await race(attempts, stagger_seconds=self._hedge_after_seconds, clock=self._clock)
            except ExceptionGroup as group:
                failures = [error for error in group.exceptions if isinstance(error, BackendError)]
        raise choose_error(failures)

    async def aclose(self) -> None:
        """Close the connections."""
        for gateway in self._gateways:
            await gateway.aclose()


class _Gateway:
    """One gateway, and how it has behaved. Times are those of the monotonic clock."""

    def __init__(self, url: str, clock: Clock, client: Any) -> None:
        self._clock = clock
        self._name = url.rstrip("/")
        self._http = HttpClient(self._name, url, timeout_seconds=10.0, keepalive_seconds=4.0, client=client)
        self._failures = 0
        self.rests_until = self.throttled_until = -1.0

    async def fetch(self, cid: Cid, max_bytes: int) -> bytes:
        """Fetch from this one, and remember how it went."""
        try:
            data = await self._fetch_in_any_form(cid, max_bytes)
        except BackendError as error:
            self._note(error)
            raise rename_error(error, self._name) from error
        self._failures, self.rests_until = 0, -1.0
        return data

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _fetch_in_any_form(self, cid: Cid, max_bytes: int) -> bytes:
        forms = (_FORM_RAW, _FORM_CAR, _FORM_FILE) if cid.codec == RAW else (_FORM_CAR, _FORM_FILE)
        for query, accept in forms:
            headers = {"accept": accept, "accept-encoding": "identity"}
            path = f"/ipfs/{cid}{query}"
            async with self._http.stream("GET", path, lands=False, headers=headers) as answer:
                if answer.status in _NO_SUCH_FORM:
                    continue
                await self._check(answer)
                return await _receive(answer, cid, max_bytes)
        raise Rejected(f"it answers {cid} in no form that we read")

    async def _check(self, answer: StreamAnswer) -> None:
        if answer.status == 200:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise ContentUnreadable("it compressed what was asked for as it is")
            return
        if answer.status in (404, 410, 412):
            raise ContentNotFound("it has no such content", http_status=answer.status)
        if answer.status == 413:
            raise ContentTooLarge("it serves nothing that large", http_status=413)
        if 300 <= answer.status < 400:
            raise Rejected("it redirects elsewhere, which is not followed", http_status=answer.status)
        whole = Answer(answer.status, answer.headers, b"")
        raise make_status_error(whole, "reading content", backend=self._name, lands=False)

    def _note(self, error: BackendError) -> None:
        now = self._clock.monotonic()
        if isinstance(error, ContentTampered):
            _log.warning("content gateway %s gave wrong content: %s", self._name, error.message)
            self.rests_until = now + _BAN_SECONDS
        elif isinstance(error, Throttled):
            wait = _FIRST_REST_SECONDS if error.retry_after is None else error.retry_after.total_seconds()
            self.throttled_until = now + min(wait, _LONGEST_REST_SECONDS)  # "0" is now: it may be asked again
        elif isinstance(error, Unavailable) and not isinstance(error, ContentNotFound):
            rest = min(_FIRST_REST_SECONDS * 2**self._failures, _LONGEST_REST_SECONDS)
            self._failures = min(self._failures + 1, 10)
            self.rests_until = max(self.rests_until, now + rest)


async def _receive(answer: StreamAnswer, cid: Cid, max_bytes: int) -> bytes:
    """Read an answer of whatever form it has, and prove it."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _CAR_TYPE:
        return await receive_car(answer, cid, max_bytes=max_bytes)
    body = await receive_body(answer, max_bytes=max_bytes)
    if await compute_off_loop(len(body), find_profile, body, cid) is not None:
        return body
    if cid.codec == RAW and kind != "text/html":
        raise ContentTampered(f"its bytes are not those of {cid}")
    raise ContentUnverified(f"nothing proves that its answer of the type {kind or 'unknown'} is {cid}")


def choose_error(failures: Sequence[BackendError]) -> BackendError:
    """Choose what to raise when all failed: what may pass (last: not found), then the gravest."""

    def rank(error: BackendError) -> int:
        if isinstance(error, Unavailable):
            return 1 if isinstance(error, ContentNotFound) else 0
        kinds = (ContentTooLarge, ContentTampered, ContentUnreadable, ContentUnverified)
        return next((2 + place for place, kind in enumerate(kinds) if isinstance(error, kind)), 9)

    chosen = min(failures, key=rank)
    chosen.detail = [(error.backend, type(error).__name__, error.message) for error in failures]
    return chosen
