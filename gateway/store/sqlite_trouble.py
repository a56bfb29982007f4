"""What a failing SQLite file means, and what to do about it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.errors import StoreError

_DAMAGED = "it is damaged: end all processes that use it, then restore a backup or what `.recover` finds"
_CLOSED = "make the file and its folder readable and writable for this user"
_ADVICE = {
    sqlite3.SQLITE_FULL: "free some space on its disk",
    sqlite3.SQLITE_BUSY: "another program holds it: end that, or let it finish",
    sqlite3.SQLITE_LOCKED: "another program holds it: end that, or let it finish",
    sqlite3.SQLITE_READONLY: _CLOSED,
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_PERM: _CLOSED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_IOERR: "its disk is full, or fails: free some space, or look into the system's log",
}
# After these a connection may never work again, whatever becomes of the file.
_SPOILING = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
    }
)


def explain(path: Path, error: Exception) -> StoreError:
    """Return the error for those who wait for the store: what happened, and what to do."""
    kind = "" if isinstance(error, sqlite3.Error | OSError) else f"{type(error).__name__}: "
    advice = _ADVICE.get(_get_code(error), "")
    failure = StoreError(f"the store {path} refused: {kind}{error}{advice and f'; {advice}'}")
    failure.__cause__ = error
    return failure


def is_spoiling(error: object) -> bool:
    """Say whether the file must be opened anew before it can work again."""
    return isinstance(error, FileGone) or _get_code(error) in _SPOILING


def is_general(error: Exception) -> bool:
    """Say whether it is about the whole file, and not about what was to be written."""
    return isinstance(error, sqlite3.OperationalError | OSError) or type(error) is sqlite3.DatabaseError


class FileGone(OSError):
    """The store's file is not where it was: what would be written now would be lost with the old one."""


def get_identity(path: Path) -> tuple[int, int]:
    """Return what tells a file from another one of its name. Raises OSError."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def check_identity(path: Path, identity: tuple[int, int]) -> None:
    """Raise FileGone if another file, or none, is at a path by now.

    SQLite itself goes on writing into a file that was moved or deleted, and nobody would ever read that.
    """
    try:
        found: tuple[int, int] | None = get_identity(path)
    except OSError:
        found = None
    if found != identity:
        what = "is gone" if found is None else "was replaced by another one"
        raise FileGone(f"its file {what}; put it back, or end all processes that use it")


def _get_code(error: object) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF  # the rest tells more than is needed here
