"""The table of a node's endpoints by version, and those that tell about the node."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from aiohttp import web

from gateway.devnet.faults import Operation
from gateway.devnet.infernet.calls import Call, Route
from gateway.devnet.infernet.delegated import ChainSide
from gateway.devnet.infernet.job_routes import JobRoutes
from gateway.devnet.infernet.jobs import JobTable, Runner
from gateway.devnet.infernet.wire import make_json
from gateway.types import JSON


class NodeRoutes:
    """The endpoints that tell about the node."""

    def __init__(self, version: str, table: JobTable, runner: Runner, chain: ChainSide | None) -> None:
        self._version = version
        self._table = table
        self._runner = runner
        self._chain = {"address": chain.address if chain else "", "enabled": chain is not None}

    async def health(self, call: Call) -> web.StreamResponse:
        """Say that the node is healthy, whatever it is."""
        del call
        return make_json({"status": "healthy"})

    async def info(self, call: Call) -> web.StreamResponse:
        """Tell the containers, the running jobs of all clients and, since 1.0, the version and the chain."""
        del call
        info: dict[str, JSON] = {
            "containers": [
                {"id": c.id, "description": c.description, "external": c.external, "image": c.image}
                for c in self._runner.containers.values()
            ],
            "pending": {"offchain": self._table.count_running(), "onchain": self._table.running_on_chain},
        }
        if self._version != "0.2.0":
            info |= {"version": self._version, "chain": self._chain}
        return make_json(info)

    async def chain_enabled(self, call: Call) -> web.StreamResponse:
        """Say whether the chain is on; 0.2.0 only."""
        del call
        return make_json({"enabled": self._chain["enabled"]})

    async def chain_address(self, call: Call) -> web.StreamResponse:
        """Tell the wallet's address; 0.2.0 only."""
        del call
        return make_json({"address": self._chain["address"]})

    async def resources(self, call: Call) -> web.StreamResponse:
        """Ask every container what it has, or whether it has a model; 1.4.0 only.

        The node pastes the model id into the inner URL as it is, so of "a&b=1" the container sees "a".
        """
        present = {c.id: c for c in self._runner.containers.values() if c.resources is not None}
        asked = call.request.query.get("model_id")
        if not asked:
            return make_json({name: c.resources for name, c in present.items()})
        inner = parse_qs("model_id=" + asked.split("#")[0]).get("model_id")
        if inner is None:  # nothing arrived, and a container that is asked nothing tells everything
            return make_json({name: c.resources for name, c in present.items()})
        return make_json({name: {"supported": inner[0] in c.models} for name, c in present.items()})


def make_routes(version: str, node: NodeRoutes, jobs: JobRoutes) -> Mapping[str, Mapping[str, Route]]:
    """Return path -> method -> route, the methods in the order in which the node registers them."""
    table = {
        "/health": {"GET": Route("health", node.health)},
        "/info": {"GET": Route("info", node.info)},
        "/api/jobs": {
            "POST": Route("create_job", jobs.create_job, Operation.SUBMIT),
            "GET": Route("get_job", jobs.get_job, Operation.POLL),
        },
        "/api/jobs/batch": {"POST": Route("create_job_batch", jobs.create_job_batch, Operation.SUBMIT)},
        "/api/status": {"PUT": Route("store_job_status", jobs.store_job_status, limited=False)},
    }
    if version == "0.2.0":
        table["/api/chain/enabled"] = {"GET": Route("get_chain_status", node.chain_enabled)}
        table["/api/chain/address"] = {"GET": Route("get_node_address", node.chain_address)}
    else:
        table["/api/jobs/stream"] = {
            "POST": Route("create_job_stream", jobs.create_job_stream, Operation.STREAM)
        }
    if version == "1.4.0":
        table["/resources"] = {"GET": Route("resources", node.resources)}
    return table
