"""A node of one's own over the RPC of Kubo.

Nothing is left to the node's defaults, which change between versions: every import parameter is sent. Reads
are `dag/export` and never `cat`: `cat` tells a failure in the middle only in a trailer after HTTP 200, which
HTTP clients do not look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from gateway.content.car import read_inline
from gateway.content.cid import IDENTITY, Cid, parse_cid
from gateway.content.errors import BadCid, ContentNotFound, rename_error
from gateway.content.multipart import encode_multipart
from gateway.content.proofs import limit_time, prove_stored, receive_body, receive_car
from gateway.content.protocol import PAYLOAD_BYTES, PAYLOAD_SECONDS, Stored
from gateway.errors import BackendError, Rejected
from gateway.http import Answer, HttpClient, StreamAnswer, make_status_error, parse_json
from gateway.types import JSON

IMPORT_V1_2025: Mapping[str, str] = {
    "cid-version": "1",
    "hash": "sha2-256",
    "chunker": "size-1048576",
    "raw-leaves": "true",
    "max-file-links": "1024",
    "trickle": "false",
    "inline": "false",
}
"""The profile unixfs-v1-2025 in the words of `add`."""
_LONGEST_ANSWER = 1 << 20
_PLAIN = {"accept-encoding": "identity"}


class Kubo:
    """Stores and pins on one node; what it answers is checked like anybody else's."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        public_url: str | None = None,
        name: str = "kubo",
        timeout_seconds: float = 30.0,
        client: Any = None,
    ) -> None:
        """Make it without I/O.

        Args:
            url: of the RPC, for instance "http://127.0.0.1:5001".
            headers: sent to it, for instance Authorization: the RPC is the node's administration.
            public_url: of a gateway that others can reach; makes `Stored.uri` a web address.
            name: for errors.
            timeout_seconds: for one upload.
            client: an httpx.AsyncClient or httpx2.AsyncClient to use instead of an own one.
        """
        self._name = name
        self._public_url = public_url.rstrip("/") if public_url else None
        self._timeout_seconds = timeout_seconds
        self._http = HttpClient(
            name, url, headers=headers, timeout_seconds=10.0, keepalive_seconds=4.0, client=client
        )

    async def put(
        self, data: bytes, *, filename: str = "file", content_type: str = "application/octet-stream"
    ) -> Stored:
        """Add and pin. Raises ContentSwapped, Rejected, Throttled, Unavailable."""
        body, kind = encode_multipart(data, filename=filename, content_type=content_type, field="file")
        query = urlencode(
            {**IMPORT_V1_2025, "pin": "true", "wrap-with-directory": "false", "progress": "false"}
        )
        try:
            async with limit_time(self._timeout_seconds, "the upload"):
                added = await self._call(f"add?{query}", body, kind)
            cid = _parse_added(added)
            proof = await prove_stored(data, cid, lambda found: self.fetch(found, max_bytes=len(data)))
        except BackendError as error:
            raise rename_error(error, self._name) from error
        uri = f"{self._public_url}/ipfs/{cid}" if self._public_url else f"ipfs://{cid}"
        return Stored(cid, len(data), uri, proof)

    async def fetch(
        self, cid: Cid, *, max_bytes: int = PAYLOAD_BYTES, timeout: float | None = PAYLOAD_SECONDS
    ) -> bytes:
        """Export and verify. Raises the errors of content, Rejected, Throttled, Unavailable."""
        if cid.hash_code == IDENTITY:
            return read_inline(cid, max_bytes=max_bytes)
        path = f"/api/v0/dag/export?arg={cid}&progress=false"
        try:
            async with (
                limit_time(timeout, f"fetching {cid}"),
                self._http.stream("POST", path, lands=False, headers=_PLAIN) as answer,
            ):
                await self._check(answer)
                return await receive_car(answer, cid, max_bytes=max_bytes)
        except BackendError as error:
            raise rename_error(error, self._name) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(self, path: str, body: bytes, kind: str) -> bytes:
        headers = {**_PLAIN, "content-type": kind}
        async with self._http.stream(
            "POST", f"/api/v0/{path}", lands=False, json=body, headers=headers
        ) as answer:
            await self._check(answer)
            return await receive_body(answer, max_bytes=_LONGEST_ANSWER)

    async def _check(self, answer: StreamAnswer) -> None:
        if answer.status == 200:
            return
        body = await receive_body(answer, max_bytes=_LONGEST_ANSWER)
        message = _parse_message(body)
        if answer.status == 500 and ("not found" in message or "could not find" in message):
            raise ContentNotFound(message, http_status=500)
        whole = Answer(answer.status, answer.headers, body)
        raise make_status_error(whole, "the RPC", backend=self._name, lands=False, message=message or None)


def _parse_added(body: bytes) -> Cid:
    """Read the CID from the last line of an answer to `add`; lines of progress may stand before it."""
    try:
        lines = [parse_json(line) for line in body.splitlines() if line.strip()]
        last: JSON = lines[-1] if lines else None
        return parse_cid(last["Hash"])
    except (BadCid, ValueError, KeyError, TypeError) as error:
        raise Rejected("the node answered an upload without a CID") from error


def _parse_message(body: bytes) -> str:
    try:
        answer = parse_json(body)
    except ValueError:
        return body[:200].decode(errors="replace").strip()
    message = answer.get("Message") if isinstance(answer, dict) else None
    return message[:500] if isinstance(message, str) else ""
