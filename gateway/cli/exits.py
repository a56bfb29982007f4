"""What a shell gets to know: one exit status and one sentence."""

from __future__ import annotations

import errno

from gateway.cli.words import clean
from gateway.errors import BackendError, GatewayError, NoBackend, RunFailed, WaitTimeout

DONE = 0
RUN_FAILED = 1
WRONG = 2
NO_BACKEND = 3
GOES_ON = 4
DEFECT = 70  # EX_SOFTWARE of sysexits.h
UNWRITTEN = 74  # and its EX_IOERR
INTERRUPTED = 130  # what shells say of a program that SIGINT ended,
UNREAD = 141  # and of one that SIGPIPE ended


_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class UsageError(GatewayError):
    """The command line is wrong; nothing was done."""


def choose_exit(error: BaseException) -> int:
    """Return the exit status for an error."""
    if isinstance(error, RunFailed):
        return RUN_FAILED
    if isinstance(error, NoBackend | BackendError):
        return NO_BACKEND
    if isinstance(error, WaitTimeout):
        return GOES_ON
    if _is_unwritten(error):
        return UNWRITTEN
    return WRONG if isinstance(error, GatewayError) else DEFECT


def describe_error(error: BaseException) -> str:
    """Return one sentence for a person."""
    if isinstance(error, GatewayError):
        return clean(str(error))
    if _is_unwritten(error):
        return f"its output can't be written: {error}; what was run is kept: `gateway runs`, `gateway get`"
    return clean(f"this is a defect of the gateway: {type(error).__name__}: {error} (--debug shows where)")


def _is_unwritten(error: BaseException) -> bool:
    """Say whether it is our own output that has no place; for files of their own all others have words."""
    return isinstance(error, OSError) and error.filename is None and error.errno in _NO_PLACE
