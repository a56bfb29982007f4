"""How little is asked for many tasks; and what is asked anew because a guess was wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from ogpu_setup import make_adapter, make_config, make_target, start_ogpu
from test_ogpu_scenarios import follow

from gateway.devnet.ogpu import ContentFault, OgpuDevnet
from gateway.lifecycle import Status
from gateway.task import Task
from gateway.testing.case import make_attempt_id
from gateway_ogpu import OgpuClient

pytestmark = pytest.mark.anyio

TASKS = 20


@pytest.fixture
async def ogpu() -> AsyncIterator[OgpuDevnet]:
    async with start_ogpu() as ogpu:
        for provider in ogpu.providers:
            provider.pause()
        yield ogpu


async def test_many_tasks_are_few_requests(ogpu: OgpuDevnet) -> None:
    """One to look, one to estimate, one to send; a machine that is busy may make two of one."""
    adapter = make_adapter(ogpu)
    await adapter.capabilities()
    tasks = [Task(model="m", input={"text": f"{number}"}) for number in range(TASKS)]
    ogpu.counters.reset()
    envelopes = await asyncio.gather(
        *(adapter.prepare(task, make_target(ogpu), attempt_id=make_attempt_id()) for task in tasks)
    )
    assert ogpu.counters.http_requests <= 5
    assert ogpu.counters.calls["eth_estimateGas"] <= 2
    nonces = sorted(envelope.payload["transaction"]["nonce"] for envelope in envelopes)
    assert nonces == list(range(nonces[0], nonces[0] + TASKS))
    ogpu.counters.reset()
    handles = await asyncio.gather(*(adapter.submit(envelope) for envelope in envelopes))
    assert ogpu.counters.http_requests <= 3
    await ogpu.chain.mine()
    for handle in handles:
        await follow(adapter, handle, {Status.QUEUED})
    seen = await adapter.poll(handles)
    while any("task" not in one.detail for one in seen.values()):
        seen = await adapter.poll(handles)
    assert len(await ogpu.tasks_on_chain()) == TASKS
    # A task without news since its publication is known without a single view of it.
    assert ogpu.counters.calls["eth_call"] == 0
    await adapter.aclose()


async def test_a_new_task_looks_as_the_chain_shows_it(ogpu: OgpuDevnet) -> None:
    adapter, other = make_adapter(ogpu), make_adapter(ogpu)
    envelope = await adapter.prepare(
        Task(model="m", input={"text": "hello"}), make_target(ogpu), attempt_id=make_attempt_id()
    )
    handle = await adapter.submit(envelope)
    await ogpu.chain.mine()
    seen = await follow(adapter, handle, {Status.QUEUED})
    while "task" not in seen.detail:
        seen = (await adapter.poll([handle]))[handle]
    async with OgpuClient(make_config(ogpu)) as client:
        task = await client.get_task(str(seen.detail["task"]))
    assert seen.detail["source"] == task.source
    assert seen.detail["expires_at"] == task.expires_at
    assert seen.detail["payment"] == "0.01 OGPU"
    assert seen.detail["status"] == task.status.name == "NEW"
    assert (await follow(other, handle, {Status.QUEUED})).status is seen.status
    await adapter.aclose()
    await other.aclose()


async def test_a_link_of_another_length_is_estimated_again(ogpu: OgpuDevnet) -> None:
    adapter = make_adapter(ogpu)
    ogpu.content.faults.arm(ContentFault.FOREIGN_LINK)
    hello = Task(model="m", input={"text": "hello"})
    ogpu.counters.reset()
    first = await adapter.prepare(hello, make_target(ogpu), attempt_id=make_attempt_id())
    assert first.payload["config"].startswith("http://127.0.0.1:1/")
    assert ogpu.counters.calls["eth_estimateGas"] == 2
    await adapter.aclose()


async def test_an_agent_publishes_for_its_client(ogpu: OgpuDevnet) -> None:
    """The source's client is another one than guessed: its vault and its agents are asked for then."""
    async with OgpuClient(make_config(ogpu)) as client:
        await client.set_agent(ogpu.stranger.address, True)
    adapter = make_adapter(ogpu, ogpu.stranger)
    for _ in range(2):
        hello = Task(model="m", input={"text": "hello"})
        envelope = await adapter.prepare(hello, make_target(ogpu), attempt_id=make_attempt_id())
        await adapter.submit(envelope)
    await ogpu.chain.mine()
    assert len(await ogpu.tasks_on_chain()) == 2
    await adapter.aclose()
