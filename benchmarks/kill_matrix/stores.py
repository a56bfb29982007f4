"""The stores of the matrix."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of store; `open` makes an empty one in a folder and yields its URL."""

    name: str
    open: Callable[[Path], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def _open_sqlite(folder: Path) -> AsyncIterator[str]:
    yield f"sqlite:///{folder / 'runs.db'}"


@asynccontextmanager
async def _open_postgres(_folder: Path) -> AsyncIterator[str]:
    from gateway.testing.postgres import LocalPostgres

    server = LocalPostgres()
    try:
        await asyncio.to_thread(server.start)
        yield await asyncio.to_thread(server.make_url, "kill_matrix")
    finally:
        await asyncio.to_thread(server.close)


SQLITE = Place("sqlite", _open_sqlite)
POSTGRES = Place("postgresql", _open_postgres)
PLACES: tuple[Place, ...] = (SQLITE, POSTGRES)
