"""Whether a gateway can still be used, and where: from its first call to its close, in one event loop."""

from __future__ import annotations

import asyncio

from gateway.errors import Unusable


class Lifetime:
    """Knows the event loop of a gateway's first call, and whether it takes calls and works on runs."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._takes_calls = self._works = True

    def require_use(self) -> None:
        """Take note of the loop of the first call. Raises Unusable in any other, and after the close."""
        loop = asyncio.get_running_loop()
        if not self._takes_calls:
            raise Unusable("this gateway is closed: make another")
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise Unusable(
                "this gateway belongs to another event loop: make one in each (each asyncio.run has its own)"
            )

    def require_work(self, run_id: str) -> None:
        """Raise Unusable if nobody here works on runs any more, and so nobody could wait for one."""
        if not self._works:
            raise Unusable(f"the gateway was closed; run {run_id} goes on where its store is opened again")

    def refuse_calls(self) -> None:
        """Note that the close has begun."""
        self._takes_calls = False

    def end(self) -> None:
        """Note that the work has ended."""
        self._works = False
