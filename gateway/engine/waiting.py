"""Waiting for a run's end and reading its events, wherever it is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gateway.engine.engine import Engine
from gateway.engine.live import Live
from gateway.errors import WaitTimeout
from gateway.task import Event, Run

_LOOK_SECONDS = (0.02, 0.5)  # how often another process's run is looked at in the store: at first, at most


async def wait_for_end(engine: Engine, run_id: str, timeout: float | None) -> Run:
    """Return a run once it has ended. Raises RunNotFound, WaitTimeout."""
    clock, delay = engine.clock, _LOOK_SECONDS[0]
    end = None if timeout is None else clock.monotonic() + timeout
    while True:
        live = engine.get_live(run_id)
        left = None if end is None else max(0.0, end - clock.monotonic())
        if live is not None:
            return await wait_for_live(engine, live, left)
        run = await engine.store.get(run_id)
        if run.status.is_final:
            return run
        if left is not None and left <= 0:
            raise _make_timeout(run)
        await clock.sleep(delay if left is None else min(delay, left))
        delay = min(delay * 1.5, _LOOK_SECONDS[1])


async def wait_for_live(engine: Engine, live: Live, timeout: float | None) -> Run:
    """Return a run that this process works on once it has ended, here or, if it was taken over, elsewhere."""
    try:
        async with asyncio.timeout(timeout):
            await live.ended.wait()
    except TimeoutError:
        raise _make_timeout(live.run) from None
    if live.dropped and not live.run.status.is_final:
        return await wait_for_end(engine, live.run.id, timeout)
    return live.run


async def iterate_events(engine: Engine, run_id: str, after: int = 0) -> AsyncIterator[Event]:
    """Yield a run's events, those after the stored one of that number, to its end. Raises RunNotFound."""
    delay = _LOOK_SECONDS[0]
    while True:
        live = engine.get_live(run_id)
        if live is not None:
            async for event in engine.events(live, after):
                after = max(after, event.seq)
                yield event
            if not live.dropped:
                return
        run = await engine.store.get(run_id)
        for event in await engine.store.list_events(run_id, after=after):
            after = event.seq
            yield event
        if run.status.is_final:
            return
        await engine.clock.sleep(delay)
        delay = min(delay * 1.5, _LOOK_SECONDS[1])


def _make_timeout(run: Run) -> WaitTimeout:
    message = f"run {run.id} is still {run.status.name}; only the waiting has ended, the run goes on"
    return WaitTimeout(message, run_id=run.id)
