"""The workload: prepare, a paid submission, collect; each step can be the last thing its process does.

Runs in every environment: it needs the standard library alone, and imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

NOT_TAKEN_IN = "not taken in"
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Orders:
    """What a process is to do.

    Attributes:
        role: "call" makes the call and stays to its end; "go on" only opens the engine, and waits for it.
        url: of the backend.
        store: where the engine writes.
        key: of the call.
        point: where the process is killed: "begin NAME" or "end NAME" of a step; anything else is not here.
        asks: the submission first looks whether its job is there.
    """

    role: str
    url: str
    store: str
    key: str
    point: str
    asks: bool


def read_orders() -> Orders:
    """Read them from the command line."""
    return Orders(**json.loads(sys.argv[1]))


def tell(how: str) -> None:
    """Say how the call ended."""
    print(how, flush=True)


@dataclass(frozen=True)
class Work:
    """The three steps."""

    orders: Orders

    def prepare(self) -> str:
        """Make what is submitted."""
        self._reach("begin prepare")
        made = f"hello {self.orders.key}"
        self._reach("end prepare")
        return made

    def submit(self, job_id: str) -> str:
        """Begin a job, which is paid."""
        self._reach("begin submit")
        if not (self.orders.asks and self.is_there(job_id)):
            self._ask("POST", job_id)
        self._reach("end submit")
        return job_id

    def collect(self, job_id: str) -> str:
        """Fetch the result; every job has one at once."""
        self._reach("begin collect")
        found = self._ask("GET", job_id)
        self._reach("end collect")
        return found

    def is_there(self, job_id: str) -> bool:
        """Ask whether a job was begun."""
        try:
            self._ask("GET", job_id)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return False
        return True

    def _ask(self, method: str, job_id: str) -> str:
        request = urllib.request.Request(f"{self.orders.url}/jobs/{job_id}", method=method)  # noqa: S310  ours
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310  on loopback
            return str(answer.read().decode())

    def _reach(self, point: str) -> None:
        if self.orders.role == "call" and self.orders.point == point:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal may come a moment later
