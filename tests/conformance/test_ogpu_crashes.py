"""`kill -9` at every step between prepare and finished: one task, one confirmation, one answer."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from ogpu_setup import EVMS, make_adapter, make_config, make_target, open_gateway, start_ogpu

from gateway.lifecycle import Status
from gateway.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

STEPS = [
    "after prepare submit",  # signed; the envelope is not stored
    "before submit submit",  # stored, not sent
    "after submit submit",  # sent; the handle is not stored
    "after events submit",  # followed
    "after accept accept",  # the confirmation is signed, and not stored
    "before submit accept",  # stored, not sent
    "after submit accept",  # confirmed; nobody wrote that down
]


@pytest.mark.parametrize("evm", EVMS)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.replace(" ", "-"))
async def test_a_killed_gateway_publishes_once(evm: str, step: str, tmp_path: Path) -> None:
    async with start_ogpu(evm) as ogpu:
        config, store = tmp_path / "config.json", tmp_path / "runs.db"
        words = make_config(ogpu).model_dump(mode="json", exclude_unset=True)
        config.write_text(json.dumps({**words, "rpc_url": ogpu.rpc_url, "private_key": ogpu.client.key}))
        script = Path(__file__).with_name("ogpu_killed.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), str(config), f"sqlite:///{store}", ogpu.manual, step
        )
        assert await asyncio.wait_for(process.wait(), 40) == -signal.SIGKILL
        target = make_target(ogpu, source=ogpu.manual)
        async with open_gateway(make_adapter(ogpu), target, SqliteStore(store)) as gateway:
            await gateway.recover()
            [run] = await gateway.list_runs()
            run = await gateway.wait(run.id, timeout=40)
        head = int(await ogpu.chain.ask("eth_blockNumber"), 16)
        finals = await ogpu.abi.fetch_events(
            ogpu.contracts.nexus, "ResponseStatusChanged", first=0, last=head
        )
        assert (run.status, run.output) == (Status.COMPLETED, {"text": "hello"})
        assert len(await ogpu.tasks_on_chain()) == 1
        assert len(finals) == 1
