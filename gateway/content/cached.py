"""A local store in front of another one."""

from __future__ import annotations

import logging

from gateway.content.cid import Cid
from gateway.content.errors import ContentNotFound, ContentTampered
from gateway.content.local import LocalStore
from gateway.content.protocol import PAYLOAD_BYTES, PAYLOAD_SECONDS, ContentStore, Stored
from gateway.errors import StoreError

_log = logging.getLogger(__name__)


class Cached:
    """Reads from the local store first and keeps there what it fetched; writes to both.

    What was put is in the local store before anybody else is asked, so that it outlives every service. A
    disk that fails only makes it slower.
    """

    def __init__(self, local: LocalStore, origin: ContentStore) -> None:
        """Put `local` in front of `origin`; `origin` is closed with this."""
        self._local = local
        self._origin = origin

    async def put(
        self, data: bytes, *, filename: str = "file", content_type: str = "application/octet-stream"
    ) -> Stored:
        """Store here, then at the origin; the answer is the origin's."""
        try:
            await self._local.put(data, filename=filename, content_type=content_type)
        except StoreError as error:
            _log.warning("what is put could not be cached: %s", error)
        stored = await self._origin.put(data, filename=filename, content_type=content_type)
        await self._keep(stored.cid, data)
        return stored

    async def fetch(
        self, cid: Cid, *, max_bytes: int = PAYLOAD_BYTES, timeout: float | None = PAYLOAD_SECONDS
    ) -> bytes:
        """Read here, or fetch from the origin and keep it."""
        try:
            return await self._local.fetch(cid, max_bytes=max_bytes, timeout=timeout)
        except ContentNotFound:
            _log.debug("%s is not in the cache", cid)
        except (ContentTampered, StoreError) as error:
            _log.warning("the cache failed, asking the origin: %s", error)
        data = await self._origin.fetch(cid, max_bytes=max_bytes, timeout=timeout)
        await self._keep(cid, data)
        return data

    async def aclose(self) -> None:
        """Close both."""
        await self._origin.aclose()
        await self._local.aclose()

    async def _keep(self, cid: Cid, data: bytes) -> None:
        try:
            await self._local.keep(cid, data)
        except StoreError as error:
            _log.warning("%s could not be cached: %s", cid, error)
