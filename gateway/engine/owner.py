"""Who this process is, to others that share the store."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import uuid
from collections.abc import Iterable
from pathlib import Path


def make_owner() -> str:
    """Return a name for this gateway instance: place, process, and a mark that no other instance has."""
    return f"{_get_place()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


def find_dead(owners: Iterable[str]) -> list[str]:
    """Return the owners that were processes of this place and are no more: their runs need no waiting."""
    place = _get_place()
    dead: list[str] = []
    for owner in owners:
        owner_place, _, rest = owner.partition(":")
        pid = rest.partition(":")[0]
        if owner_place == place and pid.isdigit() and not _is_alive(int(pid)):
            dead.append(owner)
    return dead


@functools.cache
def _get_place() -> str:
    """Return where process numbers mean the same as here: the host, since it was started, and the container.

    Two containers may have one host name, and each its own process 7.
    """
    marks: list[str] = []
    with contextlib.suppress(OSError):  # only Linux has them
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        marks.append(str(Path("/proc/self/ns/pid").readlink()))
    mark = hashlib.sha256("".join(marks).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}-{mark}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Say whether a process has ended and only waits for its parent to notice it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] == ["Z"]
