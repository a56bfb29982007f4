"""OGPU for our row: chain, contracts and a provider, the publications counted on the chain itself."""

from __future__ import annotations

import json

from benchmarks.lost_answer.cells import TIMEOUT_SECONDS
from gateway.devnet.chain.chain import make_chain
from gateway.devnet.ogpu import OgpuDevnet
from gateway.types import JSON
from gateway_ogpu import OgpuAdapter, OgpuConfig

_CHAIN_IDS = {"first": 1071, "second": 1072}  # two networks: on one, the same account would be the same place
_CONTRACTS = ("nexus", "controller", "terminal", "vault")


class OgpuServer(OgpuDevnet):
    """A network of OGPU. What its proxy loses is the RPC's answers; content is read around it."""

    def __init__(self, name: str) -> None:
        super().__init__(make_chain(chain_id=_CHAIN_IDS[name]), providers=1)
        self.name = name

    @property
    def url(self) -> str:
        """Where the RPC is."""
        return self.rpc_url

    async def count_jobs(self) -> int:
        """Count the tasks on the chain: each is paid for."""
        return len(await self.tasks_on_chain())


def make_ogpu(server: OgpuServer, url: str) -> OgpuAdapter:
    """Make an adapter for that network, whose RPC is reached by `url`."""
    config = {
        "contracts": {name: getattr(server.contracts, name) for name in _CONTRACTS},
        "chain_id": server.chain_id,
        "rpc_url": url,
        "private_key": server.client.key,
        "pin_url": server.pin_url,
        "content_gateways": server.gateway_url,
        "rpc_timeout_seconds": TIMEOUT_SECONDS,
    }
    return OgpuAdapter(server.name, OgpuConfig.model_validate(config))


def make_ogpu_target(server: OgpuServer) -> dict[str, JSON]:
    """Say what is run there."""
    return {"source": server.first_response, "function": "echo", "payment": "0.01 OGPU"}


def is_publication(_method: str, _path: str, body: bytes) -> bool:
    """Say whether a request sends a transaction, alone or in a batch."""
    asked: JSON = json.loads(body)
    calls = asked if isinstance(asked, list) else [asked]
    return any(call["method"] == "eth_sendRawTransaction" for call in calls)
