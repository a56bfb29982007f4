"""Waiting for a run's end and reading its events, wherever it is worked on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.engine.engine import Engine
from gateway.engine.live import Live
from gateway.engine.waits import sleep_or_hear
from gateway.errors import InvalidInput, WaitTimeout
from gateway.store.news import News, get_news
from gateway.task import Event, Run

_LOOK_SECONDS = (0.02, 0.5)  # how often another process's run is looked at in the store: at first, at most
_LOOK_ALL_THE_SAME_SECONDS = 5.0  # where the store tells what happens: news may be lost


def check_timeout(timeout: float | None) -> None:
    """Refuse what is no number of seconds, before anything is submitted. Raises InvalidInput."""
    if timeout is not None and (not isinstance(timeout, int | float) or math.isnan(timeout)):
        raise InvalidInput(f"timeout={timeout!r} is not a number of seconds")


async def wait_for_end(engine: Engine, run_id: str, timeout: float | None) -> Run:
    """Return a run once it has ended. Raises RunNotFound, WaitTimeout, Unusable, InvalidInput."""
    check_timeout(timeout)
    here = engine.get_live(run_id)
    if here is not None:  # as it nearly always is: nobody need be listened to
        return await wait_for_live(engine, here, timeout)
    end = None if timeout is None else engine.clock.monotonic() + timeout
    with _look_at(engine, run_id) as looks:
        while True:
            live = engine.get_live(run_id)
            left = None if end is None else max(0.0, end - engine.clock.monotonic())
            if live is not None:
                return await wait_for_live(engine, live, left)
            engine.lifetime.require_work(run_id)
            run = await engine.store.get(run_id)
            if run.status.is_final:
                return run
            if left is not None and left <= 0:
                raise _make_timeout(run)
            await looks.wait(left)


async def wait_for_live(engine: Engine, live: Live, timeout: float | None) -> Run:
    """Return a run that this process works on once it has ended, here or, if it was taken over, elsewhere."""
    if timeout is None:
        await live.ended.wait()
    else:
        try:
            async with asyncio.timeout(timeout):
                await live.ended.wait()
        except TimeoutError:
            raise _make_timeout(live.run) from None
    if live.dropped and not live.run.status.is_final:
        return await wait_for_end(engine, live.run.id, timeout)
    return live.run


async def iterate_events(engine: Engine, run_id: str, after: int = 0) -> AsyncIterator[Event]:
    """Yield a run's events, those after the stored one of that number, to its end.

    Raises:
        RunNotFound: there is no such run.
        Unusable: the gateway was closed before its end.
    """
    with _look_at(engine, run_id) as looks:
        while True:
            live = engine.get_live(run_id)
            if live is not None:
                async for event in engine.events(live, after):
                    after = max(after, event.seq)
                    yield event
                if not live.dropped:
                    return
            engine.lifetime.require_work(run_id)
            run = await engine.store.get(run_id)
            for event in await engine.store.list_events(run_id, after=after):
                after = event.seq
                yield event
            if run.status.is_final:
                return
            await looks.wait()


@contextmanager
def _look_at(engine: Engine, run_id: str) -> Iterator[_Looks]:
    news = get_news(engine.store)
    with news.listen(run_id) as bell:
        yield _Looks(engine.clock, news, bell)


@dataclass(slots=True)
class _Looks:
    """When to look at a run that another process works on: when the store tells of it, and now and then."""

    clock: Clock
    news: News
    bell: asyncio.Event
    delay: float = _LOOK_SECONDS[0]

    async def wait(self, at_most: float | None = None) -> None:
        """Wait until it is time for another look. What happens after this returns ends the next wait."""
        delay = _LOOK_ALL_THE_SAME_SECONDS if self.news.is_live else self.delay
        self.delay = min(self.delay * 1.5, _LOOK_SECONDS[1])
        await sleep_or_hear(self.clock, delay if at_most is None else min(delay, at_most), self.bell)
        self.bell.clear()


def _make_timeout(run: Run) -> WaitTimeout:
    message = f"run {run.id} is still {run.status.name}; only the waiting has ended, the run goes on"
    return WaitTimeout(message, run_id=run.id)
