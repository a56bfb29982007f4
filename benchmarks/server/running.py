"""Running one server: on a core of its own, until it answers, with the CPU time that it has used."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import make_variables
from benchmarks.server.contestants import CHAT_PATH, Contestant, make_body

_READY_SECONDS = 120.0
_PAUSE_SECONDS = 0.01
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
SERVERS_CORE = 0
OTHERS_CORE = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        url: of chat completions.
        headers: that its clients send.
        session: of its processes.
    """

    url: str
    headers: Mapping[str, str]
    session: int

    def get_cpu_seconds(self) -> float:
        """Return what its processes have used, all threads."""
        return sum(used for used, _ in self._read()) / _TICKS

    def get_memory_mb(self) -> float:
        """Return the resident set of its processes."""
        return sum(pages for _, pages in self._read()) * _PAGE_BYTES / 1e6

    def _read(self) -> Iterator[tuple[int, int]]:
        """Yield the ticks and the resident pages of each process."""
        for place in Path("/proc").iterdir():
            if place.name.isdigit() and (fields := read_stat(place)) and int(fields[3]) == self.session:
                yield int(fields[11]) + int(fields[12]), int(fields[21])


def read_stat(place: Path) -> list[str]:
    """Return the fields of a process after its name; [] if it is gone."""
    try:
        text = (place / "stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def pin_others() -> None:
    """Keep this process, and what it starts without `pin`, off the servers' core."""
    if (os.cpu_count() or 1) > OTHERS_CORE and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {OTHERS_CORE})


def _pin() -> tuple[str, ...]:
    taskset = shutil.which("taskset")
    return (taskset, "-c", str(SERVERS_CORE)) if taskset else ()


@contextmanager
def run_contestant(contestant: Contestant, upstream: str, model: str) -> Iterator[Running]:
    """Start a server in front of the mock and end it. Raises NotInstalledError, RuntimeError."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, port = Path(name), find_port()
        started = contestant.start(folder, upstream, port)
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  our own words
                [*_pin(), *started.command],
                cwd=folder,
                env={**make_variables(sys.executable), **started.variables}
                if started.command[0] == sys.executable
                else {**make_variables(""), **started.variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            url = f"http://127.0.0.1:{port}{contestant.prefix}{CHAT_PATH}"
            try:
                running = Running(url, contestant.headers(upstream), process.pid)
                wait_ready(running, model, lambda: process.poll() is not None, folder / "output")
                yield running
            finally:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def wait_ready(running: Running, model: str, has_ended: Callable[[], bool], output: Path) -> None:
    """Wait for the first good answer. Raises RuntimeError if none comes."""
    headers = {"content-type": "application/json", **running.headers}
    request = urllib.request.Request(running.url, make_body(model), headers)  # noqa: S310  loopback
    until, last = time.monotonic() + _READY_SECONDS, "nothing"
    while time.monotonic() < until and not has_ended():
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  as above
                answer.read()
                return
        except urllib.error.HTTPError as error:
            last = f"{error.code}: {error.read()[:300]!r}"
        except OSError as error:
            last = str(error)
        time.sleep(_PAUSE_SECONDS)
    told = output.read_text(errors="replace")[-1500:]
    raise RuntimeError(f"{running.url} does not answer ({last}); it said: {told}")


def find_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
