"""What every local chain can do, whatever EVM is behind it, and which EVM is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gateway.devnet.chain.accounts import Account
from gateway.devnet.chain.node_tools import ToolMissing, find_anvil
from gateway.types import JSON

if TYPE_CHECKING:
    from gateway.chain.rpc import Web3


_NO_EVM = (
    "a local chain needs pyrevm (pip install 'inference-gateway[devnet]', Python before 3.13)"
    " or anvil (npm install @foundry-rs/anvil)"
)


class Chain(Protocol):
    """A local chain of its own. Its `accounts` are funded at the start."""

    accounts: tuple[Account, ...]
    chain_id: int

    @property
    def url(self) -> str:
        """The RPC's URL; stays the same over stop and start."""

    @property
    def web3(self) -> Web3:
        """A web3 of this chain, closed with it."""

    async def start(self) -> None:
        """Start an empty chain on loopback. Raises ConfigError or Unavailable."""

    async def stop(self) -> None:
        """End it; everything on it is gone."""

    async def mine(self) -> None:
        """Make a block now."""

    async def advance(self, seconds: int) -> None:
        """Make a block that is exactly so much later than the newest one; time goes on from there."""

    async def reorganize(self, depth: int) -> None:
        """Replace the newest blocks by empty ones; the transactions in them are gone."""

    async def ask(self, method: str, *params: JSON) -> JSON:
        """Ask anything by JSON-RPC, `evm_...` and `anvil_...` included as far as both EVMs know them."""


def make_chain(
    *,
    evm: str = "auto",
    chain_id: int,
    block_seconds: int | None = 1,
    timestamp: int | None = None,
    anvil: Path | None = None,
) -> Chain:
    """Make a chain that is not started yet.

    Args:
        evm: "anvil", "revm", or "auto": anvil where it is installed, revm otherwise.
        chain_id: what the chain says it is.
        block_seconds: time between two blocks; None: a block per transaction.
        timestamp: of the first block, in seconds since the epoch; None: now.
        anvil: the program; None: the one that `find_anvil` finds.

    Raises:
        ToolMissing: neither is installed, or not the one that is asked for.
    """
    from gateway.devnet.chain.anvil import Anvil
    from gateway.devnet.chain.revm import Revm, has_revm

    if evm != "revm":
        try:
            program = anvil or find_anvil()
            return Anvil(block_seconds=block_seconds, timestamp=timestamp, program=program, chain_id=chain_id)
        except ToolMissing:
            if evm == "anvil":
                raise
    if not has_revm():
        raise ToolMissing(_NO_EVM)
    return Revm(block_seconds=block_seconds, timestamp=timestamp, chain_id=chain_id)


def explain_missing_evm() -> str | None:
    """Say that there is no EVM, and how to get one; None if there is."""
    from gateway.devnet.chain.revm import has_revm

    if has_revm():
        return None
    try:
        find_anvil()
    except ToolMissing:
        return _NO_EVM
    return None
