"""An envelope is on the disk, by fsync, before the first byte of its submission leaves: the system saw it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import asyncio, os, sys
from gateway import AsyncGateway, Task
from gateway.testing import FakeAdapter

class Telling(FakeAdapter):
    async def submit(self, envelope):
        os.write(1, b"SUBMISSION")
        return await super().submit(envelope)

async def main():
    models = {"m": {"targets": {"a": {"app": "echo"}}}}
    async with AsyncGateway([Telling("a")], models, store=f"sqlite:///{sys.argv[1]}") as gateway:
        await gateway.run(Task(model="m", input={"text": "THE-ENVELOPE"}))

asyncio.run(main())
"""
_CALLS = "trace=write,pwrite64,fsync,fdatasync"


def trace(path: Path) -> list[str]:
    """Return the writes and syncs of a process that runs one task; skips where nothing may be traced."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    out = path.with_name("calls")
    command = [strace, "-f", "-y", "-s", "65536", "-e", _CALLS, "-o", str(out)]
    done = subprocess.run(
        [*command, sys.executable, "-c", _SCRIPT, str(path)], capture_output=True, text=True, check=False
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("no process may be traced here")
    assert done.returncode == 0, done.stderr
    return join_calls(out.read_text(errors="replace").splitlines())


def join_calls(lines: list[str]) -> list[str]:
    """Put calls together that another thread's interrupted, at the place where they returned."""
    begun: dict[str, str] = {}
    calls: list[str] = []
    for line in lines:
        thread, _, call = line.partition(" ")
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>")
        elif "resumed>" in call:
            calls.append(begun.pop(thread, "") + call.partition("resumed>")[2])
        else:
            calls.append(call)
    return calls


def test_the_envelope_is_synced_before_it_is_sent(tmp_path: Path) -> None:
    calls = trace(tmp_path / "runs.db")
    (sent,) = [number for number, call in enumerate(calls) if re.search(r"write\(1<.*SUBMISSION", call)]
    log = re.escape(str(tmp_path / "runs.db-wal"))
    written = [n for n, call in enumerate(calls[:sent]) if re.search(rf"write64\(\d+<{log}>", call)]
    with_envelope = [n for n in written if "THE-ENVELOPE" in calls[n] and "attempt_id" in calls[n]]
    synced = [n for n, call in enumerate(calls[:sent]) if re.search(rf"sync\(\d+<{log}> *\) += 0", call)]
    assert with_envelope, "the envelope was not written before its submission"
    assert synced, "nothing was synced before the submission"
    assert with_envelope[-1] < synced[-1]
    assert written[-1] < synced[-1], "something was written after the last sync"
