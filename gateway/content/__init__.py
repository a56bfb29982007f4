"""Content named by what it is: stores, and the CIDs, DAGs and CARs that prove what comes out of them."""

from __future__ import annotations

from gateway.content.cached import Cached
from gateway.content.cid import Cid, find_cid, parse_cid
from gateway.content.gateways import Gateways
from gateway.content.ipfsclient import IpfsHttpClient
from gateway.content.kubo import Kubo
from gateway.content.local import LocalStore
from gateway.content.pin import PinService
from gateway.content.protocol import (
    METADATA_BYTES,
    METADATA_SECONDS,
    PAYLOAD_BYTES,
    PAYLOAD_SECONDS,
    ContentStore,
    Stored,
)
from gateway.content.split import Split

__all__ = [
    "METADATA_BYTES",
    "METADATA_SECONDS",
    "PAYLOAD_BYTES",
    "PAYLOAD_SECONDS",
    "Cached",
    "Cid",
    "ContentStore",
    "Gateways",
    "IpfsHttpClient",
    "Kubo",
    "LocalStore",
    "PinService",
    "Split",
    "Stored",
    "find_cid",
    "parse_cid",
]
