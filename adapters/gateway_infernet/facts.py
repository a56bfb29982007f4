"""What a node says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.adapter import Capabilities, Feature
from gateway.errors import BackendError, Misbehaved, Throttled, Unavailable
from gateway.types import JSON
from gateway_infernet import wire
from gateway_infernet.config import InfernetConfig
from gateway_infernet.node import Node

POLL_MANY = wire.MAX_IDS_PER_GET


class Facts:
    """Asks a node what it is and can, and keeps the last answer."""

    def __init__(self, node: Node, config: InfernetConfig) -> None:
        """Make it without I/O."""
        self._node = node
        self._config = config
        self._known: Capabilities | None = None

    async def fetch_capabilities(self) -> Capabilities:
        """Ask /health, /info and, from 1.4 on, /resources.

        It is /info that notices a dead Redis: such a node still accepts jobs, and never runs them.
        """
        try:
            health = await self._node.fetch_health()
            info = await self._node.fetch_info()
            facts = make_capabilities(info, self._config, backend=self._node.name)
        except Throttled as error:  # it is there, only not for us just now
            known = self._known or make_capabilities({}, self._config, backend=self._node.name)
            return replace(known, healthy=True, reason=error.message)
        except BackendError as error:
            return Capabilities(healthy=False, poll_many=POLL_MANY, reason=error.message)
        if health != "healthy":
            return replace(facts, healthy=False, reason=f"/health says {health!r}")
        self._known = facts
        if wire.parse_version(facts.version) < (1, 4):
            return facts
        try:
            resources: JSON = await self._node.fetch_resources(None)
        except BackendError as error:
            resources = {"error": str(error)}  # one container that hangs makes this endpoint hang
        return replace(facts, detail={**facts.detail, "resources": resources})

    async def fetch_version(self) -> tuple[int, ...]:
        """Return the node's version as numbers, (0,) for those before 1.0. Asked once if not configured.

        Raises Unavailable if it can't be known now.
        """
        if self._config.version is not None:
            return wire.parse_version(self._config.version)
        if self._known is None:
            info = await self._fetch_info()
            self._known = make_capabilities(info, self._config, backend=self._node.name)
        return wire.parse_version(self._known.version)

    async def fetch_chain_enabled(self) -> bool:
        """Say whether the node's chain side is on. Raises Unavailable if it can't be known now."""
        chain = (await self._fetch_info()).get("chain")
        return isinstance(chain, dict) and chain.get("enabled") is True

    async def _fetch_info(self) -> dict[str, JSON]:
        try:
            return await self._node.fetch_info()
        except Misbehaved as error:  # nothing of ours is in doubt by asking
            raise Unavailable(error.message, backend=self._node.name) from error


def make_capabilities(info: Mapping[str, JSON], config: InfernetConfig, *, backend: str) -> Capabilities:
    """Return what /info says, in the gateway's words. Raises Misbehaved if it is not a node's."""
    containers = info.get("containers")
    if containers is not None and not (
        isinstance(containers, list) and all(isinstance(c, dict) and "id" in c for c in containers)
    ):
        raise Misbehaved("/info lists no containers as a node does", backend=backend)
    said = info.get("version")
    version = config.version or (said if isinstance(said, str) else None)
    features = {Feature.QUOTE, Feature.RECALL}
    if wire.parse_version(version) >= (1,):
        features |= {Feature.STREAM, Feature.PROOF}
    return Capabilities(
        healthy=True,
        version=version,
        features=frozenset(features),
        poll_many=POLL_MANY,
        free=config.price is None,
        offers=None if containers is None else frozenset(str(c["id"]) for c in containers),
        detail={name: info[name] for name in ("chain", "containers", "pending") if name in info},
    )
