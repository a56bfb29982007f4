"""A terminal in which the command `gateway` is typed, and a devnet to type it at: real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Terminal:
    """A working folder in which the command `gateway` is typed."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | options
        command = [sys.executable, "-m", "gateway", *words]
        process = subprocess.Popen(command, cwd=self.folder, text=True, **options)
        self.started.append(process)
        return process

    def close(self) -> None:
        """End what a failed test has left running."""
        while self.started:
            process = self.started.pop()
            if process.poll() is None:
                kill(process)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def type(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", *words],
            cwd=self.folder,
            input=given or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    def say(self, *words: str, given: str | None = None) -> str:
        """Type a command that must do what it says; return what it prints on stdout."""
        done = self.type(*words, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, *words: str, given: str | None = None) -> Any:
        """As `say`, for commands that print JSON."""
        return json.loads(self.say(*words, "--json", given=given))

    def list_accepted(self, key: str, value: object) -> list[Any]:
        """Return what the devnet accepted of inputs that have this value."""
        lines = self.ask("devnet", "journal")
        return [line for line in lines if isinstance(line["input"], dict) and line["input"].get(key) == value]


def wait_until(is_it: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_it():
        assert time.monotonic() < end, f"never came to this: {what}"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    """End a process as nobody can prepare for."""
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == -signal.SIGKILL


def read_until(lines: Any, word: str) -> str:
    """Read a process's lines up to one with that word."""
    for line in lines:
        if word in line:
            return str(line)
    raise AssertionError(f"it ended without saying {word!r}")


@contextmanager
def running_devnet(folder: Path, *words: str) -> Iterator[Terminal]:
    process = Terminal(folder).start("devnet", "up", *words)
    try:
        read_until(process.stdout, "ends it")
        yield Terminal(folder)
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, ""), f"the devnet ended {process.returncode}: {errors}"
