"""OGPU's devnet for tests: on each EVM that is there, with a block per transaction and one each second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ogpu_place import CHAIN_ID, EVMS, make_test_chain

from gateway import AsyncGateway, Run, RunFailed, Task
from gateway.chain.nonces import MemoryNonceBook
from gateway.devnet.chain.accounts import Account
from gateway.devnet.chain.revm import has_revm
from gateway.devnet.ogpu import OgpuDevnet
from gateway.store.memory import MemoryStore
from gateway.store.protocol import Store
from gateway_ogpu import OgpuAdapter, OgpuConfig

__all__ = ["CHAIN_ID", "EVMS"]  # the others are here
NAME = "chain"


@asynccontextmanager
async def start_ogpu(
    evm: str | None = None, *, block_seconds: int | None = None, **words: Any
) -> AsyncIterator[OgpuDevnet]:
    """Start it on that EVM; None: pyrevm where there is one, for it starts quicker."""
    chain = make_test_chain(evm or ("revm" if has_revm() else "anvil"), block_seconds)
    async with OgpuDevnet(chain, **words) as ogpu:
        ticking = [asyncio.create_task(_tick(ogpu))] if block_seconds is None else []
        try:
            yield ogpu
        finally:
            for task in ticking:
                task.cancel()
            await asyncio.gather(*ticking, return_exceptions=True)


async def _tick(ogpu: OgpuDevnet) -> None:
    """Let time pass on the chain: a block each second, as the chain itself makes none without traffic."""
    while True:
        await asyncio.sleep(1)
        await ogpu.chain.mine()


def make_config(ogpu: OgpuDevnet, account: Account | None = None, **words: Any) -> OgpuConfig:
    contracts = {name: getattr(ogpu.contracts, name) for name in ("nexus", "controller", "terminal", "vault")}
    told = {
        "contracts": contracts,
        "chain_id": CHAIN_ID,
        "rpc_url": ogpu.rpc_url,
        "private_key": (account or ogpu.client).key,
        "pin_url": ogpu.pin_url,
        "content_gateways": ogpu.gateway_url,
        "content_cache": False,
    }
    return OgpuConfig(**{**told, **words})


def make_adapter(ogpu: OgpuDevnet, account: Account | None = None, **words: Any) -> OgpuAdapter:
    """Make an adapter as in a process of its own: it knows no nonces but the chain's."""
    return OgpuAdapter(NAME, make_config(ogpu, account, **words), book=MemoryNonceBook())


def make_target(ogpu: OgpuDevnet, **words: Any) -> dict[str, Any]:
    return {"source": ogpu.first_response, "function": "echo", "payment": "0.01 OGPU", **words}


@asynccontextmanager
async def open_gateway(
    adapter: OgpuAdapter, target: dict[str, Any], store: Store | None = None
) -> AsyncIterator[AsyncGateway]:
    async with AsyncGateway(
        [adapter], {"m": {"targets": {NAME: target}}}, store=store or MemoryStore()
    ) as gateway:
        yield gateway


async def run_to_end(gateway: AsyncGateway, task: Task) -> Run:
    try:
        return await asyncio.wait_for(gateway.run(task), 60)
    except RunFailed as failed:
        return failed.run
