"""Tasks that are being taken in without an idempotency key: whoever sends one again waits for the first."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.task import Task


class Taking:
    """Those of this process, each with whose it is."""

    def __init__(self) -> None:
        self._under_way: dict[asyncio.Event, tuple[str | None, Task]] = {}

    @contextmanager
    def note(self, api_key: str | None, task: Task) -> Iterator[None]:
        """Have it found while this is entered."""
        over = asyncio.Event()
        self._under_way[over] = api_key, task
        try:
            yield
        finally:
            del self._under_way[over]
            over.set()

    def find(self, name: str) -> asyncio.Event | None:
        """Return what tells that one of this name is stored, or refused; None if there is none."""
        for over, (api_key, task) in self._under_way.items():
            if name_sending(api_key, task) == name:
                return over
        return None


def name_sending(api_key: str | None, task: Task) -> str:
    """Return what a caller's task is known by, streamed or not, in all workers of a server."""
    whose = "" if api_key is None else f"/{api_key}"
    text = task.replace(stream=False).model_dump_json()
    return hashlib.sha256(f"{whose}\n".encode() + text).hexdigest()
