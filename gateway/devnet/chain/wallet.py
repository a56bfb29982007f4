"""An account of the local chain that sends transactions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gateway.chain.rpc import request
from gateway.devnet.chain.accounts import Account
from gateway.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from gateway.chain.rpc import Web3

_TIP_WEI = 10**9  # always the same: a node proposes what was paid before, and following it prices explode
_RECEIPT_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 0.05


class RevertedInBlock(Rejected):
    """A transaction was sent, and reverted; the chain had changed since its gas was estimated."""


class Wallet:
    """Signs and sends for one account; many at once, each with a nonce of its own."""

    def __init__(self, web3: Web3, account: Account) -> None:
        self.address = account.address
        self._web3 = web3
        self._account = account
        self._numbering = asyncio.Lock()

    async def send(
        self, to: str | None, data: bytes, *, value: int = 0, mine: bool = False
    ) -> dict[str, Any]:
        """Sign a transaction, send it once, wait for its receipt and return that.

        The gas is estimated first, which runs the call: what would revert is not sent and raises Reverted, as
        on the node. `mine` asks the local chain for a block at once instead of at its next second.
        Raises RevertedInBlock if it does so all the same, Unavailable if it gets into none.
        """
        call = {"from": self.address, "data": "0x" + data.hex(), "value": hex(value)}
        call |= {"to": to} if to else {}
        gas = int(await request(self._web3, "eth_estimateGas", [call]), 16)
        block = await request(self._web3, "eth_getBlockByNumber", ["latest", False])
        chain_id = int(await request(self._web3, "eth_chainId", []), 16)
        # The call may need more gas by then than it was estimated to; what is left comes back.
        most = 2 * int(block["baseFeePerGas"], 16) + _TIP_WEI
        prices = {"type": 2, "maxFeePerGas": most, "maxPriorityFeePerGas": _TIP_WEI}
        costs = {"chainId": chain_id, "gas": gas * 2, **prices}
        async with self._numbering:
            nonce = int(await request(self._web3, "eth_getTransactionCount", [self.address, "pending"]), 16)
            raw = self._sign({**costs, **call, "nonce": nonce, "value": value})
            sent = await request(self._web3, "eth_sendRawTransaction", ["0x" + raw.hex()])
        if mine:
            await request(self._web3, "evm_mine", [])
        return await self._wait_for_receipt(sent)

    def _sign(self, transaction: dict[str, Any]) -> bytes:
        from eth_account import Account as Signer

        return bytes(Signer.sign_transaction(transaction, self._account.key).raw_transaction)

    async def _wait_for_receipt(self, transaction: str) -> dict[str, Any]:
        for _ in range(round(_RECEIPT_SECONDS / _LOOK_EVERY_SECONDS)):
            receipt: dict[str, Any] | None = await request(
                self._web3, "eth_getTransactionReceipt", [transaction]
            )
            if receipt is None:
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
            elif int(receipt["status"], 16) != 1:
                raise RevertedInBlock(f"transaction {transaction} reverted")
            else:
                return receipt
        raise Unavailable(f"transaction {transaction} is in no block after {_RECEIPT_SECONDS} s")
