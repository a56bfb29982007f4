"""A worker that publishes and somebody at a terminal sign with one key: no nonce twice, and no gap."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from ogpu_setup import CHAIN_ID, make_target

from gateway import AsyncGateway, Task
from gateway.chain.rpc import request
from gateway.cli.main import main
from gateway.clock import SystemClock
from gateway.config import load
from gateway.devnet.ogpu import OgpuDevnet
from gateway.registry import make_adapters
from gateway.store import make_store
from gateway.store.shelf import ShelfNotebook
from gateway.testing.case import make_attempt_id

pytestmark = pytest.mark.anyio

RUNS, DEPOSITS = 6, 2
_ENVIRONMENT = {**os.environ, "NO_PROXY": "127.0.0.1"}


def write_config(ogpu: OgpuDevnet, folder: Path) -> Path:
    names = ("nexus", "controller", "terminal", "vault")
    contracts = ", ".join(f'{name} = "{getattr(ogpu.contracts, name)}"' for name in names)
    (folder / "key").write_text(ogpu.client.key)
    config = folder / "gateway.toml"
    config.write_text(f"""
[gateway]
store = "sqlite:///{folder / "runs.db"}"

[backends.chain]
adapter = "ogpu"
chain_id = {CHAIN_ID}
contracts = {{ {contracts} }}
rpc_url = "{ogpu.rpc_url}"
pin_url = "{ogpu.pin_url}"
content_gateways = ["{ogpu.gateway_url}"]
content_cache = false
private_key = "file:{folder / "key"}"

[models.echo.targets]
chain = {{ source = "{ogpu.first_response}", function = "echo", payment = "0.01 OGPU" }}
""")
    return config


async def fetch_count(ogpu: OgpuDevnet, at: str) -> int:
    found: Any = await request(ogpu.chain.web3, "eth_getTransactionCount", [ogpu.client.address, at])
    return int(found, 16)


async def test_what_is_signed_and_not_sent_yet_keeps_its_nonce(ogpu: OgpuDevnet, tmp_path: Path) -> None:
    """The terminal comes in between a worker's signature and its sending."""
    config = load(write_config(ogpu, tmp_path))
    worker: Any = make_adapters(config.backends, SystemClock())["chain"]
    store = make_store(f"sqlite:///{tmp_path / 'runs.db'}")
    await store.open()
    worker.lend(ShelfNotebook(store.shelf))
    before = await fetch_count(ogpu, "latest")
    try:
        envelope = await worker.prepare(
            Task(input={"text": "hello"}), make_target(ogpu), attempt_id=make_attempt_id()
        )
        assert envelope.payload["transaction"]["nonce"] == before
        words = ["--config", str(tmp_path / "gateway.toml"), "ogpu", "deposit", "1 OGPU"]
        typing = asyncio.create_task(asyncio.to_thread(main, words))
        while not typing.done() and not ogpu.counters.calls["eth_sendRawTransaction"]:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.02)
        assert not typing.done(), "the deposit waits for what is before it"
        await worker.submit(envelope)
        assert await typing == 0
        while await fetch_count(ogpu, "latest") < before + 2:  # noqa: ASYNC110  the chain tells nobody
            await asyncio.sleep(0.05)
        assert len(await ogpu.tasks_on_chain()) == 1
        assert await fetch_count(ogpu, "pending") == before + 2
    finally:
        await worker.aclose()
        await store.aclose()


async def test_a_worker_and_a_terminal_at_the_same_time(ogpu: OgpuDevnet, tmp_path: Path) -> None:
    config = write_config(ogpu, tmp_path)
    before = await fetch_count(ogpu, "latest")
    deposit = [sys.executable, "-m", "gateway", "--config", str(config), "ogpu", "deposit", "1 OGPU"]
    said: list[Any] = []

    async def type_deposit() -> None:
        done = await anyio.run_process(deposit, env=_ENVIRONMENT, cwd=tmp_path)
        said.append(json.loads(done.stdout))

    async with AsyncGateway.from_config(config) as gateway, anyio.create_task_group() as group:
        for _ in range(DEPOSITS):
            group.start_soon(type_deposit)
        runs = []
        while len(runs) < RUNS or len(said) < DEPOSITS:  # as long as somebody types
            runs.append(await gateway.run(Task(model="echo", input={"text": "hello"})))
    assert [one["succeeded"] for one in said] == [True] * DEPOSITS
    assert {len(run.attempts) for run in runs} == {1}
    assert len(await ogpu.tasks_on_chain()) == len(runs)
    # Each act is one transaction: nothing was signed again, and no gap had to be filled.
    assert await fetch_count(ogpu, "pending") == before + len(runs) + DEPOSITS
