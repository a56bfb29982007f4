"""Keeps a process's runs its own: says that it lives, hears wishes, takes over what nobody looks after."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from gateway.clock import Clock
from gateway.engine.owner import find_dead
from gateway.engine.recovery import Recovered, tell_left_alone, tell_recovery
from gateway.engine.waits import repeat, sleep_or_hear
from gateway.errors import RunTakenOver, StoreError
from gateway.lifecycle import Phase
from gateway.store.news import WISHES, Shared, get_news
from gateway.store.protocol import (
    LEASE_LASTS,
    LOOK_EVERY,
    SHARED_LEASE_LASTS,
    Claimed,
    RunFilter,
    Scope,
    Store,
    Wish,
)
from gateway.types import JSON

_log = logging.getLogger("gateway")
_CLAIM_AT_ONCE = 500
_BEATS_PER_LEASE = 4
_HEARD_AT_ONCE = 16


class Keeper:
    """Beats for one owner, and claims for it.

    Attributes:
        tasks: which do it, while it works.
        silences: how often it was too late with a sign of life, so that others may have taken our runs.
        claims: it takes runs over; one whose gateway takes no new runs any more does not.
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
        self._news = get_news(store)
        self._lease = SHARED_LEASE_LASTS if isinstance(store, Shared) else LEASE_LASTS
        self._recovered: list[Recovered] = []
        self._claimed: deque[Claimed] = deque()
        self._wishes: deque[Wish] = deque()
        self._heard: dict[str, asyncio.Task[None]] = {}  # by the run whose wish is being carried out
        self.tasks: list[asyncio.Task[None]] = []
        self.claims = True
        self.silences = 0
        self._believed_until = 0.0
        self._quiet_until = 0.0

    @property
    def is_working(self) -> bool:
        """Say whether it beats and claims."""
        return bool(self.tasks)

    @property
    def is_believed(self) -> bool:
        """Say whether no other process can have taken our runs for nobody's."""
        return self._clock.monotonic() < self._believed_until

    async def start(self) -> None:
        """Beat, claim a first portion, and go on with both."""
        await self._beat()
        beating = repeat("giving a sign of life", self._beat_soon, self._clock)
        self.tasks = [asyncio.create_task(beating)]
        try:
            await self._claim_some()
        except BaseException:
            await self.stop()
            raise
        self.tasks.append(asyncio.create_task(self._keep_looking()))

    async def stop(self) -> bool:
        """Stop both; says whether it worked."""
        tasks, self.tasks = self.tasks, []
        self._wishes.clear()
        for task in (ending := [*tasks, *self._heard.values()]):
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        return bool(tasks)

    async def claim(self) -> None:
        """Take over what nobody looks after, and what was claimed before and could not be taken over then."""
        while await self._claim_some():
            pass

    async def tell(self) -> list[Recovered]:
        """Return what was taken over since the last time, and which open runs can't be worked on here."""
        found, self._recovered = self._recovered, []
        open_runs = await self._store.list_runs(RunFilter(phase=Phase.RUNNING, limit=_CLAIM_AT_ONCE))
        return found + [tell_left_alone(run) for run in open_runs if not self._scope.covers(run)]

    async def _claim_some(self) -> bool:
        """Take over a portion, so that others can have some of many; says whether there may be more."""
        await self._take_over_claimed()
        dead = find_dead(await self._store.list_owners())
        claimed = _share_plans(
            await self._store.claim(
                self._owner, self._scope, now=self._clock.now(), limit=_CLAIM_AT_ONCE, dead=dead
            )
        )
        self._recovered += [tell_recovery(claim.run) for claim in claimed]
        self._claimed += claimed
        await self._take_over_claimed()
        return len(claimed) == _CLAIM_AT_ONCE

    async def _take_over_claimed(self) -> None:
        """Work through what is ours already; what the store fails for stays, for the next time."""
        while self._claimed:
            claim = self._claimed.popleft()
            try:
                await _see_to(f"taking run {claim.run.id} over", self._take_over(claim))
            except StoreError:
                self._claimed.appendleft(claim)
                raise

    async def _beat_soon(self) -> None:
        """Beat apart from everything else: what takes long must not make us look dead."""
        await self._clock.sleep(self._lease.total_seconds() / _BEATS_PER_LEASE)
        await self._beat()

    async def _keep_looking(self) -> None:
        with self._news.listen(WISHES) as bell:
            await repeat("looking for wishes and runs", partial(self._look, bell), self._clock)

    async def _look(self, bell: asyncio.Event) -> None:
        await sleep_or_hear(self._clock, LOOK_EVERY.total_seconds(), bell)
        bell.clear()
        if not self._wishes:
            self._wishes += await self._store.list_wishes(self._owner)
        self._hear_some()
        await self._take_over_claimed()
        if self.claims and self.is_believed and self._clock.monotonic() >= self._quiet_until:
            await self.claim()

    def _hear_some(self) -> None:
        """Carry wishes out beside everything else: a backend may take its time over a cancel."""
        while self._wishes and len(self._heard) < _HEARD_AT_ONCE:
            wish = self._wishes.popleft()
            if wish.run_id not in self._heard:
                self._heard[wish.run_id] = asyncio.create_task(self._hear_one(wish))

    async def _hear_one(self, wish: Wish) -> None:
        what = f"a wish for run {wish.run_id}"
        try:
            await _see_to(what, self._hear(wish))
        except StoreError as error:
            _log.warning("%s failed: %s; trying again", what, error)
        finally:
            del self._heard[wish.run_id]
            self._hear_some()

    async def _beat(self) -> None:
        began, lease = self._clock.monotonic(), self._lease.total_seconds()
        was_silent = 0.0 < self._believed_until < began
        await self._store.beat(self._owner, until=self._clock.now() + self._lease)
        self._believed_until = began + lease
        if was_silent:
            self.silences += 1
            # So may the others have been, if the store was away: they shall have time to beat.
            self._quiet_until = self._clock.monotonic() + lease


def _share_plans(claims: Sequence[Claimed]) -> list[Claimed]:
    """Let runs in a row have one plan, as when they were taken in: it is the most of what is read of them."""
    shared: list[Claimed] = []
    plan: JSON = None
    for claim in claims:
        if claim.run.plan == plan:
            shared.append(replace(claim, run=claim.run.replace(plan=plan)))
        else:
            shared.append(claim)
            plan = claim.run.plan
    return shared


async def _see_to(what: str, work: Awaitable[None]) -> None:
    """Do something for one run; only the store's trouble is everybody's."""
    try:
        await work
    except RunTakenOver:
        _log.warning("%s: another process has it by now", what)
    except StoreError:
        raise
    except Exception:  # noqa: BLE001  it is logged; the other runs go on
        _log.exception("%s met a defect of the gateway", what)
