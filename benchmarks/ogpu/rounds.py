"""All clients in turn, on one chain, in one run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median

from benchmarks.ogpu.drive import Client, Driven, Sample, publish, start
from gateway.chain.rpc import fetch_head
from gateway.devnet.chain.chain import make_chain
from gateway.devnet.ogpu import OgpuDevnet
from gateway.devnet.ogpu.content import PIN, ContentFault
from gateway.devnet.ogpu.devnet import MAINNET_ID

TASKS = 20
WAITING_BLOCKS = 10
DELAY_SECONDS = 0.1


@dataclass(slots=True)
class Row:
    """One client's publications: the first from a cold start, then those that are compared.

    A client that publishes one after another has no `first`: a start is nothing in its time.
    """

    client: Client
    first: Sample | None
    samples: list[Sample] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median time."""
        return median(sample.seconds for sample in self.samples)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What following tasks that wait costs, over some blocks."""

    tasks: int
    published_in_seconds: float
    blocks: int
    requests: int
    calls: Counter[str]


async def measure_rounds(ours: Client, others: Sequence[Client], *, delay: float, rounds: int) -> list[Row]:
    """Let us and each other client publish in turn, A B A C, on one chain with a block each second.

    Those that publish at once do so before, too, in their own process, which stays: their cold start. While
    one publishes, the others and the provider rest, and all earlier tasks are finished. Each round begins at
    another time between two blocks, the same for every client.
    """
    clients = [ours, *others]
    async with OgpuDevnet(make_chain(chain_id=MAINNET_ID), providers=1) as ogpu, AsyncExitStack() as stack:
        ogpu.front.delay_seconds = delay
        if delay:
            ogpu.content.slow_seconds = delay
            ogpu.content.faults.arm(ContentFault.SLOW, on=PIN, times=None)
        driven = {c.name: await stack.enter_async_context(start(c, ogpu, TASKS)) for c in clients}
        rows: list[Row] = []
        for client in clients:
            alone = client.drive == "sdk" and client.threads == 1
            rows.append(Row(client, None if alone else await _publish(driven[client.name], ogpu, phase=0.5)))
        for turn in range(rounds):
            phase = (turn + 0.5) / rounds
            for other in rows[1:]:
                for row in (other, rows[0]):
                    row.samples.append(await _publish(driven[row.client.name], ogpu, phase=phase))
        return rows


async def measure_waiting(ours: Client, tasks: int) -> Waiting:
    """Publish tasks that nobody takes, then count what following them costs."""
    async with OgpuDevnet(make_chain(chain_id=MAINNET_ID), providers=0) as ogpu, AsyncExitStack() as stack:
        driven = await stack.enter_async_context(start(ours, ogpu, tasks))
        sample = await publish(driven, ogpu)
        if sample.on_chain != tasks or sample.errors:
            raise RuntimeError(f"{sample.on_chain} of {tasks} tasks are on the chain: {sample.errors[:3]}")
        await _wait_for_block(ogpu)
        ogpu.counters.reset()
        began = (await fetch_head(ogpu.chain.web3)).number
        for _ in range(WAITING_BLOCKS):
            await _wait_for_block(ogpu)
        blocks = (await fetch_head(ogpu.chain.web3)).number - began
        counted = ogpu.counters
        return Waiting(tasks, sample.seconds, blocks, counted.http_requests, Counter(counted.calls))


async def _publish(driven: Driven, ogpu: OgpuDevnet, *, phase: float) -> Sample:
    for provider in ogpu.providers:
        provider.pause()
    await _wait_for_block(ogpu)
    await asyncio.sleep(phase)  # of the second between two blocks
    sample = await publish(driven, ogpu)
    for provider in ogpu.providers:
        provider.resume()
    await driven.ask("settle")
    while not all(task.status == "FINALIZED" for task in await ogpu.tasks_on_chain()):
        await _wait_for_block(ogpu)
    return sample


async def _wait_for_block(ogpu: OgpuDevnet) -> None:
    head = await fetch_head(ogpu.chain.web3)
    while (await fetch_head(ogpu.chain.web3)).number == head.number:  # noqa: ASYNC110  the chain tells nobody
        await asyncio.sleep(0.02)
