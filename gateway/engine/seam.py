"""Calls to adapters: whatever a stranger's code does there, it ends that call and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import UnionType
from typing import Any, ParamSpec, TypeVar

from gateway.adapter import Adapter
from gateway.errors import AdapterBroken, BackendError
from gateway.task import Cost, Quote, Snapshot
from gateway.types import Money, RateLimit

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
_MOST_BITS = 256
_log = logging.getLogger("gateway")
_OF_THE_PROCESS = (KeyboardInterrupt, SystemExit, GeneratorExit)


@contextmanager
def guarding(what: str) -> Iterator[None]:
    """Let what is no Exception end the call as AdapterBroken: a task would die of it, and nobody hear."""
    cancels = _count_cancels()
    try:
        yield
    except BaseException as error:
        _check(error, what, cancels)
        raise


async def ask(
    kind: type[object] | UnionType, call: Callable[P, Awaitable[ResultT]], *args: P.args, **kwargs: P.kwargs
) -> ResultT:
    """Call an adapter's method. Raises AdapterBroken if what it answers is not of that kind."""
    cancels = _count_cancels()
    try:
        found = await call(*args, **kwargs)
    except BaseException as error:
        _check(error, _get_name(call), cancels)
        raise
    if not isinstance(found, kind):
        raise AdapterBroken(
            f"its adapter broke the seam: {_get_name(call)} returned a {type(found).__name__}"
        )
    return found


def _count_cancels() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _check(error: BaseException, what: str, cancels: int) -> None:
    """Raise AdapterBroken in place of what is neither an Exception nor our own wish.

    A CancelledError is our own if somebody has cancelled this task since `cancels` was counted. An adapter
    brings others: of a task of its own that it has cancelled, for instance.
    """
    if isinstance(error, BackendError):
        if not isinstance(getattr(error, "retry_after", None), timedelta | None):
            error.retry_after = None  # a bare number, of who knows what
        return
    is_ours = isinstance(error, asyncio.CancelledError) and _count_cancels() > cancels
    if not (is_ours or isinstance(error, (Exception, *_OF_THE_PROCESS))):
        raise AdapterBroken(f"its adapter broke in {what}: {type(error).__name__}: {error}") from error


def _get_name(call: object) -> str:
    return getattr(call, "__name__", "a call")


def tell_rate_limit(adapter: Adapter[Any]) -> RateLimit | None:
    """Return what an adapter has heard of a rate limit; None if that can't be read, for it is advice."""
    try:
        told = adapter.rate_limit
    except Exception as error:  # noqa: BLE001  the submission that was answered must not be lost over it
        _log.warning("the rate limit of %s can't be read: %s: %s", adapter.name, type(error).__name__, error)
        return None
    if not isinstance(told, RateLimit) or not isinstance(told.remaining, int):
        return None
    return told if isinstance(told.reset_in, timedelta | None) else None


def check_quote(quote: Quote) -> None:
    """Raise AdapterBroken for a price that no budget could reserve."""
    for money in (quote.expected, quote.upper):
        if money is not None and not _is_amount(money):
            raise AdapterBroken(
                f"its adapter broke the seam: its quote says {_tell(money)}, which is no price"
            )


def drop_unreadable_cost(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot whose cost can be booked: what can't be read is unknown, and never 0 or less."""
    told = snapshot.cost
    if told is None or (isinstance(told, Cost) and (told.settled is None or _is_amount(told.settled))):
        return snapshot
    said = told.settled if isinstance(told, Cost) else told
    evidence = {"from": "the adapter told a cost that is no amount of money", "told": _tell(said)}
    return snapshot.replace(cost=Cost(evidence=evidence))


def _is_amount(money: object) -> bool:
    if not isinstance(money, Money) or type(money.amount) is not int or not isinstance(money.asset, str):
        return False
    if money.amount < 0 or money.amount.bit_length() > _MOST_BITS:
        return False
    try:
        str(money)
    except ValueError:  # of an asset that nobody knows the decimals of
        return False
    return True


def _tell(said: object) -> str:
    if isinstance(said, Money) and isinstance(said.amount, int) and said.amount.bit_length() > _MOST_BITS:
        return "an integer of thousands of digits"
    return repr(said)[:200]
