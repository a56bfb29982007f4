"""A local chain and the RPC in front of it, asked by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from eth_utils.crypto import keccak
from ogpu_place import make_test_chain

from gateway.devnet.chain.accounts import ACCOUNTS
from gateway.devnet.chain.chain import Chain
from gateway.devnet.chain.rpc_front import RpcFront
from gateway.types import JSON

KEY, ADDRESS = ACCOUNTS[0].key, ACCOUNTS[0].address
OTHER = "0x" + "34" * 20


class Rpc:
    """JSON-RPC by hand, so that every answer is seen as it is."""

    def __init__(self, chain: Chain, front: RpcFront) -> None:
        self.chain = chain
        self.front = front
        self._client = httpx2.AsyncClient(trust_env=False, timeout=60)

    async def post(self, asked: JSON) -> httpx2.Response:
        return await self._client.post(self.front.url, json=asked)

    async def ask(self, method: str, *params: JSON) -> JSON:
        return (await self.answer(method, *params))["result"]

    async def refusal(self, method: str, *params: JSON) -> str:
        return str((await self.answer(method, *params))["error"]["message"]).lower()

    async def answer(self, method: str, *params: JSON) -> dict[str, Any]:
        question = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
        answer: dict[str, Any] = (await self.post(question)).json()
        assert answer["id"] == 7
        return answer

    async def send(self, raw: str) -> dict[str, Any]:
        """Send a transaction and return its receipt."""
        sent = await self.ask("eth_sendRawTransaction", raw)
        assert sent == hash_of(raw)
        return await self.receipt(raw)

    async def receipt(self, raw: str) -> dict[str, Any]:
        """Wait until a transaction is in a block, without asking the RPC in front; return its receipt."""
        for _ in range(1000):
            if receipt := await self.chain.ask("eth_getTransactionReceipt", hash_of(raw)):
                return dict(receipt)
            await asyncio.sleep(0.02)
        raise AssertionError("it gets into no block")

    async def batch(self, *questions: tuple[str, list[JSON]]) -> JSON:
        return (
            await self.post(
                [
                    {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
                    for number, (method, params) in enumerate(questions)
                ]
            )
        ).json()

    async def nonce(self, block: str = "latest") -> int:
        return int(await self.ask("eth_getTransactionCount", ADDRESS, block), 16)

    async def head(self) -> int:
        return int(await self.ask("eth_blockNumber"), 16)

    async def aclose(self) -> None:
        await self._client.aclose()


def hash_of(raw: str) -> str:
    return "0x" + keccak(hexstr=raw).hex()


@asynccontextmanager
async def open_rpc(evm: str) -> AsyncIterator[Rpc]:
    chain, front = make_test_chain(evm), RpcFront()
    await chain.start()
    await front.start(chain.url)
    rpc = Rpc(chain, front)
    try:
        yield rpc
    finally:
        await rpc.aclose()
        await front.stop()
        await chain.stop()
