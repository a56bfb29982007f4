"""As much of a chain as publishing a task needs."""

from __future__ import annotations

import json
from collections.abc import Callable

from aiohttp import web

from benchmarks.lost_answer.servers import HttpServer
from gateway.types import JSON

_CONSTANTS: dict[str, JSON] = {
    "web3_clientVersion": "stand-in/1",
    "eth_chainId": hex(1071),
    "net_version": "1071",
    "eth_estimateGas": hex(200_000),
    "eth_maxPriorityFeePerGas": hex(10**9),
    "eth_blockNumber": "0x1",
    "eth_getBlockByNumber": {"number": "0x1", "baseFeePerGas": hex(10**9), "timestamp": "0x1"},
}
_BLOCK = {"blockHash": "0x" + "01" * 32, "blockNumber": "0x1", "transactionIndex": "0x0"}
_NEXUS = "0x2b0cC6058313801D5feb184a539e3a0C5A87a6a1"  # OGPU's contract on chain 1071, which names new tasks


class ChainServer(HttpServer):
    """A chain's JSON-RPC, and the pinning service beside it.

    It keeps the rules by which a node takes a transaction: the same bytes twice are "already known", a nonce
    that is used up is "too low", and what is taken is mined at once. `accepted` counts what is taken: the
    published tasks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._taken: list[str] = []
        self._methods: dict[str, Callable[[list[JSON]], JSON]] = {
            "eth_sendRawTransaction": self._take,
            "eth_getTransactionCount": lambda _params: hex(len(self._taken)),
            "eth_getTransactionReceipt": self._make_receipt,
        }

    async def serve(self, request: web.Request) -> web.Response:
        """Answer one call, or pin one file."""
        if request.path == "/file/create":
            return web.json_response({"link": f"{self.url}/ipfs/task"})
        call = json.loads(await request.read())
        answer: dict[str, JSON] = {"jsonrpc": "2.0", "id": call["id"]}
        try:
            answer["result"] = self._call(call["method"], call.get("params", []))
        except ValueError as refusal:
            answer["error"] = {"code": -32000, "message": str(refusal)}
        return web.json_response(answer)

    def _call(self, method: str, params: list[JSON]) -> JSON:
        if method in self._methods:
            return self._methods[method](params)
        if method not in _CONSTANTS:
            raise ValueError(f"there is no {method} here")
        return _CONSTANTS[method]

    def _take(self, params: list[JSON]) -> JSON:
        from eth_account.typed_transactions.typed_transaction import TypedTransaction
        from eth_utils.crypto import keccak
        from hexbytes import HexBytes

        raw = HexBytes(params[0])
        name = "0x" + keccak(raw).hex()
        if name in self._taken:
            raise ValueError("already known")
        nonce = TypedTransaction.from_bytes(raw).as_dict()["nonce"]
        if nonce != len(self._taken):
            raise ValueError("nonce too low" if nonce < len(self._taken) else "nonce too high")
        self._taken.append(name)
        self.accepted = len(self._taken)
        return name

    def _make_receipt(self, params: list[JSON]) -> JSON:
        from eth_utils.crypto import keccak

        name = params[0]
        if name not in self._taken:
            return None
        log = {
            **_BLOCK,
            "address": _NEXUS,
            "topics": ["0x" + keccak(text="TaskPublished(address,address)").hex()],
            "data": "0x" + ("00" * 12 + "22" * 20) + ("00" * 12 + "11" * 20),  # the task, its source
            "transactionHash": name,
            "logIndex": "0x0",
            "removed": False,
        }
        gas = hex(200_000)
        return {
            **_BLOCK,
            "transactionHash": name,
            "gasUsed": gas,
            "cumulativeGasUsed": gas,
            "logs": [log],
            "status": "0x1",
        }
