"""A local chain for tests, with delegated subscriptions to put on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gateway.chain import rpc
from gateway.devnet.chain import node_tools
from gateway.devnet.chain.anvil import CHAIN_ID, DEPLOYER, NODE, SIGNER, Anvil
from gateway.devnet.chain.delegate import CoordinatorSide
from gateway.devnet.chain.deploy import Addresses, deploy, make_contract
from gateway.devnet.chain.wallet import Wallet
from gateway.types import JSON
from gateway_infernet import delegated
from gateway_infernet.delegated import (
    Delegation,
    Subscription,
)
from gateway_infernet.onchain import CoordinatorReader
from gateway_infernet.progress import Progress

_ENVIRONMENT = dict(os.environ)  # read here: no test sees it


@dataclass
class Chain:
    """One chain for all tests of this file; each subscription has a nonce of its own."""

    anvil: Anvil
    addresses: Addresses
    nonce: int = 0

    @property
    def reader(self) -> CoordinatorReader:
        return CoordinatorReader(self.anvil.web3, self.addresses.registry)

    def side(self, account: Any = NODE) -> CoordinatorSide:
        quick = timedelta(milliseconds=5)
        return CoordinatorSide(
            self.anvil.web3,
            self.addresses.coordinator,
            account=account,
            rerun_every=quick,
            look_every=quick,
        )

    async def delegation(
        self, *, expires_in: int = 100, key: str = SIGNER.key, nonce: int | None = None, **changes: Any
    ) -> Delegation:
        self.nonce += 1
        head = await rpc.fetch_head(self.anvil.web3)
        fields: dict[str, Any] = {
            "owner": self.addresses.consumer,
            "containers": ("echo",),
            "active_at": head.timestamp - 1,
        }
        sub = Subscription(**fields | changes)
        expiry = max(head.timestamp, sub.active_at) + expires_in
        number = self.nonce if nonce is None else nonce
        signature = delegated.sign(sub, number, expiry, key, CHAIN_ID, self.addresses.coordinator)
        return Delegation(
            subscription=sub,
            signature=signature,
            chain_id=CHAIN_ID,
            coordinator=self.addresses.coordinator,
            from_block=head.number,
        )

    async def deliver(
        self, delegation: Delegation, output_of: Callable[[JSON], Awaitable[JSON]], account: Any = NODE
    ) -> None:
        body = delegated.encode_request(delegation.subscription, delegation.signature, {"text": "hi"})
        await self.side(account).deliver(body["subscription"], body["signature"], body["data"], output_of)

    async def look(self, delegation: Delegation) -> Progress:
        return (await self.reader.fetch_progress([delegation]))[delegation]

    async def wait_until_missing(self, delegation: Delegation, missing: int) -> Progress:
        for _ in range(2000):
            progress = await self.look(delegation)
            if progress.missing == missing:
                return progress
            await asyncio.sleep(0.005)
        raise AssertionError(f"{progress}")

    async def tell(self, contract: str, address: str, function: str, *arguments: Any) -> None:
        data = make_contract(self.anvil.web3, contract, address).encode_abi(function, args=arguments)
        await Wallet(self.anvil.web3, DEPLOYER).send(address, bytes.fromhex(data[2:]))


def make_anvil(block_seconds: int | None = None) -> Anvil:
    return Anvil(block_seconds=block_seconds, program=node_tools.find_anvil(_ENVIRONMENT))


@asynccontextmanager
async def start_chain() -> AsyncIterator[Chain]:
    async with make_anvil() as anvil:
        yield Chain(anvil, await deploy(anvil.web3))


def echo(output: JSON) -> Callable[[JSON], Awaitable[JSON]]:
    async def output_of(data: JSON) -> JSON:
        return output

    return output_of
