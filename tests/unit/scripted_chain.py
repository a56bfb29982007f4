"""A chain in memory, and RPCs over HTTP that show it with the faults of real ones."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from gateway.chain.signer import parse_raw_transaction

CHAIN_ID = 1071
TOPIC = b"\x07" * 32
FUNDS = 10**24


def hash_of(*parts: Any) -> str:
    return "0x" + hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass
class Block:
    number: int
    hash: str
    parent: str
    hashes: list[str] = field(default_factory=list)


def get_fee(transaction: dict[str, Any]) -> int:
    return int(transaction.get("gasPrice") or transaction["maxFeePerGas"])


class Chain:
    """Blocks of transactions; each transaction with data emits one event with that data."""

    def __init__(self) -> None:
        self.blocks = [Block(0, hash_of("genesis"), "0x" + "00" * 32)]
        self.known: dict[str, dict[str, Any]] = {}
        self.pool: list[str] = []
        self.base_fee: int | None = 10**9
        self._forks = 0

    def count(self, sender: str, number: int) -> int:
        mined = [one for block in self.blocks[: number + 1] for one in block.hashes]
        return sum(self.known[one]["from"].lower() == sender.lower() for one in mined)

    def count_pending(self, sender: str) -> int:
        following = self.count(sender, len(self.blocks))
        waiting = {self.known[one]["nonce"] for one in self.pool if self.known[one]["from"] == sender}
        while following in waiting:
            following += 1
        return following

    def find(self, wanted: str) -> Block | None:
        return next((block for block in self.blocks if wanted in block.hashes), None)

    def take(self, raw: str) -> str:
        """Take a transaction; raises KeyError with a node's words."""
        from eth_utils.crypto import keccak

        transaction = parse_raw_transaction(bytes.fromhex(raw[2:]))
        wanted = "0x" + bytes(keccak(hexstr=raw)).hex()
        if wanted in self.pool:
            raise KeyError("already known")
        if transaction["nonce"] < self.count(transaction["from"], len(self.blocks)):
            raise KeyError("nonce too low")
        sender, nonce = transaction["from"], transaction["nonce"]
        rivals = [o for o in self.pool if (self.known[o]["from"], self.known[o]["nonce"]) == (sender, nonce)]
        if any(get_fee(transaction) * 100 < get_fee(self.known[one]) * 110 for one in rivals):
            raise KeyError("replacement transaction underpriced")
        self.pool = [one for one in self.pool if one not in rivals]
        self.known[wanted] = transaction
        self.pool.append(wanted)
        return wanted

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            parent = self.blocks[-1]
            number = parent.number + 1
            block = Block(number, hash_of(number, self._forks, parent.hash), parent.hash)
            self.blocks.append(block)
            for one in sorted(self.pool, key=lambda one: int(self.known[one]["nonce"])):
                if self.known[one]["nonce"] == self.count(self.known[one]["from"], number):
                    block.hashes.append(one)
                    self.pool.remove(one)

    def reorg(self, depth: int, *, longer: int = 1, lose: bool = False) -> None:
        """Replace the last blocks by others, and `longer` more; what was in them waits again, or is lost."""
        gone = self.blocks[-depth:]
        del self.blocks[-depth:]
        self._forks += 1
        kept = [] if lose else [one for block in gone for one in block.hashes]
        for _ in range(depth):
            self.mine()
        self.pool += kept
        self.mine(longer)


@dataclass
class Node:
    """One RPC of the chain."""

    chain: Chain
    chain_id: int = CHAIN_ID
    lag: int = 0  # blocks that it is behind
    batch_limit: int = 1000
    batch_words: dict[str, Any] | None = None  # error object for a batch that is too large
    statuses: list[int] = field(default_factory=list)  # of the next HTTP requests
    lost_sends: int = 0  # carried out, and the connection cut
    refuse_sends: str = ""  # words to all of them
    refuse_tips: str = ""  # words to those that are not legacy
    sick: int = 0  # so many reads are answered "internal error"
    lost_before: int = 0  # cut, before anything was done
    hidden: int = 0  # so many looks for receipts and transactions find nothing
    stale: int = 0  # so many questions are answered "block not found"
    widest_logs: int = 10**9
    old_states: str = "kept"  # or "newest": answered from that one; or "gone": refused
    requests: list[list[str]] = field(default_factory=list)
    url: str = ""

    @property
    def asked(self) -> Counter[str]:
        return Counter(method for request in self.requests for method in request)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        questions = asked if isinstance(asked, list) else [asked]
        self.requests.append([question["method"] for question in questions])
        if self.statuses:
            return web.Response(status=self.statuses.pop(0), text="<html>")
        if isinstance(asked, list) and len(asked) > self.batch_limit:
            words = self.batch_words or {"code": -32600, "message": "invalid request"}
            return web.json_response({"jsonrpc": "2.0", "id": None, "error": words})
        sends = any(question["method"] == "eth_sendRawTransaction" for question in questions)
        if sends and self.lost_before:
            self.lost_before -= 1
            return self.cut(request)
        answers = [self.answer(question) for question in questions]
        if sends and self.lost_sends:
            self.lost_sends -= 1
            return self.cut(request)
        return web.json_response(answers if isinstance(asked, list) else answers[0])

    @staticmethod
    def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        name = question["method"].removeprefix("eth_")
        shell = {"jsonrpc": "2.0", "id": question["id"]}
        if name not in ("chainId", "sendRawTransaction") and self.stale:
            self.stale -= 1
            return {**shell, "error": {"code": -32000, "message": "block not found: 0x5"}}
        if name not in ("chainId", "sendRawTransaction") and self.sick:
            self.sick -= 1
            return {**shell, "error": {"code": -32603, "message": "Internal error"}}
        try:
            return {**shell, "result": getattr(self, f"on_{name}")(*question["params"])}
        except AttributeError:
            return {**shell, "error": {"code": -32601, "message": "the method does not exist"}}
        except KeyError as error:
            return {**shell, "error": {"code": -32000, "message": str(error.args[0])}}

    @property
    def height(self) -> int:
        return max(0, len(self.chain.blocks) - 1 - self.lag)

    def on_chainId(self) -> str:  # noqa: N802  JSON-RPC's name
        return hex(self.chain_id)

    def on_blockNumber(self) -> str:  # noqa: N802
        return hex(self.height)

    def on_getBlockByNumber(self, at: str, full: bool) -> Any:  # noqa: N802, FBT001
        number = self.height if at == "latest" else int(at, 16)
        if number > self.height:
            return None
        block = self.chain.blocks[number]
        shown: dict[str, Any] = {"number": hex(number), "hash": block.hash, "parentHash": block.parent}
        shown |= {"timestamp": hex(1_700_000_000 + number), "transactions": block.hashes}
        if full:
            shown["transactions"] = [self.on_getTransactionByHash(one) for one in block.hashes]
        if self.chain.base_fee is not None:
            shown["baseFeePerGas"] = hex(self.chain.base_fee)
        return shown

    def on_gasPrice(self) -> str:  # noqa: N802
        return hex(2 * 10**9)

    def on_maxPriorityFeePerGas(self) -> str:  # noqa: N802
        if self.chain.base_fee is None:
            raise AttributeError
        return hex(10**9)

    def on_estimateGas(self, _call: Any) -> str:  # noqa: N802
        return hex(50_000)

    def on_getBalance(self, _address: str, _at: str) -> str:  # noqa: N802
        return hex(FUNDS)

    def on_getTransactionCount(self, address: str, at: str) -> str:  # noqa: N802
        if at == "pending" and not self.lag:
            return hex(self.chain.count_pending(address))
        number = int(at, 16) if at.startswith("0x") else self.height
        if self.lag and number > self.height:
            raise KeyError("header not found")
        if number < self.height and self.old_states == "gone":
            raise KeyError("missing trie node 0xabc")
        if self.old_states == "newest":
            number = self.height
        return hex(self.chain.count(address, number))

    def on_sendRawTransaction(self, raw: str) -> str:  # noqa: N802
        if self.refuse_sends:
            raise KeyError(self.refuse_sends)
        if self.refuse_tips and int(raw[2:4], 16) < 0x80:  # legacy transactions begin with a list's byte
            raise KeyError(self.refuse_tips)
        return self.chain.take(raw)

    def on_getTransactionByHash(self, wanted: str) -> Any:  # noqa: N802
        if self.hidden:
            self.hidden -= 1
            return None
        block = self.chain.find(wanted)
        if wanted not in self.chain.pool and (block is None or block.number > self.height):
            return None
        transaction = self.chain.known[wanted]
        return {
            "hash": wanted,
            "from": transaction["from"],
            "to": transaction.get("to"),
            "nonce": hex(transaction["nonce"]),
            "value": hex(transaction["value"]),
            "input": transaction["data"],
        }

    def on_getTransactionReceipt(self, wanted: str) -> Any:  # noqa: N802
        block = self.chain.find(wanted)
        if self.hidden:
            self.hidden -= 1
            return None
        if block is None or block.number > self.height:
            return None
        return {
            "transactionHash": wanted,
            "status": "0x1",
            "blockNumber": hex(block.number),
            "blockHash": block.hash,
            "gasUsed": hex(50_000),
            "effectiveGasPrice": hex(10**9),
            "contractAddress": None,
            "logs": [],
        }

    def on_getLogs(self, wanted: dict[str, Any]) -> Any:  # noqa: N802
        first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        if last - first + 1 > self.widest_logs:
            raise KeyError(f"block range too large, at most {self.widest_logs}")
        logs = []
        for block in self.chain.blocks[first : min(last, self.height) + 1]:
            for index, one in enumerate(block.hashes):
                transaction = self.chain.known[one]
                if transaction.get("to") in wanted["address"] and transaction["data"] != "0x":
                    logs.append(
                        {
                            "address": transaction["to"],
                            "topics": ["0x" + TOPIC.hex()],
                            "data": transaction["data"],
                            "blockNumber": hex(block.number),
                            "blockHash": block.hash,
                            "transactionHash": one,
                            "logIndex": hex(index),
                        }
                    )
        return logs


@asynccontextmanager
async def serve(*nodes: Node) -> AsyncIterator[list[str]]:
    """Serve each node on a port of its own; yield their URLs."""
    runners = []
    for node in nodes:
        app = web.Application()
        app.router.add_post("/", node.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        node.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        runners.append(runner)
    try:
        yield [node.url for node in nodes]
    finally:
        for runner in runners:
            await runner.cleanup()
