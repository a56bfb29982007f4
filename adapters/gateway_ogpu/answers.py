"""The content of responses: asked of the configured gateways by its CID, verified, and read as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.content.cid import Cid, find_cid
from gateway.content.errors import BadCid, ContentTampered, ContentTooLarge, ContentUnverified
from gateway.errors import BackendError
from gateway.types import JSON
from gateway_ogpu.wire import parse_answer

if TYPE_CHECKING:
    from gateway_ogpu.connection import Connection

_KEPT, _KEPT_BYTES = 1024, 128 << 20
_AT_ONCE = 32
_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Content:
    """What a response's URL leads to.

    Attributes:
        output: its JSON, verified, if `reason` is None.
        reason: why there is none.
        code: the kind of that: "no_cid", "not_json", "too_large", or the content error's name.
        may_come: another gateway, or the same one later, may still give it.
        size_bytes: of what was read.
    """

    output: JSON = None
    reason: str | None = None
    code: str | None = None
    may_come: bool = False
    size_bytes: int = 0


_COMING = Content(reason="it is still being read", may_come=True)


class Answers:
    """Reads answers; what was verified once is not read again, as long as there is room for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._kept: dict[str, Content] = {}  # last used last
        self._tried: dict[str, Content] = {}  # how the last try went, of what may still come
        self._reading: dict[str, asyncio.Task[Content]] = {}
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def read_many(
        self, urls: Iterable[str], *, wait_seconds: float | None = _WAIT_SECONDS
    ) -> dict[str, Content]:
        """Read what these URLs name; never raises, and never asks the hosts that they name.

        What takes longer than is waited here goes on, and is there some time later: who answers slowly holds
        up nobody else's answer.
        """
        wanted = list(dict.fromkeys(urls))
        found: dict[str, Content] = {}
        for url in wanted:
            if url in self._kept:
                found[url] = self._kept[url] = self._kept.pop(url)
        reading = {url: self._begin(url) for url in wanted if url not in found}
        if reading:
            await asyncio.wait(reading.values(), timeout=wait_seconds)
        for url, task in reading.items():
            is_read = task.done() and not task.cancelled()
            found[url] = task.result() if is_read else self._tried.get(url, _COMING)
        return found

    async def aclose(self) -> None:
        """Stop reading."""
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, url: str) -> asyncio.Task[Content]:
        task = self._reading.get(url)
        if task is None:
            task = self._reading[url] = asyncio.create_task(self._read(url))
            task.add_done_callback(lambda _: self._reading.pop(url, None))
        return task

    async def _read(self, url: str) -> Content:
        try:
            cid = find_cid(url)
        except BadCid as error:
            return self._keep(url, Content(reason=f"the response names no content: {error}", code="no_cid"))
        async with self._limit:
            content = await self._fetch(cid)
        self._tried.pop(url, None)
        if not content.may_come:
            return self._keep(url, content)
        self._tried[url] = content
        while len(self._tried) > _KEPT:
            del self._tried[next(iter(self._tried))]
        return content

    async def _fetch(self, cid: Cid) -> Content:
        try:
            data = await self._connection.content.fetch(
                cid, max_bytes=self._connection.config.max_content_bytes
            )
        except ContentTooLarge as error:
            return Content(reason=error.message, code="too_large")
        except BackendError as error:
            # A gateway that tampers says nothing about the provider: the content may come from elsewhere.
            passes = error.here or isinstance(error, ContentTampered | ContentUnverified)
            return Content(reason=error.message, code=type(error).__name__, may_come=passes)
        try:
            return Content(parse_answer(data), size_bytes=len(data))
        except ValueError:
            return Content(reason=f"the content of {cid} is not JSON", code="not_json")

    def _keep(self, url: str, content: Content) -> Content:
        self._kept[url] = content
        while len(self._kept) > _KEPT or sum(one.size_bytes for one in self._kept.values()) > _KEPT_BYTES:
            del self._kept[next(iter(self._kept))]
        return content
