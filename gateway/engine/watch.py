"""Follows jobs to their end: one watcher per backend, due times in one heap, many jobs in one look."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.adapter import Adapter, Feature
from gateway.clock import Clock
from gateway.engine.accepting import Accepting
from gateway.engine.due import Due
from gateway.engine.ending import Ending
from gateway.engine.following import Following
from gateway.engine.health import Health
from gateway.engine.journal import Journal, get_attempt, is_over
from gateway.engine.live import Live
from gateway.engine.seam import ask
from gateway.engine.waits import sleep_or_hear
from gateway.errors import AdapterBroken, BackendError, Misbehaved, RunTakenOver, StoreError, Unavailable
from gateway.lifecycle import Status
from gateway.observe.context import WORKING_ON
from gateway.policy.health import Operation
from gateway.policy.pace import Pace, get_first_delay, get_look_delay
from gateway.task import Handle, Snapshot

_POLL_SECONDS = 60.0
_MOST_POLLS_AT_ONCE = 8
_PATIENCE_SECONDS = 1.0


class Watcher:
    """Looks after all jobs at one backend."""

    def __init__(
        self,
        adapter: Adapter[Any],
        journal: Journal,
        clock: Clock,
        ending: Ending,
        accepting: Accepting,
        health: Health,
        fetch_features: Callable[[], Awaitable[tuple[frozenset[Feature], int]]],
    ) -> None:
        self._adapter = adapter
        self._journal = journal
        self._clock = clock
        self._ending = ending
        self._accepting = accepting
        self._health = health
        self._fetch_features = fetch_features
        self._due = Due()
        self._paces: defaultdict[str | None, Pace] = defaultdict(Pace)
        self._news = asyncio.Event()
        self._not_before = 0.0
        self._following = Following(
            adapter, journal, ending, accepting, lambda live: self.look_soon(live, 0.0)
        )
        self._many = 1
        self._in_hand: dict[Live, float | None] = {}  # and how soon somebody wants the next look
        self._tasks: set[asyncio.Task[None]] = set()
        self._adopted: deque[Live] = deque()

    async def add(self, live: Live) -> None:
        """Follow a run whose newest attempt has landed here."""
        live.ran_until = 0.0
        features, many = await self._fetch_features()
        self._many = max(many, self._many)
        wanted = Feature.STREAM if live.run.task.stream else Feature.EVENTS
        if wanted in features and (live.run.task.stream or self._following.has_room):
            self._following.begin(live)
        usual = self._paces[live.run.task.model].usual
        self.look_soon(live, get_first_delay(_get_age(live, self._clock.now()), usual))

    def look_soon(self, live: Live, in_seconds: float | None = None) -> None:
        """Look at a job after that time, or as its age asks for; never for one who lost the run."""
        if live in self._in_hand:
            self._in_hand[live] = in_seconds if in_seconds is not None else self._in_hand[live]
            return
        if not live.has_landed:
            self._due.drop(live)
            return
        if in_seconds is None:
            usual = self._paces[live.run.task.model].usual
            wait = get_look_delay(_get_age(live, self._clock.now()), live.failed_looks, usual)
        else:
            wait = in_seconds
        if live.run.deadline_at is not None:
            left = (live.run.deadline_at - self._clock.now()).total_seconds()
            if left > 0 or not live.failed_looks:  # else its end could not be written down just now
                wait = max(0.0, left if live.following else min(wait, left))
        elif live.following:
            return
        now, first = self._clock.monotonic(), self._due.get_first()
        self._due.put(live, now, wait)
        if first is None or now + wait < first:
            self._news.set()

    def adopt(self, live: Live) -> None:
        """Follow a run that had landed here before a restart: as `add`, in the watcher's own time."""
        self._adopted.append(live)
        self._news.set()

    async def look_next(self) -> None:
        """Look at what is due, or wait until something is, or news come."""
        while self._adopted:
            live = self._adopted[0]
            await self.add(live)
            live.ran_until = math.inf  # that it has ended, if it has, does not tell when
            self._adopted.popleft()
        first = self._due.get_first()
        wait = None if first is None else first - self._clock.monotonic()
        if wait is None or wait > 0:
            self._news.clear()
            await sleep_or_hear(self._clock, wait, self._news)
            return
        taken = self._due.take(self._clock.monotonic(), self._many * _MOST_POLLS_AT_ONCE)
        landed = [live for live in taken if live.has_landed]
        self._in_hand |= dict.fromkeys(landed)
        if self._clock.monotonic() < self._not_before:
            self._hold_back(landed)
            return
        groups = [landed[start : start + self._many] for start in range(0, len(landed), self._many)]
        looks = [self._begin(self._look(group)) for group in groups]
        # What is found is written down beside the next looks; a look that hangs is overtaken.
        done, _ = await asyncio.wait(looks, timeout=_PATIENCE_SECONDS) if looks else ((), ())
        for look in done:
            look.result()

    async def aclose(self) -> None:
        """Stop following; the jobs go on."""
        await self._following.aclose()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _hold_back(self, lives: Sequence[Live]) -> None:
        """Let jobs be while their backend wants no looks; a deadline that has passed ends its run unseen."""
        now = self._clock.now()
        for live in lives:
            if is_over(live.run, now):
                self._begin(self._apply(live, None, now))
            else:
                self._in_hand.pop(live)
                self.look_soon(live, self._not_before - self._clock.monotonic())

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _look(self, lives: Sequence[Live]) -> None:
        """Look at jobs with one poll, and begin to write down what is new."""
        asked_at = self._clock.now()
        handles = {live: live.run.attempt.handle for live in lives if live.run.attempt}
        try:
            seen = await self._poll(lives, [handle for handle in handles.values() if handle is not None])
            for live in lives:
                handle = handles.get(live)
                self._take_look(live, seen.get(handle) if handle is not None else None, asked_at)
        except BaseException:  # whatever it was, it must not make us forget them
            for live in self._in_hand.keys() & set(lives):
                self._in_hand[live] = _POLL_SECONDS
                self._let_go(live)
            raise

    def _take_look(self, live: Live, snapshot: Snapshot | None, asked_at: datetime) -> None:
        if snapshot is not None and _goes_on(live, snapshot, asked_at):
            live.failed_looks, live.ran_until = 0, _get_age(live, asked_at)
            self._let_go(live)
            if get_attempt(live).snapshot != snapshot:
                self._begin(_note(self._journal, live, snapshot))
        else:
            self._begin(self._apply(live, snapshot, asked_at))

    async def _poll(self, lives: Sequence[Live], handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        seen: Mapping[Handle, Snapshot] = {}
        retry_after = 0.0
        self._health.begin(self._adapter.name, Operation.POLL)
        runs = [live.run for live in lives]
        end_call = self._journal.observer.begin_call(self._adapter.name, Operation.POLL, runs)
        failure: BackendError | None = None
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                told = await ask(Mapping, self._adapter.poll, handles)
            seen = {handle: look for handle, look in told.items() if isinstance(look, Snapshot)}
            if len(seen) < len(told):
                self._ending.report_broken(self._adapter.name, AdapterBroken("poll returned no snapshots"))
            self._health.note(self._adapter.name, Operation.POLL)
        except BackendError as error:
            failure = error
            self._wait_for(error)
            self._health.note(self._adapter.name, Operation.POLL, error)
            retry_after = self._health.get_wait(self._adapter.name, Operation.POLL)
        except TimeoutError:
            failure = Unavailable("no answer", backend=self._adapter.name)
            retry_after = 1.0
        except Exception as error:  # noqa: BLE001  a broken adapter brings no news, it must not stop the others
            failure = Misbehaved(str(error), backend=self._adapter.name)
            retry_after = self._ending.report_broken(self._adapter.name, error)
        end_call(failure)
        if retry_after:
            self._not_before = self._clock.monotonic() + retry_after
        return seen

    def _let_go(self, live: Live) -> None:
        """Look again later, unless it has ended."""
        self.look_soon(live, self._in_hand.pop(live, None))

    def _wait_for(self, error: BackendError) -> None:
        if error.retry_after is not None:
            self._not_before = self._clock.monotonic() + error.retry_after.total_seconds()

    async def _apply(self, live: Live, snapshot: Snapshot | None, asked_at: datetime) -> None:
        WORKING_ON.set(live)  # each task has a context of its own
        live.failed_looks = 0 if snapshot is not None else live.failed_looks + 1
        try:
            await self._take_in(live, snapshot, _get_age(live, asked_at))
        except RunTakenOver:
            live.drop()
        except BackendError as error:
            live.failed_looks += 1
            self._wait_for(error)  # an answer could not be accepted now
        except StoreError:
            live.failed_looks += 1  # it will be seen again: looking is read-only
        except Exception as error:  # noqa: BLE001  a defect in one run must not stop the others' watcher
            live.failed_looks += 1
            self._ending.report_broken(self._adapter.name, error)
        finally:
            self._let_go(live)

    async def _take_in(self, live: Live, snapshot: Snapshot | None, age_seconds: float) -> None:
        if not live.has_landed:
            return
        if snapshot is not None and snapshot.status.is_final:
            snapshot = await self._accepting.settle(live, self._adapter, snapshot)
            if snapshot.status is Status.COMPLETED and live.ran_until <= age_seconds:
                self._paces[live.run.task.model].note(age_seconds, live.ran_until)
            await self._ending.end_attempt(live, snapshot)
            return
        if snapshot is not None:
            live.ran_until = age_seconds
            await self._journal.note(live, snapshot)
            await self._accepting.consider(live, self._adapter, snapshot)
        if is_over(live.run, self._clock.now()):
            await self._ending.end_overdue(live, self._adapter)


def _get_age(live: Live, now: datetime) -> float:
    """Return for how many seconds a job has been there."""
    attempt = live.run.attempt
    if attempt is None or attempt.submitted_at is None:
        return 0.0
    return max(0.0, (now - attempt.submitted_at).total_seconds())


def _goes_on(live: Live, snapshot: Snapshot, now: datetime) -> bool:
    """Say whether there is nothing to do but to look again: most looks at a job that takes long are so."""
    is_waiting = live.has_landed and not snapshot.status.is_final and not snapshot.answers
    return is_waiting and not is_over(live.run, now)


async def _note(journal: Journal, live: Live, snapshot: Snapshot) -> None:
    """Write down that a job goes on, beside the next look at it."""
    WORKING_ON.set(live)  # each task has a context of its own
    try:
        await journal.note(live, snapshot)
    except RunTakenOver:
        live.drop()
    except StoreError:
        live.failed_looks += 1  # it will be seen again: looking is read-only
