"""Waiting and trying again, as tenacity does it: on our clock, at the backend's own pace."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_base

from gateway.clock import Clock
from gateway.errors import BackendError, StoreError
from gateway.policy.pace import get_retry_delay

ResultT = TypeVar("ResultT")
_log = logging.getLogger("gateway")
_STEP_SECONDS = 0.1
_PAUSE_SECONDS = 0.5


async def listen(work: Coroutine[Any, Any, ResultT], seconds: float) -> ResultT:
    """Wait for an answer, and count the time in which we could have heard one.

    While a library is loaded for the first time the event loop stands still, on a busy machine for seconds:
    that is nobody's silence. Raises TimeoutError, and what the work raises.
    """
    loop = asyncio.get_running_loop()
    task, left = asyncio.create_task(work), seconds
    try:
        while not task.done() and left > 0:
            began = loop.time()
            await asyncio.wait({task}, timeout=min(left, _STEP_SECONDS))
            left -= min(loop.time() - began, 2 * _STEP_SECONDS)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def throw_retry_delay(previous_seconds: float, error: BaseException | None) -> float:
    """Return the seconds before the next try, with jitter, and at least what the backend asked for."""
    retry_after = error.retry_after if isinstance(error, BackendError) else None
    return get_retry_delay(previous_seconds, random.random(), retry_after)  # noqa: S311  jitter is no secret


class _Wait(wait_base):
    def __call__(self, retry_state: RetryCallState) -> float:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None and outcome.failed else None
        return throw_retry_delay(retry_state.upcoming_sleep, error)


async def sleep_or_hear(clock: Clock, seconds: float | None, bell: asyncio.Event) -> None:
    """Sleep so long (None: without end), or until the bell rings; it is to be cleared afterwards."""
    if seconds is None:
        await bell.wait()
        return

    def ring(_: object) -> None:
        bell.set()

    sleeping = asyncio.ensure_future(clock.sleep(seconds))
    sleeping.add_done_callback(ring)
    try:
        await bell.wait()
    finally:
        sleeping.remove_done_callback(ring)
        if not sleeping.cancel():
            sleeping.result()


async def try_for(work: Coroutine[Any, Any, object], clock: Clock, seconds: float) -> None:
    """Do something, and stop it if that takes longer. Raises what the work raises until then."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


async def keep_writing(write: Callable[[], Awaitable[object]], clock: Clock) -> None:
    """Write down what has already happened, again and again until the store takes it."""
    try:
        await write()  # as it nearly always is: tenacity costs more than all else that is done here
    except StoreError as error:
        await clock.sleep(throw_retry_delay(0.0, error))
    else:
        return

    async def write_once() -> None:  # as above
        await write()

    await AsyncRetrying(sleep=clock.sleep, wait=_Wait(), retry=retry_if_exception_type(StoreError))(
        write_once
    )


async def repeat(
    what: str, work: Callable[[], Awaitable[object]], clock: Clock, pause_seconds: float = _PAUSE_SECONDS
) -> NoReturn:
    """Do it again and again, for as long as the process works: what goes wrong is said, and tried again."""
    while True:
        try:
            await work()
            continue
        except StoreError as error:
            _log.warning("%s failed: %s; trying again", what, error)
        except Exception:  # noqa: BLE001  it is logged; the work must go on
            _log.exception("%s met a defect of the gateway; trying again", what)
        await clock.sleep(pause_seconds)
