"""Where and when a measurement was made."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

COMMAND = "python -m benchmarks.lost_answer"


@dataclass(frozen=True, slots=True)
class Place:
    """What a reader must know to compare: the command, and lines about machine, versions and day."""

    command: str
    lines: tuple[str, ...]


def read_place(day: date) -> Place:
    """Look around."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {_read_cpu()}"
    parts = [f"{name} {version(name)}" for name in ("inference-gateway", "httpx2", "httptools")]
    return Place(
        COMMAND,
        (
            f"Date: {day.isoformat()}",
            f"Machine: {machine}",
            f"Versions: Python {sys.version}, {', '.join(parts)}; the others' are in the table",
        ),
    )


def _read_cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "CPU unknown"
