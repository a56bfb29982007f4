"""Pinning services with an upload form: POST a file, get a link.

The form is that of the SDK of OGPU 0.2.3: field `file`, no sign-in, 200 or 201 with
{"link": "https://.../ipfs/Qm..."}.
"""

from __future__ import annotations

from typing import Any

from gateway.content.cid import Cid, find_cid
from gateway.content.errors import BadCid, ContentTooLarge, rename_error
from gateway.content.multipart import encode_multipart
from gateway.content.proofs import limit_time, prove_stored, receive_body
from gateway.content.protocol import PAYLOAD_BYTES, PAYLOAD_SECONDS, ContentStore, Stored
from gateway.errors import BackendError, NotSupported, Rejected
from gateway.http import Answer, HttpClient, make_status_error, parse_json

_LONGEST_ANSWER = 64 * 1024


class PinService:
    """Uploads to one URL and believes nothing: the link's CID must be that of what was uploaded."""

    def __init__(
        self,
        url: str,
        *,
        reader: ContentStore | None = None,
        name: str = "pin service",
        timeout_seconds: float = 30.0,
        client: Any = None,
    ) -> None:
        """Make it without I/O.

        Args:
            url: of the form.
            reader: asked for content; needed to read, and for services with import settings that we don't
                know. It is closed with this.
            name: for errors.
            timeout_seconds: for one upload.
            client: an httpx.AsyncClient or httpx2.AsyncClient to use instead of an own one.
        """
        self._name = name
        self._reader = reader
        self._timeout_seconds = timeout_seconds
        self._http = HttpClient(name, url, timeout_seconds=10.0, keepalive_seconds=4.0, client=client)

    async def put(
        self, data: bytes, *, filename: str = "file", content_type: str = "application/octet-stream"
    ) -> Stored:
        """Upload and check. `uri` is the service's link as it stands, to be told to others, never fetched.

        Raises ContentSwapped, ContentTooLarge (413), Rejected (other 4xx, a redirect, an answer without a
        link), Throttled, Unavailable (may be repeated as it stands: the same bytes are the same content).
        """
        try:
            async with limit_time(self._timeout_seconds, "the upload"):
                link = _parse_link(await self._upload(data, filename, content_type))
            cid = find_cid(link)
            proof = await prove_stored(data, cid, lambda found: self.fetch(found, max_bytes=len(data)))
        except BadCid as error:
            raise Rejected(f"its link names no content: {error}", backend=self._name) from error
        except BackendError as error:
            raise rename_error(error, self._name) from error
        return Stored(cid, len(data), link, proof)

    async def fetch(
        self, cid: Cid, *, max_bytes: int = PAYLOAD_BYTES, timeout: float | None = PAYLOAD_SECONDS
    ) -> bytes:
        """Ask the reader. Raises NotSupported without one."""
        if self._reader is None:
            raise NotSupported(f"{self._name} only takes content: configure a gateway to read {cid} from")
        return await self._reader.fetch(cid, max_bytes=max_bytes, timeout=timeout)

    async def aclose(self) -> None:
        """Close the connections, the reader's too."""
        await self._http.aclose()
        if self._reader is not None:
            await self._reader.aclose()

    async def _upload(self, data: bytes, filename: str, content_type: str) -> bytes:
        body, kind = encode_multipart(data, filename=filename, content_type=content_type, field="file")
        headers = {"content-type": kind, "accept": "application/json", "accept-encoding": "identity"}
        async with self._http.stream("POST", "", lands=False, json=body, headers=headers) as answer:
            text = await receive_body(answer, max_bytes=_LONGEST_ANSWER)
            if answer.status == 413:
                raise ContentTooLarge(f"it takes no file of {len(data)} bytes", http_status=413)
            if answer.status not in (200, 201):
                whole = Answer(answer.status, answer.headers, text)
                raise make_status_error(whole, "the upload", backend=self._name, lands=False)
            return text


def _parse_link(body: bytes) -> str:
    try:
        answer = parse_json(body)
    except ValueError as error:
        raise Rejected("it took the file and answered what is not JSON") from error
    link = answer.get("link") if isinstance(answer, dict) else None
    if not isinstance(link, str):
        raise Rejected("it took the file and answered no link")
    return link
