"""Gates in front of the backends: who must wait for room, waits his fair turn."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from gateway.clock import Clock
from gateway.errors import BackendError, Throttled
from gateway.policy.allowance import FIRST_PAUSE_SECONDS, Allowance
from gateway.policy.capacity import Capacity, Turns
from gateway.policy.routing import HELD
from gateway.types import RateLimit


class Waiter(Protocol):
    """One that waits for room, in an attempt's name, under the key whose turn it takes."""

    @property
    def attempt_id(self) -> str:
        """Whose place it will be."""

    @property
    def key(self) -> str:
        """Who shares one turn."""

    def enter(self) -> None:
        """Hear that the place is there, and taken."""


class Gate:
    """Lets submissions to one backend through, as its capacity allows."""

    def __init__(self, capacity: Capacity, clock: Clock) -> None:
        self._capacity = capacity
        self._clock = clock
        self._inside: set[str] = set()
        self._passed: deque[float] = deque()
        self._waiting: Turns[Waiter] = Turns()
        self._allowance = Allowance()
        self._opener: asyncio.Task[None] | None = None
        self._opens_at = 0.0

    @property
    def running(self) -> int:
        """How many jobs of ours are there now."""
        return len(self._inside)

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._waiting)

    def try_enter(self, attempt_id: str) -> bool:
        """Go through at once, if there is room and nobody waits."""
        if len(self._waiting) or self._get_wait() > 0:
            return False
        self._go_in(attempt_id)
        return True

    def queue(self, waiter: Waiter) -> None:
        """Let somebody wait for room; it may be there at once."""
        self._waiting.put(waiter.key, waiter)
        self._let_in()

    def give_up(self, waiter: Waiter) -> None:
        """Let somebody wait no longer who is not in."""
        self._waiting.remove(waiter.key, waiter)

    def put_in(self, attempt_id: str) -> None:
        """Count a job that is there already, from before a restart."""
        self._inside.add(attempt_id)

    def leave(self, attempt_id: str) -> None:
        """Make room: the attempt has ended."""
        self._inside.discard(attempt_id)
        self._allowance.give_up(attempt_id)
        self._let_in()

    def hear(self, attempt_id: str, error: BackendError | None, told: RateLimit | None) -> None:
        """Take in how a submission was answered, and what that tells of the backend's rate limit."""
        now = self._clock.monotonic()
        if isinstance(error, Throttled):
            asked = None if error.retry_after is None else error.retry_after.total_seconds()
            if error.unsent:
                self._allowance.give_up(attempt_id)
                self._allowance.close(now + (asked or FIRST_PAUSE_SECONDS))
            else:
                self._allowance.note_refused(attempt_id, asked, told, now)
        else:
            self._allowance.note_taken(attempt_id, told, now)
        self._let_in()

    def tell_held(self) -> tuple[str, str] | None:
        """Return why nothing may be submitted there now, as (rule, reason), or None."""
        seconds = self._allowance.get_hold(self._clock.monotonic())
        if seconds <= 0:
            return None
        return HELD, f"its rate limit is used up; it takes more in {seconds:.1f} s"

    def stop(self) -> None:
        """End the wait for the next opening."""
        if self._opener is not None:
            self._opener.cancel()

    def _let_in(self) -> None:
        while len(self._waiting):
            wait = self._get_wait()
            if wait > 0:
                if wait < math.inf:
                    self._open_later(wait)
                return
            next_one = self._waiting.take()
            if next_one is not None:
                self._go_in(next_one.attempt_id)
                next_one.enter()

    def _go_in(self, attempt_id: str) -> None:
        self._inside.add(attempt_id)
        self._allowance.begin(attempt_id, self._clock.monotonic())
        if self._capacity.submissions is not None:
            self._passed.append(self._clock.monotonic())

    def _get_wait(self) -> float:
        """Return the seconds until the next may go in; infinity where somebody has to leave before."""
        if self._capacity.max_in_flight is not None and len(self._inside) >= self._capacity.max_in_flight:
            return math.inf
        now = self._clock.monotonic()
        wait = self._allowance.get_wait(now)
        most, seconds = self._capacity.submissions, self._capacity.per_seconds
        while self._passed and self._passed[0] <= now - seconds:
            self._passed.popleft()
        if most is not None and len(self._passed) >= most:
            wait = max(wait, self._passed[-most] + seconds - now)
        return wait

    def _open_later(self, seconds: float) -> None:
        at = self._clock.monotonic() + seconds
        if self._opener is not None and at < self._opens_at:
            self._opener.cancel()
            self._opener = None
        if self._opener is None or self._opener.done():
            self._opens_at = at

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
