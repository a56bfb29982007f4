"""The stores of the matrix."""

from __future__ import annotations

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


SQLITE = Place("sqlite", _open_sqlite)
PLACES: tuple[Place, ...] = (SQLITE,)
