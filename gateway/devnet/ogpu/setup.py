"""Putting OGPU on an empty chain: contracts, money, providers, sources."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.devnet.chain.wallet import Wallet
from gateway.devnet.ogpu.contracts import Addresses, Contracts, get_event

if TYPE_CHECKING:
    from gateway.devnet.chain.accounts import Account
    from gateway.devnet.ogpu.content import ContentHost

OGPU = 10**18  # wei
MANUAL_CONFIRMATION, FIRST_RESPONSE = 0, 1
DEPOSIT_WEI = 1_000 * OGPU
LOCKUP_WEI = 10 * OGPU
MIN_PAYMENT_WEI = OGPU // 1000
LONGEST_EXPIRY_SECONDS = 86_400
_NOWHERE = "0x" + "00" * 20


async def deploy(contracts: Contracts, wallet: Wallet) -> Addresses:
    """Deploy the contracts and make them known to each other; the wallet becomes their owner."""
    manager = await contracts.deploy(wallet, "Manager")
    terminal = await contracts.deploy(wallet, "Terminal", manager, _NOWHERE)
    nexus = await contracts.deploy(wallet, "Nexus", manager, terminal, _NOWHERE)
    vault = await contracts.deploy(wallet, "Vault", manager, nexus, terminal)
    controller = await contracts.deploy(wallet, "Controller", nexus, terminal, vault)
    role = await contracts.ask("Manager", manager, "CONTROLLER")
    admin = await contracts.ask("Manager", manager, "DEFAULT_ADMIN_ROLE")
    for kind, address, function, arguments in (
        ("Terminal", terminal, "setVault", (vault,)),
        ("Nexus", nexus, "setVault", (vault,)),
        ("Manager", manager, "grantRole", (role, controller)),
        ("Manager", manager, "grantRole", (role, nexus)),  # it pays the first response
        ("Manager", manager, "grantRole", (admin, terminal)),  # it makes providers
    ):
        await wallet.send(address, contracts.encode(kind, function, *arguments), mine=True)
    return Addresses(nexus, controller, terminal, vault, manager)


async def deposit(
    contracts: Contracts, addresses: Addresses, accounts: Sequence[Account], wei: int = DEPOSIT_WEI
) -> None:
    """Let each of them put money into the vault, for itself."""
    for account in accounts:
        data = contracts.encode("Vault", "deposit", account.address)
        await Wallet(contracts.web3, account).send(addresses.vault, data, value=wei, mine=True)


async def pair_providers(
    contracts: Contracts, addresses: Addresses, master: Account, providers: Sequence[Account]
) -> None:
    """Make them providers of that master, with a lockup each."""
    for provider in providers:
        announced = contracts.encode("Terminal", "announceProvider", provider.address, LOCKUP_WEI)
        await Wallet(contracts.web3, master).send(addresses.terminal, announced, value=LOCKUP_WEI, mine=True)
        accepted = contracts.encode("Terminal", "announceMaster", master.address)
        await Wallet(contracts.web3, provider).send(addresses.terminal, accepted, mine=True)


async def publish_source(
    contracts: Contracts,
    addresses: Addresses,
    client: Account,
    content: ContentHost,
    *,
    delivery: int,
    min_payment: int = MIN_PAYMENT_WEI,
    name: str = "demo",
) -> str:
    """Publish a source whose functions are the demo's; return its address."""
    from eth_utils.address import to_checksum_address

    metadata = {
        "cpu": content.make_link(content.put(b"services: {}\n")),
        "nvidia": "",
        "amd": "",
        "name": name,
        "description": "predict, sentiment, echo, upper, fail, slow",
        "logoUrl": "",
    }
    link = content.make_link(content.put(json.dumps(metadata).encode()))
    limits = (min_payment, LOCKUP_WEI, LONGEST_EXPIRY_SECONDS)
    params = (client.address, link, 1, *limits, False, "", delivery, int(time.time()))
    data = contracts.encode("Nexus", "publishSource", params)
    receipt = await Wallet(contracts.web3, client).send(addresses.nexus, data, mine=True)
    topic = "0x" + get_event("SourcePublished")[0].hex()
    [log] = [log for log in receipt["logs"] if log["topics"][0] == topic]
    return str(to_checksum_address("0x" + log["data"][-40:]))
