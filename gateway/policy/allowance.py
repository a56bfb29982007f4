"""What a backend's own answers let through: the limits that it tells, and those that only its 429s show.

It is asked and told with times in monotonic seconds, and knows no clock.
"""

from __future__ import annotations

import math

from gateway.types import RateLimit

FIRST_AT_ONCE = 16
"""So many submissions may be without an answer while nothing is known; each answer lets one more in."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_HOLD_SECONDS = 900.0
"""However far away a reset is said to be, one submission tries it after that time."""
_MARGIN_SECONDS = 1.0  # resets are told in whole seconds, cut down
_SLOW_SECONDS = 1.0  # a refusal comes sooner: who has no answer by then is slow, and no reason to wait
_MANY_AT_ONCE = 256


class Allowance:
    """How many submissions a backend takes now, as far as its answers tell."""

    def __init__(self) -> None:
        """Make it ignorant."""
        self._closed_until = -math.inf
        self._left: int | None = None
        self._fresh_at = -math.inf
        self._sent: dict[str, float] = {}
        self._at_once: float = FIRST_AT_ONCE
        self._pause = FIRST_PAUSE_SECONDS
        self._taken = 0
        self._enough: int | None = None  # so many were taken before the last 429: beyond, it feels its way
        self._heard: RateLimit | None = None

    def get_hold(self, now: float) -> float:
        """Return the seconds for which it has said, or shown by a 429, that it takes nothing."""
        if self._left is not None and now >= self._fresh_at:
            self._at_once = 1 if self._left <= 0 else FIRST_AT_ONCE  # one tries what is let in anew
            self._left = None
        used_up = self._fresh_at - now if self._left is not None and self._left <= 0 else 0.0
        return max(0.0, used_up, self._closed_until - now)

    def get_wait(self, now: float) -> float:
        """Return the seconds until the next may be sent, if no answer comes before; 0 if it may go."""
        hold = self.get_hold(now)
        if hold > 0 or self._left is not None:
            return hold
        feeling = self._enough is not None and self._taken + len(self._sent) >= self._enough
        at_once = 1 if feeling else self._at_once
        if len(self._sent) < at_once:
            return 0.0
        recent = [at for at in self._sent.values() if now - at < _SLOW_SECONDS]
        return min(recent) + _SLOW_SECONDS - now if len(recent) >= at_once else 0.0

    def begin(self, attempt_id: str, now: float) -> None:
        """Note that one goes."""
        self._sent[attempt_id] = now
        if self._left is not None:
            self._left -= 1

    def give_up(self, attempt_id: str) -> None:
        """Note that one that went was not sent after all; nothing if it was answered."""
        if self._sent.pop(attempt_id, None) is not None and self._left is not None:
            self._left += 1

    def note_taken(self, attempt_id: str, told: RateLimit | None, now: float) -> None:
        """Note that one was taken, or at least not refused for its rate; `told` is what the answer said."""
        self._sent.pop(attempt_id, None)
        self._pause = FIRST_PAUSE_SECONDS
        self._taken += 1
        if self._at_once < _MANY_AT_ONCE:
            self._at_once += 1
        else:
            self._at_once = math.inf
        self._heed(told, now)

    def note_refused(
        self, attempt_id: str, asked_seconds: float | None, told: RateLimit | None, now: float
    ) -> None:
        """Note a 429, and how long the backend asked to wait, if it did."""
        self._sent.pop(attempt_id, None)
        reset = _get_reset(told) if told is not None else None
        wait = asked_seconds if asked_seconds is not None else reset or 0.0
        self._heard, self._left = told, None
        wait = max(wait, self._pause)
        if now >= self._closed_until:  # the first of a burst
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            if self._taken:
                self._enough, self._taken = self._taken, 0
        self._at_once = 1
        self.close(now + wait)

    def close(self, until: float) -> None:
        """Let nobody through before that time."""
        self._closed_until = max(self._closed_until, until)

    def _heed(self, told: RateLimit | None, now: float) -> None:
        if told is None or told is self._heard:  # it is news once
            return
        self._heard = told
        reset = _get_reset(told)
        self._left = told.remaining - len(self._sent)
        self._fresh_at = now + (self._pause if reset is None else reset)


def _get_reset(told: RateLimit) -> float | None:
    if told.reset_in is None:
        return None
    return min(told.reset_in.total_seconds() + _MARGIN_SECONDS, LONGEST_HOLD_SECONDS)
