"""What words of the command line mean, and what they must not be: numbers, ports, times, names."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from datetime import UTC, datetime

from gateway.cli.exits import UsageError

_LAST_PORT = 65535


def make_count(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that are not smaller."""

    def parse_count(text: str) -> int:
        number = _parse_int(text)
        if number is None or number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return number

    return parse_count


def parse_port(text: str) -> int:
    """Read a port. Raises ArgumentTypeError."""
    number = _parse_int(text)
    if number is None or not 0 <= number <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to {_LAST_PORT}")
    return number


def parse_seconds(text: str) -> float:
    """Read a time to wait, in seconds. Raises ArgumentTypeError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:  # nor is NaN, with which a wait would neither end nor go on
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def parse_name(text: str) -> str:
    """Read a word that is not empty, as an unset variable of the shell is. Raises ArgumentTypeError."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def parse_past(option: str, text: str) -> datetime:
    """Read how long ago: "12h", "30d". Raises UsageError."""
    from gateway.config import parse_duration

    try:
        return datetime.now(UTC) - parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    except OverflowError:
        raise UsageError(f"{option}: {text!r} is longer ago than any run can be") from None


def _parse_int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
