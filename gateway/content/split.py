"""Writes to one store, reads from several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from gateway.clock import Clock, SystemClock
from gateway.content.cid import Cid
from gateway.content.gateways import choose_error
from gateway.content.hedge import race
from gateway.content.proofs import limit_time
from gateway.content.protocol import PAYLOAD_BYTES, PAYLOAD_SECONDS, ContentStore, Stored
from gateway.errors import BackendError


class Split:
    """A store to write to, and readers of which the first verified answer wins.

    The next reader is asked when one fails, or has not finished after `hedge_after_seconds`.
    """

    def __init__(
        self,
        writer: ContentStore,
        readers: Sequence[ContentStore],
        *,
        link_gateway: str | None = None,
        hedge_after_seconds: float = 1.5,
        clock: Clock | None = None,
    ) -> None:
        """Make it without I/O.

        Args:
            writer: what is put goes there.
            readers: in the order of asking, at least one; all are closed with this, the writer too.
            link_gateway: a gateway that others can reach; makes `Stored.uri` a web address.
            hedge_after_seconds: how long one reader is waited for alone.
            clock: for the hedging.
        """
        self._writer = writer
        self._readers = list(readers)
        self._link_gateway = link_gateway.rstrip("/") if link_gateway else None
        self._hedge_after_seconds = hedge_after_seconds
        self._clock = clock or SystemClock()

    async def put(
        self, data: bytes, *, filename: str = "file", content_type: str = "application/octet-stream"
    ) -> Stored:
        """Store at the writer, and name it as others reach it."""
        stored = await self._writer.put(data, filename=filename, content_type=content_type)
        if self._link_gateway is None:
            return stored
        return replace(stored, uri=f"{self._link_gateway}/ipfs/{stored.cid}")

    async def fetch(
        self, cid: Cid, *, max_bytes: int = PAYLOAD_BYTES, timeout: float | None = PAYLOAD_SECONDS
    ) -> bytes:
        """Fetch from the first that answers well; else raise as `Gateways` does."""
        attempts = [partial(each.fetch, cid, max_bytes=max_bytes, timeout=None) for each in self._readers]
        async with limit_time(timeout, f"fetching {cid}"):
            try:
                return await race(attempts, stagger_seconds=self._hedge_after_seconds, clock=self._clock)
            except ExceptionGroup as group:
                failures = [error for error in group.exceptions if isinstance(error, BackendError)]
        raise choose_error(failures)

    async def aclose(self) -> None:
        """Close all."""
        for each in {id(store): store for store in (self._writer, *self._readers)}.values():
            await each.aclose()
