"""What is on its way to each host: one that hangs must hold up nobody but itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

AT_ONE_HOST = 10
HANGS_AFTER_SECONDS = 1.0


@dataclass(slots=True)
class _Host:
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONE_HOST))
    began: dict[object, float] = field(default_factory=dict)
    users: int = 0

    def hangs(self, now: float) -> bool:
        return self.room.locked() and any(now - at > HANGS_AFTER_SECONDS for at in self.began.values())


class Receivers:
    """The hosts that are being sent to."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def enter(self, name: str) -> AsyncIterator[bool]:
        """Say whether something may be sent to a host now, and count it while this is entered.

        Waits a moment for what is on its way there already.
        """
        host = self._hosts.setdefault(name, _Host())
        host.users += 1
        try:
            if not await _wait_for_room(host):
                yield False
                return
            this = object()
            host.began[this] = asyncio.get_running_loop().time()
            try:
                yield True
            finally:
                del host.began[this]
                host.room.release()
        finally:
            host.users -= 1
            if not host.users:
                del self._hosts[name]


async def _wait_for_room(host: _Host) -> bool:
    if host.hangs(asyncio.get_running_loop().time()):
        return False
    try:
        async with asyncio.timeout(HANGS_AFTER_SECONDS):
            await host.room.acquire()
    except TimeoutError:
        return False
    return True
