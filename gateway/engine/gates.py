"""Gates in front of the backends: who must wait for room, waits his fair turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from gateway.clock import Clock
from gateway.policy.capacity import Capacity, Turns

_Waiter = asyncio.Future[None]


class Gate:
    """Lets submissions to one backend through, as its capacity allows."""

    def __init__(self, capacity: Capacity, clock: Clock) -> None:
        self._capacity = capacity
        self._clock = clock
        self._inside: set[str] = set()
        self._passed: deque[float] = deque()
        self._waiting: Turns[tuple[str, _Waiter]] = Turns()
        self._closed_until = 0.0
        self._opener: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """How many jobs of ours are there now."""
        return len(self._inside)

    def try_enter(self, attempt_id: str) -> bool:
        """Go through at once, if there is room and nobody waits."""
        if len(self._waiting) or not self._has_room() or self._get_wait() > 0:
            return False
        self._go_in(attempt_id)
        return True

    async def enter(self, attempt_id: str, key: str) -> None:
        """Wait for room; `key` is whose turn it takes. Cancelling the wait gives the place up."""
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiting.put(key, (attempt_id, waiter))
        self._let_in()
        try:
            await waiter
        except asyncio.CancelledError:
            self._waiting.remove(key, (attempt_id, waiter))
            self.leave(attempt_id)
            raise

    def put_in(self, attempt_id: str) -> None:
        """Count a job that is there already, from before a restart."""
        self._inside.add(attempt_id)

    def leave(self, attempt_id: str) -> None:
        """Make room: the attempt has ended."""
        self._inside.discard(attempt_id)
        self._let_in()

    def close_for(self, seconds: float) -> None:
        """Let nobody through for a while: the backend asked for it."""
        self._closed_until = max(self._closed_until, self._clock.monotonic() + seconds)

    def stop(self) -> None:
        """End the wait for the next opening."""
        if self._opener is not None:
            self._opener.cancel()

    def _let_in(self) -> None:
        while len(self._waiting) and self._has_room():
            wait = self._get_wait()
            if wait > 0:
                self._open_later(wait)
                return
            next_one = self._waiting.take()
            if next_one is not None and not next_one[1].done():
                self._go_in(next_one[0])
                next_one[1].set_result(None)

    def _has_room(self) -> bool:
        most = self._capacity.max_in_flight
        return most is None or len(self._inside) < most

    def _go_in(self, attempt_id: str) -> None:
        self._inside.add(attempt_id)
        if self._capacity.submissions is not None:
            self._passed.append(self._clock.monotonic())

    def _get_wait(self) -> float:
        now = self._clock.monotonic()
        wait = self._closed_until - now
        most, seconds = self._capacity.submissions, self._capacity.per_seconds
        while self._passed and self._passed[0] <= now - seconds:
            self._passed.popleft()
        if most is not None and len(self._passed) >= most:
            wait = max(wait, self._passed[-most] + seconds - now)
        return wait

    def _open_later(self, seconds: float) -> None:
        if self._opener is None or self._opener.done():

            async def open_then() -> None:
                await self._clock.sleep(seconds)
                self._opener = None
                self._let_in()

            self._opener = asyncio.create_task(open_then())


class Gates:
    """The gates of all backends."""

    def __init__(self, capacities: Mapping[str, Capacity], clock: Clock) -> None:
        self._capacities = capacities
        self._clock = clock
        self._gates: dict[str, Gate] = {}

    def get(self, backend: str) -> Gate:
        """Return a backend's gate; one without a configured capacity only closes when it is asked to."""
        if backend not in self._gates:
            self._gates[backend] = Gate(self._capacities.get(backend, Capacity()), self._clock)
        return self._gates[backend]

    def stop(self) -> None:
        """End every wait for an opening."""
        for gate in self._gates.values():
            gate.stop()
