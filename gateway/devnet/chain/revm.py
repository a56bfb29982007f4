"""A local EVM without another program: pyrevm behind a thin JSON-RPC server in this process."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gateway.chain.rpc import fetch_head, make_web3, request
from gateway.devnet.chain.accounts import ACCOUNTS, Account
from gateway.devnet.chain.blockchain import Blockchain
from gateway.devnet.chain.rpc_methods import RpcMethods
from gateway.devnet.chain.rpc_server import RpcServer
from gateway.types import JSON

if TYPE_CHECKING:
    from gateway.chain.rpc import Web3


def has_revm() -> bool:
    """Say whether pyrevm is installed; it has no wheels for Python 3.13 and later."""
    return find_spec("pyrevm") is not None


class Revm:
    """A chain in this process; `async with Revm(chain_id=1071) as chain`.

    Only the newest state can be asked: a call at an older block is answered from the newest one.

    Args:
        block_seconds: time between two blocks; None: a block per transaction.
        timestamp: of the first block, in seconds since the epoch; None: now.
        chain_id: what the chain says it is.
    """

    accounts: tuple[Account, ...] = ACCOUNTS

    def __init__(
        self, *, block_seconds: float | None = 1, timestamp: int | None = None, chain_id: int = 31337
    ) -> None:
        self.chain_id = chain_id
        self._block_seconds = block_seconds
        self._timestamp = timestamp
        self._server: RpcServer | None = None
        self._mining: asyncio.Task[None] | None = None
        self._web3: Web3 | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The RPC's URL; stays the same over stop and start."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def web3(self) -> Web3:
        """A web3 of this chain, closed with it."""
        if self._web3 is None:
            self._web3 = make_web3(self.url)
        return self._web3

    async def start(self) -> None:
        """Start an empty chain. Raises OSError if its port is taken."""
        blockchain = Blockchain(
            self.chain_id, automine=self._block_seconds is None, timestamp=self._timestamp
        )
        self._server = RpcServer(RpcMethods(blockchain).answer, self._port)
        self._port = await self._server.start()
        if self._block_seconds is not None:
            self._mining = asyncio.create_task(_mine_every(blockchain, self._block_seconds))

    async def stop(self) -> None:
        """End it; everything on it is gone."""
        if self._web3 is not None:
            await self._web3.provider.disconnect()
            self._web3 = None
        mining, self._mining = self._mining, None
        if mining is not None:
            mining.cancel()
            await asyncio.wait([mining])
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def mine(self) -> None:
        """Make a block now."""
        await request(self.web3, "evm_mine", [])

    async def advance(self, seconds: int) -> None:
        """Make a block that is exactly so much later than the newest one; time goes on from there."""
        head = await fetch_head(self.web3)
        await request(self.web3, "evm_setNextBlockTimestamp", [head.timestamp + seconds])
        await self.mine()

    async def reorganize(self, depth: int) -> None:
        """Replace the newest blocks by empty ones; the transactions in them are gone."""
        await request(self.web3, "anvil_reorg", [depth, []])

    async def ask(self, method: str, *params: JSON) -> JSON:
        """Ask anything by JSON-RPC."""
        return await request(self.web3, method, params)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


async def _mine_every(blockchain: Blockchain, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        blockchain.mine()
