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

_KEPT = 1024
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Content:
    """What a response's URL leads to.

    Attributes:
        output: its JSON, verified, if `reason` is None.
        reason: why there is none.
        code: the kind of that: "no_cid", "not_json", "too_large", or the content error's name.
        may_come: another gateway, or the same one later, may still give it.
    """

    output: JSON = None
    reason: str | None = None
    code: str | None = None
    may_come: bool = False


class Answers:
    """Reads answers; what was verified once is not read again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._kept: dict[str, Content] = {}
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def read_many(self, urls: Iterable[str]) -> dict[str, Content]:
        """Read what these URLs name; never raises, and never asks the hosts that they name."""
        wanted = list(dict.fromkeys(urls))
        found = await asyncio.gather(*(self._read(url) for url in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _read(self, url: str) -> Content:
        if url in self._kept:
            return self._kept[url]
        try:
            cid = find_cid(url)
        except BadCid as error:
            return self._keep(url, Content(reason=f"the response names no content: {error}", code="no_cid"))
        async with self._limit:
            content = await self._fetch(cid)
        return content if content.may_come else self._keep(url, content)

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
            return Content(parse_answer(data))
        except ValueError:
            return Content(reason=f"the content of {cid} is not JSON", code="not_json")

    def _keep(self, url: str, content: Content) -> Content:
        self._kept[url] = content
        while len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]
        return content
