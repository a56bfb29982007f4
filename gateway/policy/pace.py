"""How long to wait: for the next look at a job, and before the next try."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import timedelta

FIRST_LOOK_SECONDS = 0.03
LONGEST_LOOK_SECONDS = 10.0
LONGEST_SILENT_LOOK_SECONDS = 60.0
SHARE_OF_AGE = 0.12

SHORTEST_LOOK_SECONDS = 0.005
STEPS_WHILE_USUAL = 12  # at most so many looks fall into the time in which most jobs end
_FINEST_SHARE = 0.01
_BEFORE_THE_EARLIEST = 0.97
_GROWTH_BEFORE = 3.0
_STEP_BACK = 0.04
_MOST_DOUBLINGS = 3
_BEYOND = 0.15  # of the jobs are out of the usual, on each side
_KEPT_TIMES = 32


@dataclass(frozen=True, slots=True)
class Usual:
    """When jobs of one model usually end at one backend, in seconds after their submission.

    Attributes:
        early: a little before the time at which one in seven is done.
        late: six in seven are.
    """

    early: float
    late: float


class Pace:
    """Learns when the jobs of one model end at one backend, from the newest of them."""

    def __init__(self) -> None:
        """Make it ignorant."""
        self._times: deque[float] = deque(maxlen=_KEPT_TIMES)
        self._too_late = 0
        self.usual: Usual | None = None

    def note(self, seconds: float, ran_until: float = 0.0) -> None:
        """Learn that a job's result was seen after so many seconds.

        Args:
            seconds: its age when the result was there.
            ran_until: its age at the last look before, 0 if there was none. It ended somewhere between.
        """
        if self.usual is not None and ran_until < self.usual.early:
            # It was there at the first look of the usual time: we look too late, by what is not known.
            step = _STEP_BACK * 2 ** min(self._too_late, _MOST_DOUBLINGS)
            self._times.append(max((ran_until + seconds) / 2, seconds * (1 - step)))
            self._too_late += 1
        else:
            self._times.append((max(ran_until, seconds * (1 - SHARE_OF_AGE)) + seconds) / 2)
            self._too_late = 0
        ordered = sorted(self._times)
        last = len(ordered) - 1
        beyond = round(last * _BEYOND)
        self.usual = Usual(ordered[beyond] * _BEFORE_THE_EARLIEST, ordered[last - beyond])


def get_look_delay(age_seconds: float, failures_in_a_row: int = 0, usual: Usual | None = None) -> float:
    """Return the seconds until the next look at a job of that age.

    Where nothing is known, the first look comes after tens of milliseconds, and later ones wait a fixed share
    of the job's age, so that a result is seen late by at most that share, with few looks per job. Where it is
    known when such jobs end, there are a few looks before, for those that fail early, and then small steps
    until most have ended. A backend that does not answer is asked ever more rarely.
    """
    share = max(FIRST_LOOK_SECONDS, age_seconds * SHARE_OF_AGE)
    if usual is None or age_seconds > usual.late * 2:
        delay = share
    elif age_seconds < usual.early:
        delay = _get_early_delay(age_seconds, usual.early - age_seconds)
    else:
        spread = (usual.late - usual.early) / STEPS_WHILE_USUAL
        overdue = (age_seconds - usual.late) / 2
        step = max(SHORTEST_LOOK_SECONDS, age_seconds * _FINEST_SHARE, spread, overdue)
        delay = min(step, share)
    delay = min(delay, LONGEST_LOOK_SECONDS)
    return float(min(delay * 2 ** min(failures_in_a_row, 16), LONGEST_SILENT_LOOK_SECONDS))


def _get_early_delay(age_seconds: float, left_seconds: float) -> float:
    delay = min(max(FIRST_LOOK_SECONDS, age_seconds * _GROWTH_BEFORE), LONGEST_LOOK_SECONDS)
    # No look just before the one that counts.
    return max(SHORTEST_LOOK_SECONDS, left_seconds) if left_seconds < delay * 1.5 else delay


def get_retry_delay(
    previous_seconds: float,
    dice: float,
    retry_after: timedelta | None,
    *,
    base: float = 0.2,
    cap: float = 30.0,
) -> float:
    """Return the seconds before the next try: decorrelated jitter, capped, never less than the backend asked.

    Args:
        previous_seconds: what this returned the last time, 0 at first.
        dice: a number in [0, 1), thrown by the caller.
        retry_after: what the backend asked for.
        base: the least.
        cap: the most, unless the backend asked for more.
    """
    delay = min(cap, base + dice * max(0.0, previous_seconds * 3 - base))
    return max(delay, retry_after.total_seconds() if retry_after else 0.0)
