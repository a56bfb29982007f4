"""Keeps a process's runs its own: says that it lives, hears wishes, takes over what nobody looks after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.clock import Clock
from gateway.engine.owner import find_dead
from gateway.engine.recovery import Recovered, tell_left_alone, tell_recovery
from gateway.errors import StoreError
from gateway.lifecycle import Phase
from gateway.store.protocol import BEAT_EVERY, LEASE_LASTS, Claimed, RunFilter, Scope, Store, Wish

_log = logging.getLogger("gateway")
_CLAIM_AT_ONCE = 500


class Keeper:
    """Beats for one owner, and claims for it.

    Attributes:
        beating: the loop, while it runs.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        owner: str,
        scope: Scope,
        take_over: Callable[[Claimed], Awaitable[None]],
        hear: Callable[[Wish], Awaitable[None]],
    ) -> None:
        """Make it without I/O; `take_over` gets each claimed run, `hear` each wish for one of ours."""
        self._store, self._clock, self._owner, self._scope = store, clock, owner, scope
        self._take_over, self._hear = take_over, hear
        self._recovered: list[Recovered] = []
        self.beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Beat once, claim once, and go on with both."""
        await self._beat()
        await self.claim()
        self.beating = asyncio.create_task(self._keep_beating())

    async def stop(self) -> bool:
        """Stop beating; says whether it was."""
        beating, self.beating = self.beating, None
        if beating is None:
            return False
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        return True

    async def claim(self) -> None:
        """Take over what nobody looks after."""
        while True:
            dead = find_dead(await self._store.list_owners())
            claimed = await self._store.claim(
                self._owner, self._scope, now=self._clock.now(), limit=_CLAIM_AT_ONCE, dead=dead
            )
            for claim in claimed:
                self._recovered.append(tell_recovery(claim.run))
                await self._take_over(claim)
            if len(claimed) < _CLAIM_AT_ONCE:
                return

    async def tell(self) -> list[Recovered]:
        """Return what was taken over since the last time, and which open runs can't be worked on here."""
        found, self._recovered = self._recovered, []
        open_runs = await self._store.list_runs(RunFilter(phase=Phase.RUNNING, limit=_CLAIM_AT_ONCE))
        return found + [tell_left_alone(run) for run in open_runs if not self._scope.covers(run)]

    async def _keep_beating(self) -> None:
        while True:
            await self._clock.sleep(BEAT_EVERY.total_seconds())
            try:
                await self._beat()
                for wish in await self._store.list_wishes(self._owner):
                    await self._hear(wish)
                await self.claim()
            except StoreError:
                _log.exception("the store does not answer; trying again")

    async def _beat(self) -> None:
        await self._store.beat(self._owner, until=self._clock.now() + LEASE_LASTS)
