"""RPCs that tell several states of a chain at once: none of that ends a run with what is not true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from ogpu_setup import make_adapter, make_target
from test_ogpu_scenarios import HELLO, follow, wait_for_task

from gateway.adapter import NotLanded
from gateway.devnet.ogpu import OgpuDevnet
from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle, Snapshot
from gateway.testing.case import make_attempt_id
from gateway_ogpu import OgpuAdapter

pytestmark = pytest.mark.anyio

Rule = Callable[[str, Sequence[Any], Any], Any]


class Mixed:
    """An RPC whose answers may be of another state than was asked for, by rules."""

    def __init__(self, rpc: Any) -> None:
        self._rpc = rpc
        self.rules: list[Rule] = []

    async def ask(self, questions: Sequence[Any]) -> list[Any]:
        answers = await self._rpc.ask(questions)
        for rule in self.rules:
            answers = [rule(*asked, told) for asked, told in zip(questions, answers, strict=True)]
        return list(answers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rpc, name)


@pytest.fixture
async def adapter(ogpu: OgpuDevnet) -> AsyncIterator[OgpuAdapter]:
    for provider in ogpu.providers:
        provider.pause()
    adapter = make_adapter(ogpu)
    yield adapter
    await adapter.aclose()


@pytest.fixture
def mixed(adapter: OgpuAdapter) -> Mixed:
    mixed = Mixed(adapter.connection.rpc)
    adapter.connection._rpc = mixed  # type: ignore[assignment]
    return mixed


def hide(*methods: str) -> Rule:
    """Tell nothing of a transaction: a replica that is behind."""
    return lambda method, _, told: None if method in methods else told


async def look(adapter: OgpuAdapter, handle: Handle, times: int = 4) -> list[Snapshot | None]:
    """Poll a few times, about as often as the engine does."""
    seen = []
    for _ in range(times):
        seen.append((await adapter.poll([handle])).get(handle))
        await asyncio.sleep(0.3)
    return seen


async def test_a_replica_that_is_behind_does_not_make_a_publication_expired(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in a block, and paid for; a second one would be paid for too."""
    monkeypatch.setattr("gateway_ogpu.following._CHASE_SECONDS", 0.1)
    envelope = await adapter.prepare(HELLO, make_target(ogpu, expires_in="30s"), attempt_id=make_attempt_id())
    handle = await adapter.submit(envelope)
    prepared = envelope.payload["transaction"]
    await wait_for_task(ogpu)
    await ogpu.chain.advance(60)
    await asyncio.sleep(0.3)  # a head is believed for a moment

    def tell(method: str, params: Sequence[Any], told: Any) -> Any:
        if method == "eth_getTransactionCount" and params[1] in ("latest", "pending"):
            return hex(prepared["nonce"])
        return hide("eth_getTransactionReceipt", "eth_getTransactionByHash")(method, params, told)

    mixed.rules = [tell]
    assert await adapter.recover(envelope) == NotLanded(final=False)
    assert all(seen is not None and seen.status is Status.QUEUED for seen in await look(adapter, handle))
    mixed.rules.clear()
    ended = await follow(adapter, handle, {Status.FAILED})
    assert ended.failure is not None
    assert ended.failure.kind is FailureKind.EXPIRED
    assert "is still frozen" in ended.failure.message
