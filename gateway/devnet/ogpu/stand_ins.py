"""OGPU's parts as stand-ins of a devnet: the chain, the content, and the bots that run tasks."""

from __future__ import annotations

import json
import time

from gateway.content.cid import find_cid
from gateway.content.errors import BadCid
from gateway.devnet.chain.chain_faults import ChainFaults
from gateway.devnet.faults import Accepted, Armory
from gateway.devnet.ogpu.content import ContentHost
from gateway.devnet.ogpu.devnet import OgpuDevnet
from gateway.types import JSON


class ChainStandIn:
    """The chain, as clients ask it. Stopped, its RPC is gone and the chain goes on; it forgets nothing.

    Its journal has the tasks that are on the chain now: one that a reorganisation took away is not there.
    """

    name = "chain"

    def __init__(self, ogpu: OgpuDevnet) -> None:
        self.journal: list[Accepted] = []
        self._ogpu = ogpu
        self._known: dict[str, JSON] = {}

    @property
    def faults(self) -> ChainFaults:
        """Those of the RPC."""
        return self._ogpu.faults

    @property
    def url(self) -> str:
        """The RPC's URL."""
        return self._ogpu.rpc_url

    async def start(self) -> None:
        """Let the RPC listen again."""
        await self._ogpu.front.start(self._ogpu.chain.url)

    async def stop(self) -> None:
        """Take the RPC away."""
        await self._ogpu.front.stop()

    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()

    async def refresh(self) -> None:
        """Read the journal from the chain."""
        seen = self._ogpu.bots.seen
        self.journal = [
            Accepted(task, await self._load_input(task), seen.setdefault(task, time.time()))
            for task in await self._ogpu.list_tasks()
        ]

    async def _load_input(self, task: str) -> JSON:
        """Return what the task is to be run on; None if its config is nothing of ours."""
        if task not in self._known:
            _source, url, *_ = await self._ogpu.abi.ask("Task", task, "taskParams")
            try:
                config = json.loads(self._ogpu.content.get(find_cid(url)))
            except (BadCid, KeyError, ValueError):
                config = None
            self._known[task] = config.get("data") if isinstance(config, dict) else None
        return self._known[task]


class ContentStandIn:
    """The pin service and the gateway. What is pinned stays there when it is stopped."""

    name = "content"

    def __init__(self, content: ContentHost) -> None:
        self.journal: list[Accepted] = []  # pinning is free
        self._content = content

    @property
    def faults(self) -> Armory:
        """Those of both."""
        return self._content.faults

    @property
    def url(self) -> str:
        """The gateway's URL; the pin service is at its /file/create."""
        return self._content.gateway_url

    async def start(self) -> None:
        """Listen."""
        await self._content.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._content.stop()

    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()


class BotsStandIn:
    """The bots that take tasks on, run the demo model and answer. Stopped, they leave all tasks alone."""

    name = "bots"
    url = "-"

    def __init__(self, ogpu: OgpuDevnet) -> None:
        self.journal: list[Accepted] = []
        self._ogpu = ogpu

    @property
    def faults(self) -> Armory:
        """How they treat the next tasks."""
        return self._ogpu.bots.faults

    async def start(self) -> None:
        """Let them work off what has come meanwhile."""
        for each in self._ogpu.providers:
            each.resume()

    async def stop(self) -> None:
        """Let them do nothing."""
        for each in self._ogpu.providers:
            each.pause()

    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()
