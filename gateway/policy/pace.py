"""How long to wait: for the next look at a job, and before the next try."""

from __future__ import annotations

from datetime import timedelta

FIRST_LOOK_SECONDS = 0.03
LONGEST_LOOK_SECONDS = 10.0
LONGEST_SILENT_LOOK_SECONDS = 60.0
SHARE_OF_AGE = 0.12


def get_look_delay(age_seconds: float, failures_in_a_row: int = 0) -> float:
    """Return the seconds until the next look at a job of that age.

    The first look comes after tens of milliseconds; later ones wait a fixed share of the job's age, so that a
    result is seen late by at most that share, with few looks per job. A backend that does not answer is asked
    ever more rarely.
    """
    delay = min(max(FIRST_LOOK_SECONDS, age_seconds * SHARE_OF_AGE), LONGEST_LOOK_SECONDS)
    return float(min(delay * 2 ** min(failures_in_a_row, 16), LONGEST_SILENT_LOOK_SECONDS))


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
