"""A disk of its own for a test, small enough to be filled: a tmpfs, where the system lets us mount one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PIECE = b"\0" * 4096


class Disk:
    """Where it is mounted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        file = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                os.write(file, _PIECE)
        except OSError:
            return
        finally:
            os.close(file)

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink()

    def set_writable(self, *, writable: bool) -> None:
        """Mount it again; no file on it may be open for writing."""
        _mount("-o", f"remount,{'rw' if writable else 'ro'}", str(self.path))


@contextmanager
def mount_disk(folder: Path, size: str = "16m") -> Iterator[Disk]:
    """Mount one in a folder; skips the test where that is not allowed."""
    path = folder / "disk"
    path.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
