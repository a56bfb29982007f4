"""What holds transactions together: those that are broadcast in one moment, and the versions of one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.chain.prepared import Prepared
from gateway.clock import Clock

_WAIT_SECONDS = 0.1  # so long is waited for those that are about to broadcast too: one request for all
_COMING_SECONDS = 1.0  # and no longer for one of them: a slow upload


class Muster:
    """Lets those that are about to broadcast go together; nobody waits where nobody is coming."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._coming: dict[str, float] = {}  # owners, with the monotonic time
        self._waiting: asyncio.Task[None] | None = None

    @contextmanager
    def expect(self, owner: str) -> Iterator[None]:
        """Count on a broadcast of this owner, unless the block raises."""
        self._coming[owner] = self._clock.monotonic()
        try:
            yield
        except BaseException:
            self._coming.pop(owner, None)
            raise

    async def join(self, owner: str) -> None:
        """Wait a moment for the others that are coming."""
        self._coming.pop(owner, None)
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._wait_for_others())
        await asyncio.shield(self._waiting)

    async def _wait_for_others(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _WAIT_SECONDS
        while loop.time() < until:
            limit = self._clock.monotonic() - _COMING_SECONDS
            self._coming = {owner: since for owner, since in self._coming.items() if since > limit}
            if not self._coming:
                return
            await asyncio.sleep(_WAIT_SECONDS / 20)


class Versions:
    """Under which hashes an act may land: as it was signed first, or as what replaced it for higher fees.

    This is a memory, not the proof: after a restart `gateway.chain.whereabouts` finds a replacement by its
    nonce and by what it does.
    """

    def __init__(self) -> None:
        self._hashes: dict[str, list[str]] = {}  # by the hash that was signed first
        self._newest: dict[str, Prepared] = {}

    def list_hashes(self, first: Prepared) -> list[str]:
        """Return the hashes to look for."""
        return [first.hash, *self._hashes.get(first.hash, ())]

    def get_newest(self, first: Prepared) -> Prepared:
        """Return what is sent again on doubt: the last replacement, as far as this process made one."""
        return self._newest.get(first.hash, first)

    def has_replaced(self, first: Prepared) -> bool:
        """Say whether this process has replaced it."""
        return first.hash in self._newest

    def put(self, first: Prepared, newest: Prepared) -> None:
        """Note a replacement, before it is sent."""
        self._newest[first.hash] = newest
        self.note_hash(first, newest.hash)

    def note_hash(self, first: Prepared, found: str) -> None:
        """Note that the act was seen under a hash."""
        if found not in self.list_hashes(first):
            self._hashes.setdefault(first.hash, []).append(found)
