"""An RPC in front of a local chain that misbehaves when it is told to, and counts what it is asked."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.devnet.chain.chain_faults import ChainFault, ChainFaults
from gateway.devnet.chain.rpc_server import RpcError, make_error
from gateway.types import JSON

if TYPE_CHECKING:
    from aiohttp import ClientSession, web

_BODY_BYTES = 32 * 2**20
_SEND, _COUNT = "eth_sendRawTransaction", "eth_getTransactionCount"
_FEE_METHODS = ("eth_maxPriorityFeePerGas", "eth_feeHistory")
_BEFORE = (ChainFault.REFUSE, ChainFault.HANG, ChainFault.RATE_LIMIT, ChainFault.SERVER_ERROR)
_AFTER = (ChainFault.ANSWER_LOST, ChainFault.ERROR_AFTER, ChainFault.GARBAGE)
_INSTEAD = (
    ChainFault.ERROR_OBJECT,
    ChainFault.BLOCK_NOT_FOUND,
    ChainFault.KNOWN_AND_DROPPED,
    ChainFault.DROPPED,
    ChainFault.RECEIPT_MISSING,
)
_ERRORS = {
    ChainFault.ERROR_OBJECT: RpcError(-32603, "internal error"),
    ChainFault.BLOCK_NOT_FOUND: RpcError(-32000, "block not found"),
    ChainFault.KNOWN_AND_DROPPED: RpcError(-32000, "already known"),
}
_CHANGED = (ChainFault.ALREADY_KNOWN, ChainFault.NONCE_TOO_LOW, ChainFault.STALE_NONCE, ChainFault.REORG)


@dataclass(slots=True)
class Counters:
    """What an RPC was asked since the last reset: HTTP requests, and calls by method (batches opened)."""

    http_requests: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    def reset(self) -> None:
        """Count from zero again."""
        self.http_requests = 0
        self.calls.clear()


class RpcFront:
    """Passes JSON-RPC on to another server, but for the faults that are armed.

    Args:
        port: to listen on; 0 picks a free one, the same over stop and start.
        delay_seconds: every HTTP request takes at least so much longer, as over a real network.
    """

    def __init__(self, port: int = 0, *, delay_seconds: float = 0.0) -> None:
        self.faults = ChainFaults()
        self.counters = Counters()
        self.delay_seconds = delay_seconds
        self._upstream = ""
        self._port = port
        self._runner: web.AppRunner | None = None
        self._session: ClientSession | None = None
        self._nonces: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self, upstream: str) -> None:
        """Listen, for the chain whose own RPC has that URL. Raises OSError if the port is taken."""
        from aiohttp import ClientSession, TCPConnector, web

        if self._runner is not None:
            return
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_post("/", self._serve)
        self._upstream = upstream
        self._session = ClientSession(connector=TCPConnector(limit=0))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=256).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and drop all connections: from now on connections are refused."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        from gateway.devnet.inferencesh.connections import abort

        asked = json.loads(await request.read())
        questions = asked if isinstance(asked, list) else [asked]
        self.counters.http_requests += 1
        self.counters.calls.update(question["method"] for question in questions)
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        before = self._take(questions, _BEFORE)
        if before is ChainFault.HANG:
            await asyncio.Event().wait()  # until the client or the server closes the connection
        if before in (ChainFault.RATE_LIMIT, ChainFault.SERVER_ERROR):
            return web.Response(status=429 if before is ChainFault.RATE_LIMIT else 502, text="no")
        after = None if before is not None else self._take(questions, _AFTER)
        if before is None:
            answer = await self._answer(asked)
        if before is ChainFault.REFUSE or after is ChainFault.ANSWER_LOST:
            abort(request)
            return web.Response()
        if after is not None:
            return web.Response(
                status=502 if after is ChainFault.ERROR_AFTER else 200, text="<html>no</html>"
            )
        return web.json_response(answer)

    def _take(self, questions: list[JSON], among: tuple[ChainFault, ...]) -> ChainFault | None:
        for question in questions:
            if fault := self.faults.take(question["method"], among):
                return fault
        return None

    async def _answer(self, asked: JSON) -> JSON:
        if not isinstance(asked, list):
            return await self._answer_one(asked)
        if self.faults.take("batch", (ChainFault.NO_BATCH,)):
            return make_error(None, RpcError(-32600, "batch requests are not supported"))
        instead = [self._answer_instead(question) for question in asked]
        passed = [question for question, ours in zip(asked, instead, strict=True) if ours is None]
        answers = iter(await self._pass(passed) if passed else [])
        return [
            await self._change(question, next(answers)) if ours is None else ours
            for question, ours in zip(asked, instead, strict=True)
        ]

    async def _answer_one(self, question: JSON) -> JSON:
        ours = self._answer_instead(question)
        return ours if ours is not None else await self._change(question, await self._pass(question))

    async def _pass(self, asked: JSON) -> JSON:
        if self._session is None:
            raise RuntimeError("the RPC is not started")
        async with self._session.post(self._upstream, json=asked) as response:
            return await response.json()

    def _answer_instead(self, question: JSON) -> JSON:
        """Answer in the chain's place, if a fault wants that; None: the chain is to answer."""
        method, number = question["method"], question.get("id")
        refusal = self._refuse_tips(method, question)
        if refusal is not None:
            return make_error(number, refusal)
        fault = self.faults.take(method, _INSTEAD)
        if fault in _ERRORS:
            return make_error(number, _ERRORS[fault])
        if fault is ChainFault.DROPPED:
            return {"jsonrpc": "2.0", "id": number, "result": _hash(question["params"][0])}
        if fault is ChainFault.RECEIPT_MISSING:
            return {"jsonrpc": "2.0", "id": number, "result": None}
        return None

    def _refuse_tips(self, method: str, question: JSON) -> RpcError | None:
        legacy = self.faults.is_armed(ChainFault.LEGACY_ONLY)
        if legacy and method in _FEE_METHODS:
            return RpcError(-32601, f"the method {method} does not exist/is not available")
        if method == _SEND and not _is_legacy(question["params"][0]):
            once = self.faults.take(_SEND, (ChainFault.REFUSE_TIPS,))
            if legacy or once:
                return RpcError(-32000, "transaction type not supported")
        return None

    async def _change(self, question: JSON, answer: JSON) -> JSON:
        """Spoil what the chain answered, if a fault wants that."""
        method, number = question["method"], question.get("id")
        if self.faults.is_armed(ChainFault.LEGACY_ONLY) and isinstance(answer.get("result"), dict):
            answer["result"].pop("baseFeePerGas", None)
        match self.faults.take(method, _CHANGED):
            case ChainFault.ALREADY_KNOWN:
                return make_error(number, RpcError(-32000, "already known"))
            case ChainFault.NONCE_TOO_LOW:
                return make_error(number, RpcError(-32000, "nonce too low"))
            case ChainFault.STALE_NONCE:
                older = self._nonces.get(_get_account(question), "0x0")
                return {**answer, "result": older}
            case ChainFault.REORG:
                await self._pass({"jsonrpc": "2.0", "id": 0, "method": "anvil_reorg", "params": [1, []]})
                return answer
            case _:
                self._remember(method, question, answer)
                return answer

    def _remember(self, method: str, question: JSON, answer: JSON) -> None:
        """Keep the first nonce of each account that was asked for: what a replica far behind would say."""
        if method == _COUNT and "result" in answer:
            self._nonces.setdefault(_get_account(question), answer["result"])


def _get_account(question: JSON) -> str:
    return str(question["params"][0]).lower()


def _is_legacy(raw: str) -> bool:
    return int(raw.removeprefix("0x")[:2], 16) >= 0xC0


def _hash(raw: str) -> str:
    from eth_utils.crypto import keccak

    return "0x" + keccak(hexstr=raw).hex()
