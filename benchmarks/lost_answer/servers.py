"""Servers that take jobs, for the peers: as little of each API as one submission needs, and a count."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Protocol, Self

from aiohttp import web

from gateway.devnet.inferencesh import InferenceshApi


class Server(Protocol):
    """A server on loopback that takes jobs."""

    @property
    def url(self) -> str:
        """Where it listens, without a path."""

    @property
    def accepted(self) -> int:
        """How many jobs it took so far."""

    async def __aenter__(self) -> Self:
        """Listen."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""


class HttpServer(ABC):
    """Listens on a free port of loopback and answers what `serve` makes of a request."""

    def __init__(self) -> None:
        self.accepted = 0
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self._runner.cleanup()

    @abstractmethod
    async def serve(self, request: web.Request) -> web.Response:
        """Answer one request."""


class OpenAiServer(HttpServer):
    """Chat completions and images."""

    async def serve(self, request: web.Request) -> web.Response:
        """Take a job."""
        self.accepted += 1
        if request.path.endswith("/images/generations"):
            return web.json_response({"created": 1, "data": [{"url": f"{self.url}/image.png"}]})
        message = {"role": "assistant", "content": "hello"}
        return web.json_response(
            {
                "id": f"chatcmpl-{self.accepted}",
                "object": "chat.completion",
                "created": 1,
                "model": "gpt-4o",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )


class FalServer(HttpServer):
    """The queue. Requests are completed at once."""

    async def serve(self, request: web.Request) -> web.Response:
        """Take a request, or tell of one."""
        if request.path.endswith("/status"):
            return web.json_response({"status": "COMPLETED", "logs": []})
        if request.method != "POST":
            return web.json_response({"images": []})
        self.accepted += 1
        url = f"{self.url}{request.path}/requests/{self.accepted}"
        return web.json_response(
            {
                "request_id": str(self.accepted),
                "response_url": url,
                "status_url": f"{url}/status",
                "cancel_url": f"{url}/cancel",
            }
        )


class InferenceshServer:
    """The devnet's stand-in for inference.sh."""

    def __init__(self) -> None:
        self._api = InferenceshApi()

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._api.url

    @property
    def accepted(self) -> int:
        """How many tasks it admitted."""
        return len(self._api.journal)

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._api.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self._api.stop()
