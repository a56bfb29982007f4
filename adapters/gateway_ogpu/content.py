"""Where configs and files go, and where answers come from: what the configuration chooses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.clock import Clock
from gateway_ogpu.config import Network, OgpuConfig

if TYPE_CHECKING:
    from gateway.content import ContentStore

_APP_NAME = "inference-gateway"


def make_content(config: OgpuConfig, network: Network, *, clock: Clock, client: Any = None) -> ContentStore:
    """Make the store, without I/O: nothing unverified comes out of it, whatever is behind it.

    `client` is an httpx or httpx2 AsyncClient for all that is asked over HTTP, instead of own ones.
    Raises ConfigError for an address that is none, or if the package of `content` is not installed.
    """
    from gateway.content import Cached, Gateways, LocalStore, PinService, Split

    reader = Gateways(network.content_gateways, clock=clock, client=client)
    origin: ContentStore
    if config.content == "pin":
        origin = PinService(network.pin_url, reader=reader, client=client)
    else:
        node = _make_node(config, client)
        link = config.content_link or network.content_gateways[0]
        origin = Split(node, [reader, node], link_gateway=link, clock=clock)
    folder = find_cache(config)
    return origin if folder is None else Cached(LocalStore(folder), origin)


def find_cache(config: OgpuConfig) -> Path | None:
    """Say where content is kept on this machine; None for nowhere."""
    if config.content_cache is False:
        return None
    if config.content_cache is not True:
        return Path(config.content_cache)
    from platformdirs import user_cache_path

    return user_cache_path(_APP_NAME) / "content"


def _make_node(config: OgpuConfig, client: Any) -> ContentStore:
    address = config.content_node.get_secret_value() if config.content_node else ""
    if config.content == "ipfshttpclient":
        from gateway.content import IpfsHttpClient

        return IpfsHttpClient(address)
    from gateway.content import Kubo

    key = config.content_node_key
    headers = {"authorization": key.get_secret_value()} if key else None
    return Kubo(address, headers=headers, client=client)
