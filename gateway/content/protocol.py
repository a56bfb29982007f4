"""What every content store can do, and what is told of what was stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.content.cid import Cid

METADATA_BYTES = 1 << 20
"""The limit for what describes a task: one raw block."""
PAYLOAD_BYTES = 32 << 20
"""The limit for inputs and answers, unless the caller says another."""
METADATA_SECONDS, PAYLOAD_SECONDS = 30.0, 60.0
"""How long fetching either may take in all."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored, proven.

    Attributes:
        cid: its name where it was stored.
        size_bytes: of the content.
        uri: what to tell others: "ipfs://<cid>", or the service's own link, unchanged.
        proof: how the CID was checked: the name of the import profile that gives it, or "read back".
    """

    cid: Cid
    size_bytes: int
    uri: str
    proof: str


class ContentStore(Protocol):
    """A place for content that is named by what it is.

    Nothing unverified comes out of one: bytes are returned only when they were proven to be the CID's. Errors
    are those of `gateway.content.errors`, and Unavailable, Throttled or Rejected of who was asked.
    """

    async def put(self, data: bytes, *, filename: str = "file", content_type: str = ...) -> Stored:
        """Store bytes, and prove that it is these that were stored. Doing it twice does no harm.

        The name and the type are for services that want them; they are not part of the content.
        """

    async def fetch(
        self, cid: Cid, *, max_bytes: int = PAYLOAD_BYTES, timeout: float | None = PAYLOAD_SECONDS
    ) -> bytes:
        """Fetch a whole file, verified.

        Args:
            cid: its name; from what others wrote it is taken with `find_cid`.
            max_bytes: more is ContentTooLarge, before it is held in memory.
            timeout: seconds in all; over is Unavailable. None waits as long as anything comes.
        """

    async def aclose(self) -> None:
        """Close the connections."""
