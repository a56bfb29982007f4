"""A local EVM: anvil as a process of its own, on a free port of the loopback."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gateway.chain.rpc import fetch_head, make_web3, request
from gateway.devnet.chain.accounts import ACCOUNTS, Account
from gateway.devnet.chain.node_tools import find_anvil
from gateway.errors import Unavailable
from gateway.types import JSON

if TYPE_CHECKING:
    from gateway.chain.rpc import Web3

CHAIN_ID = 31337  # unless told otherwise
_LISTENING = re.compile(rb"Listening on \S+:(\d+)")
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0


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
        chain_id: what the chain says it is.
    """

    accounts: tuple[Account, ...] = ACCOUNTS

    def __init__(
        self,
        *,
        block_seconds: int | None = 1,
        timestamp: int | None = None,
        program: Path | None = None,
        chain_id: int = CHAIN_ID,
    ) -> None:
        self.chain_id = chain_id
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
        command += ["--chain-id", str(self.chain_id)]
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
            # Not process.terminate(): it looks first whether the process lives, and one that Ctrl-C has ended
            # already is then gone before asyncio's own watcher looks, which warns.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
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

    async def reorganize(self, depth: int) -> None:
        """Replace the newest blocks by empty ones; the transactions in them are gone."""
        await request(self.web3, "anvil_reorg", [depth, []])

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
