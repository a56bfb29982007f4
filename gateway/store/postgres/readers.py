"""A few connections that are read through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.errors import StoreError
from gateway.store.postgres.address import Address, Connection, cut_off

T = TypeVar("T")
_MOST_CONNECTIONS = 3


class Readers:
    """Lends connections out; one that failed is thrown away, and the reading is done again."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._free = asyncio.Semaphore(_MOST_CONNECTIONS)
        self._idle: list[Connection] = []
        self._is_open = False

    def start(self) -> None:
        """Begin to lend."""
        self._is_open = True

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something that only reads. Raises StoreError."""
        return await self._address.keep_trying(lambda: self._read_once(work))

    async def _read_once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._free:
            if not self._is_open:
                raise StoreError(f"the store {self._address} is not open")
            connection = self._idle.pop() if self._idle else await self._address.connect()
            try:
                with cut_off(connection):
                    found = await work(connection)
            except BaseException:
                await connection.close()
                raise
            self._idle.append(connection)
            return found

    async def stop(self) -> None:
        """Wait for what is lent, and close everything."""
        self._is_open = False
        for _ in range(_MOST_CONNECTIONS):
            await self._free.acquire()
        for connection in self._idle:
            await connection.close()
        self._idle.clear()
        self._free = asyncio.Semaphore(_MOST_CONNECTIONS)
