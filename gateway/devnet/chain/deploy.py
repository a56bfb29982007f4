"""Put the contracts on a local chain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.chain.rpc import request, translated
from gateway.devnet.chain.anvil import DEPLOYER, SIGNER, Account
from gateway.devnet.chain.compile_contracts import load_compiled
from gateway.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from gateway.chain.rpc import Web3

_RECEIPT_SECONDS = 30.0
_RECEIPT_EVERY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the contracts are. On an empty chain of id 31337 these are the addresses of Infernet's own."""

    registry: str
    coordinator: str
    inbox: str
    consumer: str


async def deploy(web3: Web3, *, deployer: Account = DEPLOYER, signer: str = SIGNER.address) -> Addresses:
    """Deploy registry, coordinator, inbox and a consumer for which `signer` signs."""
    from eth_typing import HexAddress, HexStr
    from web3.types import Nonce
    from web3.utils.address import get_create_address

    count = int(await request(web3, "eth_getTransactionCount", [deployer.address, "latest"]), 16)
    sender = HexAddress(HexStr(deployer.address))
    registry, coordinator, inbox = (
        str(get_create_address(sender, Nonce(count + number))) for number in range(3)
    )
    for name, arguments in (
        ("Registry", [coordinator, inbox]),
        ("Coordinator", [registry]),
        ("Inbox", [registry]),
    ):
        await deploy_contract(web3, name, arguments, deployer=deployer)
    consumer = await deploy_contract(web3, "Consumer", [registry, signer], deployer=deployer)
    return Addresses(registry, coordinator, inbox, consumer)


async def deploy_contract(
    web3: Web3, name: str, arguments: Sequence[Any], *, deployer: Account = DEPLOYER
) -> str:
    """Deploy one of the compiled contracts; return its address."""
    from eth_utils.address import to_checksum_address

    compiled = load_compiled()["contracts"][name]
    contract = web3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    data = contract.constructor(*arguments).data_in_transaction
    receipt = await send(web3, deployer, to=None, data=bytes.fromhex(str(data)[2:]), mine=True)
    return str(to_checksum_address(receipt["contractAddress"]))


def make_contract(web3: Web3, name: str, address: str) -> Any:
    """Make web3's contract object for one of the compiled contracts."""
    return web3.eth.contract(address=address, abi=load_compiled()["contracts"][name]["abi"])  # type: ignore[call-overload]


async def send(
    web3: Web3, account: Account, *, to: str | None, data: bytes, mine: bool = False
) -> dict[str, Any]:
    """Sign a transaction, send it once, wait for its receipt and return that.

    The gas is estimated first, which runs the call: what would revert is not sent and raises Reverted, as on
    the node. `mine` asks the local chain for a block at once instead of at its next second.
    Raises Rejected if it reverts in the block all the same.
    """
    from eth_account import Account as Signer

    call = {"from": account.address, "data": "0x" + data.hex(), **({"to": to} if to else {})}
    gas = int(await request(web3, "eth_estimateGas", [call]), 16)
    price = int(await request(web3, "eth_gasPrice", []), 16)
    signed = Signer.sign_transaction(
        {
            "chainId": int(await request(web3, "eth_chainId", []), 16),
            "nonce": int(await request(web3, "eth_getTransactionCount", [account.address, "pending"]), 16),
            "gas": gas * 5 // 4,
            "gasPrice": price * 2,
            "value": 0,
            **call,
        },
        account.key,
    )
    with translated("sending", lands=True):
        sent = await request(web3, "eth_sendRawTransaction", ["0x" + signed.raw_transaction.hex()])
    if mine:
        await request(web3, "evm_mine", [])
    return await _wait_for_receipt(web3, sent)


async def _wait_for_receipt(web3: Web3, transaction: str) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_RECEIPT_SECONDS):
            while True:
                receipt: dict[str, Any] | None = await request(
                    web3, "eth_getTransactionReceipt", [transaction]
                )
                if receipt is not None:
                    break
                await asyncio.sleep(_RECEIPT_EVERY_SECONDS)
    except TimeoutError as error:
        raise Unavailable(f"transaction {transaction} is in no block after {_RECEIPT_SECONDS} s") from error
    if int(receipt["status"], 16) != 1:
        raise Rejected(f"transaction {transaction} reverted")
    return receipt
