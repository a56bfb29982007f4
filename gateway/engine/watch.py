"""Follows jobs to their end: one watcher per backend, due times in one heap, many jobs in one look."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from gateway.adapter import Adapter, Feature
from gateway.clock import Clock
from gateway.engine.accepting import Accepting
from gateway.engine.due import Due
from gateway.engine.ending import Ending
from gateway.engine.health import Health
from gateway.engine.journal import Journal, is_over
from gateway.engine.live import Live
from gateway.errors import BackendError, Misbehaved, NotSupported, RunTakenOver, StoreError, Unavailable
from gateway.lifecycle import Status
from gateway.observe.context import WORKING_ON
from gateway.policy.health import Operation
from gateway.policy.pace import Pace, get_look_delay
from gateway.task import Event, Handle, Snapshot

_POLL_SECONDS = 60.0
_MOST_FOLLOWED = 64
_MOST_POLLS_AT_ONCE = 8


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
        self._followers: set[asyncio.Task[None]] = set()
        self._adopted: deque[Live] = deque()

    async def add(self, live: Live) -> None:
        """Follow a run whose newest attempt has landed here."""
        features, _ = await self._fetch_features()
        wanted = Feature.STREAM if live.run.task.stream else Feature.EVENTS
        if wanted in features and (live.run.task.stream or len(self._followers) < _MOST_FOLLOWED):
            live.following = True
            follower = asyncio.create_task(self._follow(live))
            self._followers.add(follower)
            follower.add_done_callback(self._followers.discard)
        self.look_soon(live)

    def look_soon(self, live: Live, in_seconds: float | None = None) -> None:
        """Look at a job after that time, or as its age asks for; never for one who lost the run."""
        if live.dropped:
            return
        now = self._clock.monotonic()
        if in_seconds is None:
            usual = self._paces[live.run.task.model].usual
            wait = get_look_delay(_get_age(live, self._clock.now()), live.failed_looks, usual)
        else:
            wait = in_seconds
        if live.run.deadline_at is not None:
            left = (live.run.deadline_at - self._clock.now()).total_seconds()
            wait = max(0.0, left if live.following else min(wait, left))
        elif live.following:
            return
        self._due.put(live, now, wait)
        self._news.set()

    def adopt(self, live: Live) -> None:
        """Follow a run that had landed here before a restart: as `add`, in the watcher's own time."""
        self._adopted.append(live)
        self._news.set()

    async def look_next(self) -> None:
        """Look at what is due, or wait until something is, or news come."""
        while self._adopted:
            await self.add(self._adopted[0])
            self._adopted.popleft()
        wait = self._get_wait()
        if wait is None or wait > 0:
            self._news.clear()
            await self._sleep(wait)
            return
        _, many = await self._fetch_features()
        taken = self._due.take(self._clock.monotonic(), many * _MOST_POLLS_AT_ONCE)
        lives = [live for live in taken if live.has_landed]
        try:
            await self._look(lives, many)
        except Exception:  # whatever it was, it must not make us forget them
            for live in lives:
                self.look_soon(live, _POLL_SECONDS)
            raise

    async def aclose(self) -> None:
        """Stop following; the jobs go on."""
        for follower in list(self._followers):
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)

    def _get_wait(self) -> float | None:
        first = self._due.get_first()
        return None if first is None else max(first, self._not_before) - self._clock.monotonic()

    async def _sleep(self, seconds: float | None) -> None:
        """Until news come, or the next is due."""
        news = asyncio.ensure_future(self._news.wait())
        waits: set[asyncio.Future[Any]] = {news}
        if seconds is not None:
            waits.add(asyncio.ensure_future(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _look(self, lives: Sequence[Live], many: int) -> None:
        """Look at jobs, so many in one poll."""
        by_handle = {live.run.attempt.handle: live for live in lives if live.run.attempt}
        handles = [handle for handle in by_handle if handle is not None]
        groups = [handles[start : start + many] for start in range(0, len(handles), many)]
        await asyncio.gather(*(self._poll(group, by_handle) for group in groups))

    async def _poll(self, handles: list[Handle], by_handle: dict[Handle | None, Live]) -> None:
        seen: dict[Handle, Snapshot] = {}
        retry_after = 0.0
        self._health.begin(self._adapter.name, Operation.POLL)
        runs = [by_handle[handle].run for handle in handles]
        end_call = self._journal.observer.begin_call(self._adapter.name, Operation.POLL, runs)
        failure: BackendError | None = None
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                seen = dict(await self._adapter.poll(handles))
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
        news = [(by_handle[handle], seen.get(handle)) for handle in handles]
        await asyncio.gather(*(self._apply(*one) for one in news if not self._pass_by(*one)))

    def _pass_by(self, live: Live, snapshot: Snapshot | None) -> bool:
        """Look again later, if there is nothing to do now: most looks at a job that takes long are so."""
        attempt = live.run.attempt
        if (
            snapshot is None
            or not live.has_landed
            or attempt is None
            or attempt.snapshot != snapshot
            or snapshot.answers
            or is_over(live.run, self._clock.now())
        ):
            return False
        live.failed_looks = 0
        self.look_soon(live)
        return True

    def _wait_for(self, error: BackendError) -> None:
        if error.retry_after is not None:
            self._not_before = self._clock.monotonic() + error.retry_after.total_seconds()

    async def _apply(self, live: Live, snapshot: Snapshot | None) -> None:
        WORKING_ON.set(live)  # gather gives each its own context
        if not live.has_landed:
            return
        live.failed_looks = 0 if snapshot is not None else live.failed_looks + 1
        try:
            if snapshot is not None and snapshot.status.is_final:
                if snapshot.status is Status.COMPLETED:
                    self._paces[live.run.task.model].note(_get_age(live, self._clock.now()), live.ran_until)
                await self._ending.end_attempt(live, snapshot)
                return
            if snapshot is not None:
                live.ran_until = _get_age(live, self._clock.now())
                await self._journal.note(live, snapshot)
                await self._accepting.consider(live, self._adapter, snapshot)
            if is_over(live.run, self._clock.now()):
                await self._ending.end_overdue(live, self._adapter)
                return
        except RunTakenOver:
            return
        except BackendError as error:
            self._wait_for(error)  # an answer could not be accepted now
        except StoreError:
            live.failed_looks += 1  # it will be seen again: looking is read-only
        except Exception as error:  # noqa: BLE001  a defect in one run must not stop the others' watcher
            live.failed_looks += 1
            self._ending.report_broken(self._adapter.name, error)
        self.look_soon(live)

    async def _follow(self, live: Live) -> None:
        """Read a job's events as they come; whatever ends that, the watcher looks on."""
        WORKING_ON.set(live)
        try:
            handle = live.run.attempt.handle if live.run.attempt else None
            if handle is not None:
                async for event in self._adapter.events(handle):
                    if await self._take_event(live, event):
                        return
        except (BackendError, NotSupported, StoreError):
            live.failed_looks = 0  # the stream is gone, not the job: look at it now
        except RunTakenOver:
            return
        except Exception as error:  # noqa: BLE001  as above: a broken stream is no news
            self._ending.report_broken(self._adapter.name, error)
        finally:
            live.following = False
        self.look_soon(live, 0.0)

    async def _take_event(self, live: Live, event: Event) -> bool:
        """Pass one event on; says whether it was the last."""
        if not live.has_landed:
            return True
        if event.kind == "piece":
            live.pieces_out = True
            live.publish(event)
        elif event.snapshot is not None and event.snapshot.status.is_final:
            await self._ending.end_attempt(live, event.snapshot)
            return True
        elif event.snapshot is not None:
            await self._journal.note(live, event.snapshot)
            await self._accepting.consider(live, self._adapter, event.snapshot)
        return False


def _get_age(live: Live, now: datetime) -> float:
    """Return for how many seconds a job has been there."""
    attempt = live.run.attempt
    if attempt is None or attempt.submitted_at is None:
        return 0.0
    return max(0.0, (now - attempt.submitted_at).total_seconds())
