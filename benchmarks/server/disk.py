"""What the disk itself takes: a durable call can't be faster."""

from __future__ import annotations

import os
import tempfile
import time
from statistics import median

_TIMES = 100
_PAGE = bytes(4096)


def measure_sync_ms() -> float:
    """Return the median ms of writing a page and having it on the disk, where the server's store is."""
    took: list[float] = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(_TIMES):
            began = time.perf_counter()
            file.write(_PAGE)
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1e3)
    return median(took)
