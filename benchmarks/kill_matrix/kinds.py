"""The adapters of the matrix: what stands in for each backend, and what that counts."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import ClassVar, Self

from benchmarks.kill_matrix.process import Orders
from benchmarks.kill_matrix.proxy import DeadlyProxy
from benchmarks.lost_answer.chain_ours import is_publication
from benchmarks.lost_answer.losses import IsSubmission, is_post
from gateway.devnet.chain.chain import make_chain
from gateway.devnet.inferencesh import InferenceshApi
from gateway.devnet.infernet import InfernetNode
from gateway.devnet.infernet.containers import Container
from gateway.devnet.ogpu import OgpuDevnet
from gateway.types import JSON

_CONTRACTS = ("nexus", "controller", "terminal", "vault")
_CHAIN_ID = 1071
_JOB_SECONDS = 1.0


class Kind(ABC):
    """One adapter, and the backend behind its wire.

    Attributes:
        name: the adapter's.
        adapter: where its class is.
        knows: its backend can always say whether a submission landed.
        accepts: its answers want accepting.
        currency: what its jobs are paid in.
        doubt_seconds: how long its doubts are asked after; None for the gateway's default.
        proxy: the wire.
    """

    name: ClassVar[str]
    adapter: ClassVar[str]
    knows: ClassVar[bool] = True
    accepts: ClassVar[bool] = False
    currency: ClassVar[str] = "USD"
    doubt_seconds: ClassVar[float | None] = None
    proxy: DeadlyProxy

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Self]:
        """Run the backend and the wire to it for as long as the block lasts."""
        kind = cls()
        await kind.start()
        try:
            async with DeadlyProxy(kind.upstream, kind.is_submission) as kind.proxy:
                yield kind
        finally:
            await kind.stop()

    def make_orders(self, store: str) -> Orders:
        """Return what every process of a lane is told."""
        return Orders(
            adapter=self.adapter,
            backend=self.name,
            config=self.make_config(),
            target=dict(self.target),
            store=store,
            currency=self.currency,
            doubt_seconds=self.doubt_seconds,
        )

    @property
    @abstractmethod
    def upstream(self) -> str:
        """Where its requests end."""

    @property
    @abstractmethod
    def is_submission(self) -> IsSubmission:
        """Which of them are acts."""

    @property
    @abstractmethod
    def target(self) -> Mapping[str, JSON]:
        """What is run."""

    @abstractmethod
    def make_config(self) -> dict[str, JSON]:
        """Return the adapter's configuration, by way of the wire."""

    @abstractmethod
    async def start(self) -> None:
        """Start the backend."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop it."""

    @abstractmethod
    async def count(self) -> tuple[int, int]:
        """Count the submissions and the acceptances of answers that it has carried out."""


class Infernet(Kind):
    """A node, by REST."""

    name = "infernet"
    adapter = "gateway_infernet:InfernetAdapter"
    is_submission = partial(is_post, r"/api/jobs(/batch|/stream)?")
    target: ClassVar = {"containers": ["slow"]}

    def __init__(self) -> None:
        slow = Container("slow", "Says it again, after a while", run=_echo_slowly)
        self._node = InfernetNode(containers=[slow], rate_limit=None)

    @property
    def upstream(self) -> str:
        """See Kind."""
        return self._node.url

    def make_config(self) -> dict[str, JSON]:
        """See Kind."""
        return {"url": self.proxy.url, "price": "0.01 USD"}

    async def start(self) -> None:
        """See Kind."""
        await self._node.start()

    async def stop(self) -> None:
        """See Kind."""
        await self._node.stop()

    async def count(self) -> tuple[int, int]:
        """Count what is in the node's journal."""
        return len(self._node.journal), 0


class Inferencesh(Kind):
    """An app of inference.sh, which takes no id of ours: what it does not list may still come."""

    name = "inferencesh"
    adapter = "gateway_inferencesh:InferenceshAdapter"
    knows = False
    doubt_seconds = 2.0
    is_submission = partial(is_post, r"(/apps)?/run")
    target: ClassVar = {"app": "demo/echo"}

    def __init__(self) -> None:
        self._api = InferenceshApi(step_seconds=_JOB_SECONDS / 5)

    @property
    def upstream(self) -> str:
        """See Kind."""
        return self._api.url

    def make_config(self) -> dict[str, JSON]:
        """See Kind."""
        return {"url": self.proxy.url, "api_key": "inf_devnet"}

    async def start(self) -> None:
        """See Kind."""
        await self._api.start()

    async def stop(self) -> None:
        """See Kind."""
        await self._api.stop()

    async def count(self) -> tuple[int, int]:
        """Count what is in the API's journal."""
        return len(self._api.journal), 0


class Ogpu(Kind):
    """A source on chain whose answers the client confirms: two transactions a run."""

    name = "ogpu"
    adapter = "gateway_ogpu:OgpuAdapter"
    accepts = True
    currency = "OGPU"
    is_submission = staticmethod(is_publication)

    def __init__(self) -> None:
        chain = make_chain(chain_id=_CHAIN_ID, block_seconds=None)
        self._ogpu = OgpuDevnet(chain, providers=1)
        self._ticking: asyncio.Task[None] | None = None

    @property
    def upstream(self) -> str:
        """See Kind."""
        return self._ogpu.rpc_url

    @property
    def target(self) -> Mapping[str, JSON]:
        """See Kind."""
        return {"source": self._ogpu.manual, "function": "echo", "payment": "0.01 OGPU"}

    def make_config(self) -> dict[str, JSON]:
        """See Kind."""
        return {
            "contracts": {name: getattr(self._ogpu.contracts, name) for name in _CONTRACTS},
            "chain_id": _CHAIN_ID,
            "rpc_url": self.proxy.url,
            "private_key": self._ogpu.client.key,
            "pin_url": self._ogpu.pin_url,
            "content_gateways": self._ogpu.gateway_url,
        }

    async def start(self) -> None:
        """See Kind. A block comes with each transaction, and one each second."""
        await self._ogpu.start()
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """See Kind."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        await self._ogpu.stop()

    async def count(self) -> tuple[int, int]:
        """Count the tasks and the confirmed responses on the chain."""
        head = int(await self._ogpu.chain.ask("eth_blockNumber"), 16)
        published, confirmed = [
            await self._ogpu.abi.fetch_events(self._ogpu.contracts.nexus, name, first=0, last=head)
            for name in ("TaskPublished", "ResponseStatusChanged")
        ]
        return len(published), len(confirmed)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self._ogpu.chain.mine()


KINDS: tuple[type[Kind], ...] = (Infernet, Inferencesh, Ogpu)


async def _echo_slowly(data: JSON) -> JSON:
    await asyncio.sleep(_JOB_SECONDS)
    return {"output": data}
