"""The import of what a chain needs, beside the event loop: web3 takes most of a second."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import RLock, Thread

_importing = RLock()


@contextmanager
def kept_recursion_limit() -> Iterator[None]:
    """Import inside what may import eth-account or web3.

    They bring py_ecc, which raises Python's limit of recursion to 100,000 for the whole process: more than
    the stack holds, so that JSON of some ten thousand levels, from whomever, would kill the process.
    """
    with _importing:
        limit = sys.getrecursionlimit()
        try:
            yield
        finally:
            sys.setrecursionlimit(limit)


def begin_to_load() -> None:
    """Begin, once in a process; nobody waits."""
    _start()


async def load() -> None:
    """Wait until it is imported. Raises nothing: what is missing is told where it is used."""
    await asyncio.to_thread(_start().join)


@cache
def _start() -> Thread:
    import concurrent.futures.thread  # noqa: F401  web3 needs it, and at a process's end it can't be imported

    loading = Thread(target=_import, name="import of web3")
    loading.start()
    return loading


def _import() -> None:
    with suppress(ImportError), kept_recursion_limit():
        import eth_account
        import web3

        del eth_account, web3
