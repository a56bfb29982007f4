"""The import of what a chain needs, beside the event loop: web3 takes most of a second."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import cache
from threading import Thread


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
    with suppress(ImportError):
        import eth_account
        import web3

        del eth_account, web3
