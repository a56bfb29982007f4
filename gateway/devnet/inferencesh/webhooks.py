"""Webhooks: one POST of the whole task when it has ended, to loopback addresses only.

What the real service sends, signs and retries is not established.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import aiohttp

from gateway.types import JSON

TIMEOUT_SECONDS = 5.0


async def call_webhook(url: str, body: JSON) -> str:
    """Post `body` to `url`, once, and return a line for the log that says what came of it."""
    if not _is_loopback(urlsplit(url).hostname or ""):
        return f"webhook {url} not called: the devnet only calls loopback addresses"
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.post(url, json=body, allow_redirects=False) as answer,
        ):
            return f"webhook {url} answered {answer.status}"
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return f"webhook {url} failed: {error or type(error).__name__}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
