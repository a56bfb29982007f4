"""Servers over one PostgreSQL are replaced while clients go on: nothing is lost, nothing is paid twice."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from served import end, make_client, serving
from terminal import PATIENCE_SECONDS, Terminal, running_devnet

from gateway.testing.postgres import LocalPostgres

_CLIENTS = 4


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal beside a devnet of its own, whose configuration names a database."""
    with LocalPostgres() as postgres, running_devnet(tmp_path, "--no-chain") as terminal:
        monkeypatch.setenv("GATEWAY_STORE", postgres.make_url(f"rolling_{os.getpid()}"))
        config = tmp_path / "gateway.toml"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace('store = "sqlite:///runs.db"', 'store = "env:GATEWAY_STORE"'))
        yield terminal
        terminal.close()


class Load:
    """Clients that give one task after the other, each to whatever server answers, until it is done."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.stopping = threading.Event()
        self.given: list[str] = []

    def give(self, client: int) -> list[str]:
        """Give tasks until `stopping`; returns how each ended."""
        ends: list[str] = []
        while not self.stopping.is_set():
            key = f"client-{client}-{len(ends)}"
            self.given.append(key)
            ends.append(self._give_one(key))
        return ends

    def _give_one(self, key: str) -> str:
        body = {"model": "sleep", "input": {"seconds": 0.3, "mark": key}}
        for turn in range(1000):
            url = self.urls[turn % len(self.urls)]
            try:
                with make_client(url) as client:
                    told = client.post(
                        "/v1/runs", params={"wait": 5}, json=body, headers={"idempotency-key": key}
                    )
            except httpx2.TransportError:
                continue  # it has just ended
            if told.status_code in (200, 202) and told.json()["phase"] != "running":
                return str(told.json()["status"])
            if told.status_code not in (200, 202, 503):
                return told.text
        return "never"


def test_servers_are_replaced_one_after_the_other_under_load(place: Terminal) -> None:
    load = Load()
    with ExitStack() as stack:
        servers: list[subprocess.Popen[str]] = []

        def start() -> str:
            process, client = stack.enter_context(serving(place))
            servers.append(process)
            return str(client.base_url)

        load.urls = [start(), start()]
        with ThreadPoolExecutor(_CLIENTS) as pool:
            doing = [pool.submit(load.give, number) for number in range(_CLIENTS)]
            for position in range(2):
                load.urls[position] = start()
                end(servers.pop(0))
            load.stopping.set()
            ends = [told for one in doing for told in one.result(PATIENCE_SECONDS * 2)]
    assert len(ends) == len(load.given) >= _CLIENTS
    assert set(ends) == {"COMPLETED"}
    accepted = Counter(line["input"]["mark"] for line in place.ask("devnet", "journal"))
    assert accepted == Counter(load.given)
