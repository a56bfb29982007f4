"""The import beside the event loop, where a process ends before it is done."""

from __future__ import annotations

import subprocess
import sys


def test_a_process_may_end_while_it_goes_on() -> None:
    code = "from gateway.chain.loading import begin_to_load; begin_to_load()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
