"""JSON-RPC over HTTP: one question or a batch in a POST, an answer or a list of them back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.types import JSON

if TYPE_CHECKING:
    from aiohttp import web

_BODY_BYTES = 32 * 2**20


class RpcError(Exception):
    """What a JSON-RPC error object says."""

    def __init__(self, code: int, message: str, data: JSON = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def describe(self) -> dict[str, JSON]:
        """Return the error object."""
        error: dict[str, JSON] = {"code": self.code, "message": self.message}
        return error if self.data is None else {**error, "data": self.data}


Answer = Callable[[str, list[JSON]], JSON]
"""Answers one question (method, parameters). Raises RpcError."""


class RpcServer:
    """Serves one `answer` on loopback."""

    def __init__(self, answer: Answer, port: int = 0) -> None:
        self._answer = answer
        self._port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; return the port. Raises OSError if it is taken."""
        from aiohttp import web

        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_post("/", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=256).start()
        self._port = self._runner.addresses[0][1]
        return self._port

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.Response:
        from aiohttp import web

        try:
            asked = json.loads(await request.read())
        except ValueError:
            return web.json_response(make_error(None, RpcError(-32700, "parse error")))
        if isinstance(asked, list):
            return web.json_response([self._answer_one(question) for question in asked])
        return web.json_response(self._answer_one(asked))

    def _answer_one(self, question: JSON) -> dict[str, JSON]:
        if not isinstance(question, dict) or not isinstance(question.get("method"), str):
            return make_error(None, RpcError(-32600, "invalid request"))
        try:
            result = self._answer(question["method"], question.get("params") or [])
        except RpcError as error:
            return make_error(question.get("id"), error)
        return {"jsonrpc": "2.0", "id": question.get("id"), "result": result}


def make_error(question_id: JSON, error: RpcError) -> dict[str, JSON]:
    """Return the answer that carries an error object."""
    return {"jsonrpc": "2.0", "id": question_id, "error": error.describe()}
