"""What an answer's headers say of a rate limit, in each of the ways that are in use. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from gateway.types import RateLimit

_EPOCH_FROM = 1e9  # seconds: a reset beyond 30 years is a date
_MILLISECONDS_FROM = 1e12
_LONGEST_SECONDS = 366 * 86_400.0
_NUMBER = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*(?:;.*)?")
_QUOTED = re.compile(r'"[^"]*"')
_SHORT = {"remaining": "r", "reset": "t"}
_PARAMETER = re.compile(r"(?:^|[;,\s])(r|t|remaining|reset)\s*=\s*(\d{1,15})", re.ASCII)


def parse_rate_limit(headers: Mapping[str, str], *, now: datetime | None = None) -> RateLimit | None:
    """Read `RateLimit`, `RateLimit-Remaining/-Reset` or `X-RateLimit-Remaining/-Reset`, in this order.

    Where several limits are told, the one of which least is left counts, and of these the longest.

    Args:
        headers: with names in lower case.
        now: what a reset that is a date is held against, unless the answer has a Date; default: our clock.

    Returns:
        None if nothing is told of what is left, or nothing that can be read.
    """
    found = _parse_structured(headers.get("ratelimit", ""))
    if found is not None:
        return found
    for prefix in ("ratelimit", "x-ratelimit"):
        remaining = _parse_numbers(headers.get(f"{prefix}-remaining"))
        if remaining:
            resets = _parse_numbers(headers.get(f"{prefix}-reset"))
            at = _parse_date(headers.get("date")) or now or datetime.now(UTC)
            waits = [_tell_seconds(reset, at) for reset in resets]
            return RateLimit(int(min(remaining)), _make_wait(max(waits)) if waits else None)
    return None


def _parse_structured(value: str) -> RateLimit | None:
    """Read `"a";r=5;t=30, "b";r=1;t=60`, or as older drafts have it: `limit=10, remaining=5, reset=30`."""
    names_left_out = _QUOTED.sub("", value)
    told: list[tuple[int, float]] = []
    for item in [value] if "remaining" in names_left_out else names_left_out.split(","):
        found = _PARAMETER.findall(item)
        words = {_SHORT.get(name, name): int(number) for name, number in found}
        if "r" in words:
            told.append((words["r"], float(words.get("t", -1))))
    if not told:
        return None
    remaining, reset = min(told, key=lambda one: (one[0], -one[1]))
    return RateLimit(remaining, None if reset < 0 else _make_wait(reset))


def _parse_numbers(value: str | None) -> list[float]:
    """Read numbers between commas; parameters after them are left alone."""
    if value is None:
        return []
    return [float(match[1]) for part in value.split(",") if (match := _NUMBER.fullmatch(part))]


def _tell_seconds(reset: float, at: datetime) -> float:
    if reset < _EPOCH_FROM:
        return reset
    return max(0.0, (reset / 1000 if reset >= _MILLISECONDS_FROM else reset) - at.timestamp())


def _make_wait(seconds: float) -> timedelta:
    return timedelta(seconds=math.ceil(min(seconds, _LONGEST_SECONDS) * 1000) / 1000)


def _parse_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
