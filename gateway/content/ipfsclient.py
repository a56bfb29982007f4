"""A node through the package `ipfshttpclient` (the extra of that name), for who has it in use already.

`Kubo` does the same without it, and better: the package is no longer maintained, refuses to `connect` to
every daemon of today (so `Client` is made, which doesn't look at the version), and reads whole answers before
anything can be checked.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.content.car import CarReader, read_inline
from gateway.content.cid import IDENTITY, Cid, parse_cid
from gateway.content.errors import BadCid, ContentNotFound, ContentTruncated, rename_error
from gateway.content.proofs import limit_time, prove_stored
from gateway.content.protocol import PAYLOAD_BYTES, PAYLOAD_SECONDS, Stored
from gateway.errors import BackendError, ConfigError, Rejected, Unavailable

IMPORT_V1_2025 = {"cid-version": 1, "raw-leaves": "true", "chunker": "size-1048576", "max-file-links": 1024}
"""The profile unixfs-v1-2025; without it the package sends settings that give other CIDs."""


class IpfsHttpClient:
    """Stores and pins on one node; each call runs in a thread, and what it answers is proven."""

    def __init__(
        self,
        address: str = "/dns/localhost/tcp/5001/http",
        *,
        name: str = "ipfshttpclient",
        timeout_seconds: float = 30.0,
    ) -> None:
        """Make it without I/O.

        Args:
            address: of the RPC as a multiaddr.
            name: for errors.
            timeout_seconds: for one upload.

        Raises:
            ConfigError: if the package is not installed, or the address is none.
        """
        try:
            import ipfshttpclient
        except ImportError as error:
            raise ConfigError(
                "ipfshttpclient is missing: pip install inference-gateway[ipfshttpclient]"
            ) from error
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._errors = ipfshttpclient.exceptions
        try:
            self._client: Any = ipfshttpclient.Client(address)
        except (self._errors.AddressError, ValueError) as error:
            raise ConfigError(f"{address!r} is no address of an RPC: {error}") from error

    async def put(
        self, data: bytes, *, filename: str = "file", content_type: str = "application/octet-stream"
    ) -> Stored:
        """Add and pin, without name and type. Raises ContentSwapped, Rejected, Unavailable."""
        del filename, content_type
        try:
            async with limit_time(self._timeout_seconds, "the upload"):
                cid = await asyncio.to_thread(self._add, data)
            proof = await prove_stored(data, cid, lambda found: self.fetch(found, max_bytes=len(data)))
        except BackendError as error:
            raise rename_error(error, self._name) from error
        return Stored(cid, len(data), f"ipfs://{cid}", proof)

    async def fetch(
        self, cid: Cid, *, max_bytes: int = PAYLOAD_BYTES, timeout: float | None = PAYLOAD_SECONDS
    ) -> bytes:
        """Export and verify. Raises the errors of content, Rejected, Unavailable."""
        if cid.hash_code == IDENTITY:
            return read_inline(cid, max_bytes=max_bytes)
        stop = threading.Event()  # a thread can't be cancelled: it looks at this between two chunks
        try:
            async with limit_time(timeout, f"fetching {cid}"):
                return await asyncio.to_thread(self._export, cid, max_bytes, timeout, stop)
        except BackendError as error:
            raise rename_error(error, self._name) from error
        finally:
            stop.set()

    async def aclose(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._client.close)

    def _add(self, data: bytes) -> Cid:
        try:
            with self._translate():
                answer = self._client.add_bytes(data, opts=IMPORT_V1_2025, timeout=self._timeout_seconds)
            return parse_cid(str(answer))
        except (BadCid, AssertionError, LookupError, TypeError) as error:  # the package looks at no answer
            raise Rejected("the node answered an upload without a CID") from error

    def _export(self, cid: Cid, max_bytes: int, timeout: float | None, stop: threading.Event) -> bytes:
        reader = CarReader(cid, max_bytes=max_bytes)
        with self._translate(), self._client.dag.export(str(cid), stream=True, timeout=timeout) as chunks:
            for chunk in chunks:
                if stop.is_set():
                    break
                reader.feed(chunk)
        return reader.finish()

    @contextmanager
    def _translate(self) -> Iterator[None]:
        """Say the package's errors in the gateway's words."""
        errors = self._errors
        try:
            yield
        except errors.ErrorResponse as error:
            kind = ContentNotFound if "not found" in str(error) else Unavailable
            raise kind(f"the node refused: {error}") from error
        except errors.StatusError as error:
            status = getattr(getattr(error.original, "response", None), "status_code", 0)
            ill = status == 429 or status >= 500
            raise (Unavailable if ill else Rejected)(f"the node refused: {error}") from error
        except errors.EncoderError as error:
            raise Rejected(f"the node answered what is not JSON: {error}") from error
        except (errors.ProtocolError, OSError) as error:  # OSError: those of requests in the middle of a body
            raise ContentTruncated(f"the answer broke off: {error}") from error
        except errors.Error as error:
            raise Unavailable(f"the node can't be reached: {error}") from error
