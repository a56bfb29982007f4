"""Put the contracts on a local chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.chain.rpc import request
from gateway.devnet.chain.accounts import Account
from gateway.devnet.chain.anvil import DEPLOYER, SIGNER
from gateway.devnet.chain.compile_contracts import load_compiled
from gateway.devnet.chain.wallet import Wallet

if TYPE_CHECKING:
    from gateway.chain.rpc import Web3


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

    wallet = Wallet(web3, deployer)
    count = int(await request(web3, "eth_getTransactionCount", [deployer.address, "latest"]), 16)
    sender = HexAddress(HexStr(deployer.address))
    registry, coordinator, inbox = (
        str(get_create_address(sender, Nonce(count + number))) for number in range(3)
    )
    await deploy_contract(wallet, web3, "Registry", [coordinator, inbox])
    await deploy_contract(wallet, web3, "Coordinator", [registry])
    await deploy_contract(wallet, web3, "Inbox", [registry])
    consumer = await deploy_contract(wallet, web3, "Consumer", [registry, signer])
    return Addresses(registry, coordinator, inbox, consumer)


async def deploy_contract(wallet: Wallet, web3: Web3, name: str, arguments: Sequence[Any]) -> str:
    """Deploy one of the compiled contracts; return its address."""
    from eth_utils.address import to_checksum_address

    compiled = load_compiled()["contracts"][name]
    contract = web3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    data = contract.constructor(*arguments).data_in_transaction
    receipt = await wallet.send(None, bytes.fromhex(str(data)[2:]), mine=True)
    return str(to_checksum_address(receipt["contractAddress"]))


def make_contract(web3: Web3, name: str, address: str) -> Any:
    """Make web3's contract object for one of the compiled contracts."""
    from eth_utils.address import to_checksum_address

    return web3.eth.contract(to_checksum_address(address), abi=load_compiled()["contracts"][name]["abi"])
