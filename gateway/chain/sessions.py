"""The HTTP sessions below web3: one per event loop, and no lock that a cancelled request could leave locked.

web3's own manager takes a lock of the whole process in a thread; a request that is cancelled at the wrong
moment leaves it locked, and from then on every request of every provider waits for ever (web3 7 and 8).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import ClientSession


class Sessions:
    """Stands in for web3's session manager, as far as its asynchronous HTTP provider asks."""

    def __init__(self) -> None:
        self.session_cache: dict[asyncio.AbstractEventLoop, ClientSession] = {}

    async def async_make_post_request(self, endpoint_uri: str, data: bytes, **kwargs: Any) -> bytes:
        """Post a request and return the body. Raises aiohttp's errors; a status of 400 and more is one."""
        async with self._get_session().post(endpoint_uri, data=data, **kwargs) as response:
            response.raise_for_status()
            return await response.read()

    def _get_session(self) -> ClientSession:
        from aiohttp import ClientSession

        loop = asyncio.get_running_loop()
        session = self.session_cache.get(loop)
        if session is None or session.closed:
            session = self.session_cache[loop] = ClientSession(raise_for_status=False)
        return session
