"""The rows of the peers: each client in a virtual environment of its own, at a pinned version."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.environments import (
    FAL,
    INFERENCESH,
    LITELLM,
    OGPU,
    OPENAI,
    Environment,
    NotInstalledError,
    make_variables,
)
from benchmarks.lost_answer.cells import TIMEOUT_SECONDS, Cell, Row
from benchmarks.lost_answer.chain_server import ChainServer
from benchmarks.lost_answer.losses import IsSubmission, Loss, LossyProxy, is_post
from benchmarks.lost_answer.servers import FalServer, InferenceshServer, OpenAiServer, Server

LIMIT_SECONDS = 120.0
"""After this long a call is stopped, and its number is a lower bound."""

_AT_ONCE = 6  # calls that are mostly asleep between two of their tries
_DRIVES = Path(__file__).parent / "drives"


@dataclass(frozen=True, slots=True)
class Peer:
    """One client.

    Attributes:
        label: "name, call".
        environment: where it is installed.
        setup: how it is configured, in half a sentence.
        drive: the script that makes the call.
        make_server: what takes the jobs.
        is_submission: which requests start one.
        servers: how many it may use.
        words: further arguments of the script.
    """

    label: str
    environment: Environment
    setup: str
    drive: str
    make_server: Callable[[], Server]
    is_submission: IsSubmission
    servers: int = 1
    words: tuple[str, ...] = ()

    @property
    def client(self) -> str:
        """The name with the version."""
        name, _, call = self.label.partition(", ")
        return f"{name} {self.environment.packages[0].rpartition('==')[2]}, {call}"


_is_openai = partial(is_post, r"/v1/(chat/completions|images/generations)")


def _is_transaction(_method: str, _path: str, body: bytes) -> bool:
    try:
        call = json.loads(body)
    except ValueError:  # not JSON: the file that is pinned
        return False
    return isinstance(call, dict) and call.get("method") == "eth_sendRawTransaction"


PEERS = (
    Peer(
        "OpenAI SDK, chat",
        OPENAI,
        "default retries",
        "openai_sdk",
        OpenAiServer,
        _is_openai,
    ),
    *(
        Peer(
            f"LiteLLM Router, {what}",
            LITELLM,
            "default retries, one fallback deployment",
            "litellm_router",
            OpenAiServer,
            _is_openai,
            servers=2,
            words=(what,),
        )
        for what in ("chat", "image")
    ),
    Peer(
        "fal-client, subscribe",
        FAL,
        "default retries; of 502s it repeats those that name nginx, which these don't",
        "fal_queue",
        FalServer,
        partial(is_post, r"/fal-ai/[^/]+/[^/]+"),
    ),
    Peer(
        "inferencesh SDK, run",
        INFERENCESH,
        "defaults; it waits its own 30 s",
        "inferencesh_sdk",
        InferenceshServer,
        partial(is_post, r"(/apps)?/run"),
    ),
    Peer(
        "ogpu SDK, publish_task",
        OGPU,
        "default retries; the wait is set from outside",
        "ogpu_sdk",
        ChainServer,
        _is_transaction,
    ),
)


async def measure_peers(folder: Path) -> list[Row]:
    """Install what is missing below `folder`, then make one call per peer and loss; several at a time."""
    pythons: dict[Environment, str] = {}
    reasons: dict[Environment, str] = {}
    for environment in dict.fromkeys(peer.environment for peer in PEERS):
        try:
            pythons[environment] = await asyncio.to_thread(environment.install, folder)
        except NotInstalledError as error:
            reasons[environment] = str(error)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def measure(peer: Peer, loss: Loss) -> Cell:
        async with slots:
            return await measure_cell(peer, loss, pythons[peer.environment])

    async def measure_row(peer: Peer) -> Row:
        if peer.environment in reasons:
            return Row(peer.client, peer.setup, {}, f"not measured: {reasons[peer.environment]}")
        found = await asyncio.gather(*(measure(peer, loss) for loss in Loss))
        return Row(peer.client, peer.setup, dict(zip(Loss, found, strict=True)))

    return list(await asyncio.gather(*(measure_row(peer) for peer in PEERS)))


async def measure_cell(peer: Peer, loss: Loss, python: str) -> Cell:
    """Let a peer make one call to servers that lose every answer to a submission."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(peer.make_server()) for _ in range(peer.servers)]
        urls = [
            (await stack.enter_async_context(LossyProxy(server.url, peer.is_submission, loss))).url
            for server in servers
        ]
        began = time.monotonic()
        told = await _drive(peer, python, urls)
        seconds = time.monotonic() - began
        accepted = sum(server.accepted for server in servers)
        if told is None:
            return Cell(accepted, f"still trying after {LIMIT_SECONDS:g} s", seconds, unfinished=True)
        if not accepted or (loss is Loss.NOTHING and (accepted, told) != (1, "finished")):
            raise RuntimeError(f"{peer.client}, {loss.value}: {accepted} jobs, {told}: badly measured")
        return Cell(accepted, told, seconds)


async def _drive(peer: Peer, python: str, urls: list[str]) -> str | None:
    """Run a peer's script and return its last line; None if it had to be stopped."""
    process = await asyncio.create_subprocess_exec(
        *(python, str(_DRIVES / f"{peer.drive}.py"), str(TIMEOUT_SECONDS), *urls, *peer.words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=make_variables(python),
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), LIMIT_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    lines = output.decode(errors="replace").strip().splitlines()
    if process.returncode or not lines:
        raise RuntimeError(f"{peer.drive} broke: {errors.decode(errors='replace')[-2000:]}")
    return lines[-1]
