"""`gateway serve` as a process, and what its clients do."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from terminal import PATIENCE_SECONDS, Terminal, read_until


@contextmanager
def serving(
    terminal: Terminal, *words: str, **options: Any
) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    """Serve on a free port; gives the process, which may end in between, and a client to it."""
    process = terminal.start("serve", "--port", "0", *words, **options)
    try:
        line = read_until(process.stdout, "listens on")
        url = re.search(r"http://\S+?:\d+", line)
        assert url
        base_url = url[0].replace("0.0.0.0", "127.0.0.1")
        with make_client(base_url) as client:
            yield process, client
    finally:
        if process.poll() is None:
            end(process)


def make_client(base_url: object) -> httpx2.Client:
    """Return a client with connections of its own."""
    return httpx2.Client(base_url=str(base_url), timeout=PATIENCE_SECONDS, trust_env=False)


def end(process: subprocess.Popen[str]) -> str:
    """End it as a service manager does; returns what it said of errors."""
    process.terminate()
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    return errors


def give(client: httpx2.Client, model: str, wait: float = 0, **body: Any) -> Any:
    answer = client.post("/v1/runs", params={"wait": wait}, json={"model": model, **body})
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


def get(client: httpx2.Client, run_id: str) -> Any:
    answer = client.get(f"/v1/runs/{run_id}", params={"wait": 30})
    assert answer.status_code == 200, answer.text
    return answer.json()


def is_sent(client: httpx2.Client, run_id: str) -> bool:
    attempts = client.get(f"/v1/runs/{run_id}").json()["attempts"]
    return bool(attempts) and attempts[-1]["status"] == "submitted"


def list_children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]
