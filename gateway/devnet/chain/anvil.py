"""A local EVM: anvil as a process of its own, on a free port of the loopback."""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gateway.chain.rpc import fetch_head, make_web3, request
from gateway.devnet.chain.node_tools import find_anvil
from gateway.errors import Unavailable
from gateway.types import JSON

if TYPE_CHECKING:
    from gateway.chain.rpc import Web3

CHAIN_ID = 31337
_LISTENING = re.compile(rb"Listening on \S+:(\d+)")
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Account:
    """An account that anvil funds at its start. The keys stand in its documentation: they are no secrets."""

    address: str
    key: str


ACCOUNTS = tuple(
    Account(address, key)
    for address, key in (
        (
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        ),
        (
            "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        ),
        (
            "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
            "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
        ),
        (
            "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
            "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
        ),
        (
            "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
            "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
        ),
        (
            "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
            "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
        ),
    )
)
DEPLOYER = ACCOUNTS[2]  # of the contracts; with it they get the addresses of Infernet's own local chain
SIGNER = ACCOUNTS[3]  # signs for the demo consumer
NODE = ACCOUNTS[4]  # delivers
NODE_2 = ACCOUNTS[5]  # delivers too, where a subscription wants more than one node


class Anvil:
    """A chain that lives as long as its process; `async with Anvil() as chain`.

    Args:
        block_seconds: time between two blocks; None: a block per transaction, and time stands still between
            them (tests make it jump with `advance`).
        timestamp: of the first block, in seconds since the epoch; None: now.
        program: the anvil to run; None: the one that `find_anvil` finds.
    """

    def __init__(
        self,
        *,
        block_seconds: int | None = 1,
        timestamp: int | None = None,
        program: Path | None = None,
    ) -> None:
        self._block_seconds = block_seconds
        self._timestamp = timestamp
        self._program = program
        self._process: Process | None = None
        self._drain: asyncio.Task[None] | None = None
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
        """Start an empty chain. Raises ToolMissing (no anvil there) or Unavailable (it does not start)."""
        command = [str(self._program or find_anvil()), "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--chain-id", str(CHAIN_ID)]
        if self._block_seconds is not None:
            command += ["--block-time", str(self._block_seconds)]
        if self._timestamp is not None:
            command += ["--timestamp", str(self._timestamp)]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdout=PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._port = await _read_port(self._process.stdout)
        except (TimeoutError, EOFError) as error:
            await self.stop()
            raise Unavailable(f"anvil does not start: {error or 'no answer'}") from error
        self._drain = asyncio.create_task(_discard(self._process.stdout))

    async def stop(self) -> None:
        """End the process; its chain is gone."""
        if self._web3 is not None:
            await self._web3.provider.disconnect()
            self._web3 = None
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._drain is not None:
            await self._drain
            self._drain = None

    async def mine(self) -> None:
        """Make a block now."""
        await request(self.web3, "evm_mine", [])

    async def advance(self, seconds: int) -> None:
        """Make a block that is exactly so much later than the newest one; time goes on from there."""
        head = await fetch_head(self.web3)
        await request(self.web3, "evm_setNextBlockTimestamp", [head.timestamp + seconds])
        await self.mine()

    async def ask(self, method: str, *params: JSON) -> JSON:
        """Ask anything that anvil answers."""
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


async def _read_port(output: asyncio.StreamReader | None) -> int:
    said = b""
    while output is not None and (line := await output.readline()):
        said += line
        found = _LISTENING.search(line)
        if found:
            return int(found[1])
    raise EOFError(said.decode(errors="replace").strip()[-500:] or "it ended without a word")


async def _discard(output: asyncio.StreamReader | None) -> None:
    """Read on: it tells every block, and a full pipe would stop it."""
    while output is not None and await output.read(65536):
        pass
