"""The connection on which PostgreSQL tells what other processes have committed."""

from __future__ import annotations

import asyncio

import psycopg
from psycopg import sql

from gateway.store.news import News
from gateway.store.postgres.address import Address

_PAUSE_SECONDS = 0.5


class Listener:
    """Passes notifications on to those who wait, and connects again when it is cut off."""

    def __init__(self, address: Address, news: News) -> None:
        self._address, self._news = address, news
        self._listening: asyncio.Task[None] | None = None

    def start(self, channel: str) -> None:
        """Begin to listen."""
        self._listening = asyncio.create_task(self._run(channel))

    async def stop(self) -> None:
        """Stop listening."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _run(self, channel: str) -> None:
        while True:
            try:
                await self._listen(channel)
            except psycopg.Error:  # whoever reads or writes says so; here it is enough to try again
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self, channel: str) -> None:
        async with await self._address.connect() as connection:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            self._news.is_live = True
            self._news.ring_all()  # what happened before is not told any more
            try:
                async for told in connection.notifies():
                    self._news.ring(told.payload.split(" "))
            finally:
                self._news.is_live = False
