"""One file as a form, as upload services and Kubo's RPC want it."""

from __future__ import annotations

import secrets


def encode_multipart(data: bytes, *, filename: str, content_type: str, field: str) -> tuple[bytes, str]:
    """Write a multipart/form-data body with one file; return it and its Content-Type."""
    boundary = f"----gateway{secrets.token_hex(16)}"
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{field}"; filename="{_escape(filename)}"\r\n'
        f"Content-Type: {_escape(content_type)}\r\n\r\n"
    )
    body = b"".join((head.encode(), data, f"\r\n--{boundary}--\r\n".encode()))
    return body, f"multipart/form-data; boundary={boundary}"


def _escape(text: str) -> str:
    """Escape as browsers do, so that no name can end the header that it stands in."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
