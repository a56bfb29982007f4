"""The mock backend, started and asked from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.environments import ROOT


@dataclass(frozen=True, slots=True)
class Mock:
    """Where it is."""

    url: str

    def count_requests(self) -> int:
        """Return how many requests came so far."""
        with urllib.request.urlopen(f"{self.url}/stats") as answer:  # noqa: S310  loopback
            return int(json.load(answer)["requests"])


@contextmanager
def serve_mock(rtt_ms: float = 0.0, module: str = "benchmarks.mock") -> Iterator[Mock]:
    """Run it, or another that prints its port, in a process of its own."""
    process = subprocess.Popen(  # noqa: S603  our own words
        [sys.executable, "-m", module, str(rtt_ms)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the mock has no output")
        yield Mock(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.terminate()
        process.wait()
