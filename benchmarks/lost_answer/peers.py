"""The rows of the peers: each client in a virtual environment of its own, at a pinned version."""

from __future__ import annotations

import asyncio
import json
import os
import time
import venv
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
        place: the folder of its environment.
        requirement: what is installed there.
        setup: how it is configured, in half a sentence.
        drive: the script that makes the call.
        make_server: what takes the jobs.
        is_submission: which requests start one.
        servers: how many it may use.
        words: further arguments of the script.
    """

    label: str
    place: str
    requirement: str
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
        return f"{name} {self.requirement.rpartition('==')[2]}, {call}"


class NotInstalledError(Exception):
    """A peer's environment could not be made; the text says why."""


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
        "openai",
        "openai==3.51.0",
        "default retries",
        "openai_sdk",
        OpenAiServer,
        _is_openai,
    ),
    *(
        Peer(
            f"LiteLLM Router, {what}",
            "litellm",
            "litellm==1.106.2",
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
        "fal_client",
        "fal-client==1.0.3",
        "default retries; of 502s it repeats those that name nginx, which these don't",
        "fal_queue",
        FalServer,
        partial(is_post, r"/fal-ai/[^/]+/[^/]+"),
    ),
    Peer(
        "inferencesh SDK, run",
        "inferencesh",
        "inferencesh==0.36.0",
        "defaults; it waits its own 30 s",
        "inferencesh_sdk",
        InferenceshServer,
        partial(is_post, r"(/apps)?/run"),
    ),
    Peer(
        "ogpu SDK, publish_task",
        "ogpu",
        "ogpu==0.2.3",
        "default retries; the wait is set from outside",
        "ogpu_sdk",
        ChainServer,
        _is_transaction,
    ),
)


async def measure_peers(folder: Path) -> list[Row]:
    """Install what is missing below `folder`, then make one call per peer and loss; several at a time."""
    reasons: dict[str, str] = {}
    for peer in PEERS:
        try:
            await install(peer, folder / peer.place)
        except NotInstalledError as error:
            reasons[peer.place] = str(error)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def measure(peer: Peer, loss: Loss) -> Cell:
        async with slots:
            return await measure_cell(peer, loss, folder / peer.place)

    async def measure_row(peer: Peer) -> Row:
        if peer.place in reasons:
            return Row(peer.client, peer.setup, {}, f"not measured: {reasons[peer.place]}")
        found = await asyncio.gather(*(measure(peer, loss) for loss in Loss))
        return Row(peer.client, peer.setup, dict(zip(Loss, found, strict=True)))

    return list(await asyncio.gather(*(measure_row(peer) for peer in PEERS)))


async def install(peer: Peer, place: Path) -> None:
    """Make a peer's environment, unless it is there at the right version. Raises NotInstalledError."""
    mark = place / "installed"
    if mark.is_file() and mark.read_text() == peer.requirement:
        return
    print(f"installing {peer.requirement} in {place}", flush=True)
    await asyncio.to_thread(venv.create, place, clear=True, with_pip=True, symlinks=os.name != "nt")
    process = await asyncio.create_subprocess_exec(
        *(get_python(place), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        peer.requirement,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines() or ["pip failed"]
        raise NotInstalledError(f"{peer.requirement} can't be installed ({lines[-1]})")
    mark.write_text(peer.requirement)


def get_python(place: Path) -> str:
    """Return the Python of an environment."""
    return str(place / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


async def measure_cell(peer: Peer, loss: Loss, place: Path) -> Cell:
    """Let a peer make one call to servers that lose every answer to a submission."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(peer.make_server()) for _ in range(peer.servers)]
        urls = [
            (await stack.enter_async_context(LossyProxy(server.url, peer.is_submission, loss))).url
            for server in servers
        ]
        began = time.monotonic()
        told = await _drive(peer, place, urls)
        seconds = time.monotonic() - began
        accepted = sum(server.accepted for server in servers)
        if told is None:
            return Cell(accepted, f"still trying after {LIMIT_SECONDS:g} s", seconds, unfinished=True)
        if not accepted or (loss is Loss.NOTHING and (accepted, told) != (1, "finished")):
            raise RuntimeError(f"{peer.client}, {loss.value}: {accepted} jobs, {told}: badly measured")
        return Cell(accepted, told, seconds)


async def _drive(peer: Peer, place: Path, urls: list[str]) -> str | None:
    """Run a peer's script and return its last line; None if it had to be stopped."""
    environment = {
        **os.environ,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": "",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it fetches one from the internet first
    }
    process = await asyncio.create_subprocess_exec(
        *(get_python(place), str(_DRIVES / f"{peer.drive}.py"), str(TIMEOUT_SECONDS), *urls, *peer.words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
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
