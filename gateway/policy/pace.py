"""How long to wait: for the next look at a job, and before the next try."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

FIRST_LOOK_SECONDS = 0.01
SHORT_LOOK_SECONDS = 0.03
LONGEST_LOOK_SECONDS = 10.0
LONGEST_SILENT_LOOK_SECONDS = 60.0
SHARE_OF_AGE = 0.12

SHORTEST_LOOK_SECONDS = 0.002
STEPS_WHILE_USUAL = 12  # at most so many looks fall into the time in which most jobs end
FINEST_SHARE = 0.004
_GROWTH_BEFORE = 3.0
_BEYOND = 0.15  # of the jobs are out of the usual, on each side
_KEPT_JOBS = 16


@dataclass(frozen=True, slots=True)
class Usual:
    """When jobs of one model usually end at one backend, in seconds after their submission.

    Attributes:
        early: six in seven still run then.
        late: six in seven have ended.
    """

    early: float
    late: float


class Pace:
    """Learns when the jobs of one model end at one backend, from the newest of them."""

    def __init__(self) -> None:
        """Make it ignorant."""
        self._ends: list[tuple[float, float]] = []
        self._too_late = 0
        self.usual: Usual | None = None

    def note(self, seconds: float, ran_until: float = 0.0) -> None:
        """Learn that a job ended between two looks, both told by its age.

        Args:
            seconds: its age at the look that found it ended.
            ran_until: its age at the look before, which found it running; 0 if there was none.
        """
        known = self.usual
        if known is not None and ran_until < known.early <= seconds:
            # It ended before the usual time began: the next is looked at sooner, and ever sooner if need be.
            self._too_late += 1
            back = _get_finest_step(seconds, known) * 2**self._too_late
            ran_until = max(ran_until, known.early - back)
        else:
            self._too_late = 0
        newest = (ran_until, seconds)
        # What was seen roughly is taken to have been like what is seen closely now.
        ends = self._ends[-_KEPT_JOBS + 1 :]
        self._ends = [newest if end[0] <= ran_until and seconds <= end[1] else end for end in ends]
        self._ends.append(newest)
        beyond = round((len(self._ends) - 1) * _BEYOND)
        lows = sorted([low for low, _ in self._ends])
        highs = sorted([high for _, high in self._ends])
        self.usual = Usual(lows[beyond], highs[-1 - beyond])


def get_first_delay(age_seconds: float, usual: Usual | None) -> float:
    """Return the seconds until the first look at a job: none if it may have ended, for all that is known."""
    if usual is None or age_seconds >= usual.early:
        return 0.0
    return get_look_delay(age_seconds, 0, usual)


def get_look_delay(age_seconds: float, failures_in_a_row: int = 0, usual: Usual | None = None) -> float:
    """Return the seconds until the next look at a job of that age, after one that found it running.

    Where nothing is known, looks come after tens of milliseconds, and later ones wait a fixed share of the
    job's age, so that a result is seen late by at most that share, with few looks per job. Where it is known
    when such jobs end, there are a few looks before, for those that fail early, and then small steps until
    most have ended. A backend that does not answer is asked ever more rarely.
    """
    share = max(min(max(FIRST_LOOK_SECONDS, age_seconds), SHORT_LOOK_SECONDS), age_seconds * SHARE_OF_AGE)
    if usual is None or age_seconds > usual.late * 2:
        delay = share
    elif age_seconds < usual.early:
        delay = _get_early_delay(age_seconds, usual.early - age_seconds)
    else:
        overdue = (age_seconds - usual.late) / 2
        delay = min(max(_get_finest_step(age_seconds, usual), overdue), share)
    delay = min(delay, LONGEST_LOOK_SECONDS)
    return float(min(delay * 2 ** min(failures_in_a_row, 16), LONGEST_SILENT_LOOK_SECONDS))


def _get_finest_step(age_seconds: float, usual: Usual) -> float:
    spread = (usual.late - usual.early) / STEPS_WHILE_USUAL
    return max(SHORTEST_LOOK_SECONDS, age_seconds * FINEST_SHARE, spread)


def _get_early_delay(age_seconds: float, left_seconds: float) -> float:
    delay = min(max(SHORT_LOOK_SECONDS, age_seconds * _GROWTH_BEFORE), LONGEST_LOOK_SECONDS)
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
