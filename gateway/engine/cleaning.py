"""Retention: what ended long enough ago is forgotten, a little at a time, by any process that works."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from functools import partial

from gateway.clock import Clock
from gateway.engine.waits import repeat
from gateway.store.archive import Pruning
from gateway.store.protocol import Store

_log = logging.getLogger("gateway")
_FIRST_AFTER_SECONDS = 60.0
_EVERY_SECONDS = 3600.0
_AT_ONCE = 100  # a transaction that others wait for stays short


class Cleaner:
    """Prunes the store every hour.

    Attributes:
        retention: how long a run is kept after its end; None keeps every run for ever. Runs of which nobody
            knows what they cost stay in any case.
    """

    def __init__(self, store: Store, clock: Clock, retention: timedelta | None = None) -> None:
        self._store, self._clock = store, clock
        self.retention = retention
        self._cleaning: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Go on until `stop`, if there is anything to be done at all."""
        if self.retention is not None and self._cleaning is None:
            self._cleaning = asyncio.create_task(self._keep_clean(self.retention))

    async def stop(self) -> None:
        """Stop, wherever it is: a call of the store is all or nothing."""
        cleaning, self._cleaning = self._cleaning, None
        if cleaning is not None:
            cleaning.cancel()
            await asyncio.gather(cleaning, return_exceptions=True)

    async def _keep_clean(self, retention: timedelta) -> None:
        await self._clock.sleep(_FIRST_AFTER_SECONDS)
        await repeat("pruning old runs", partial(self._clean, retention), self._clock, _EVERY_SECONDS)

    async def _clean(self, retention: timedelta) -> None:
        pruned = await prune_all(self._store, Pruning(ended_before=self._clock.now() - retention))
        if pruned:
            _log.info("%d runs were pruned that ended more than %s ago", pruned, retention)
        await self._clock.sleep(_EVERY_SECONDS)


async def prune_all(store: Store, which: Pruning) -> int:
    """Prune until there is nothing more, and return how many runs were forgotten. Raises StoreError."""
    pruned = 0
    while some := await store.archive.prune(which, limit=_AT_ONCE):
        pruned += some
    return pruned
