"""OGPU's devnet for tests, on either EVM, with the sentences that its tests are written in."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from eth_account import Account

from gateway.chain import rpc
from gateway.devnet.chain import node_tools
from gateway.devnet.chain.chain import Chain, make_chain
from gateway.devnet.chain.wallet import Wallet
from gateway.devnet.ogpu import Manner, OgpuDevnet
from gateway.devnet.ogpu.contracts import get_event

_ENVIRONMENT = dict(os.environ)  # read here: no test sees it
CHAIN_ID = 1071
PRICE = 10**16
GWEI = 10**9
EVMS = [
    pytest.param(
        "revm",
        marks=pytest.mark.skipif(sys.version_info >= (3, 13), reason="pyrevm has no wheels for this Python"),
    ),
    "anvil",
]


def make_test_chain(evm: str, block_seconds: int | None = None) -> Chain:
    """Make a chain that is not started. Without anvil the test fails, and says how to get it."""
    try:
        anvil = node_tools.find_anvil(_ENVIRONMENT) if evm == "anvil" else None
    except node_tools.ToolMissing as error:
        pytest.fail(f"{error}. Everything that the tests need comes with `python3 start.py setup`")
    return make_chain(evm=evm, chain_id=CHAIN_ID, block_seconds=block_seconds, anvil=anvil)


def sign(key: str, nonce: int, **changes: Any) -> str:
    """Sign a transfer of nothing to oneself, as hex; `changes` make something else of it."""
    fields: dict[str, Any] = {
        "chainId": CHAIN_ID,
        "nonce": nonce,
        "gas": 21_000,
        "maxFeePerGas": 10 * GWEI,
        "maxPriorityFeePerGas": GWEI,
        "to": Account.from_key(key).address,
        "value": 0,
    }
    fields = {name: value for name, value in {**fields, **changes}.items() if value is not None}
    return "0x" + bytes(Account.sign_transaction(fields, key).raw_transaction).hex()


class Place:
    """A devnet whose providers do nothing of their own accord."""

    def __init__(self, ogpu: OgpuDevnet) -> None:
        self.ogpu = ogpu
        self.client = Wallet(ogpu.chain.web3, ogpu.client)
        self.agent = Wallet(ogpu.chain.web3, ogpu.agent)
        self.stranger = Wallet(ogpu.chain.web3, ogpu.stranger)
        self.owner = Wallet(ogpu.chain.web3, ogpu.deployer)

    async def publish(
        self,
        source: str | None = None,
        *,
        wallet: Wallet | None = None,
        payment: int = PRICE,
        expires_in: int = 900,
        config: Any = None,
    ) -> str:
        """Publish a task; return its address, as the event says it."""
        head = await rpc.fetch_head(self.ogpu.chain.web3)
        content = self.ogpu.content
        body = config or {"function_name": "echo", "data": {"a": 1}}
        link = content.make_link(content.put(json.dumps(body).encode()))
        task = (source or self.ogpu.first_response, link, head.timestamp + expires_in, payment)
        await self.tell(wallet or self.client, "Controller", "publishTask", task)
        return (await self.ogpu.tasks_on_chain())[-1].address

    async def tell(self, wallet: Wallet, kind: str, function: str, *arguments: Any) -> None:
        """Send a transaction to one of the four contracts, or to the one whose address is `kind[1]`."""
        address = getattr(self.ogpu.contracts, kind.lower())
        await self.ogpu.say(wallet, kind, address, function, *arguments)

    async def ask(self, kind: str, function: str, *arguments: Any, at: str | None = None) -> Any:
        address = at or getattr(self.ogpu.contracts, kind.lower())
        return await self.ogpu.abi.ask(kind, address, function, *arguments)

    async def status(self, task: str) -> str:
        return next(each.status for each in await self.ogpu.tasks_on_chain() if each.address == task)

    async def balance(self, address: str | None = None) -> int:
        return int(await self.ask("Vault", "balanceOf", address or self.client.address))

    async def answer(self, task: str, number: int = 0, payment: int = PRICE) -> str:
        """Let one provider attempt and answer a task; return the response's address."""
        provider = self.ogpu.providers[number]
        content = self.ogpu.content
        link = content.make_link(content.put(json.dumps({"by": number}).encode()))
        await self.ogpu.bots.attempt(provider, task, payment)
        await self.ogpu.bots.submit(provider, task, link, payment)
        return str(await self.ask("Task", "responseOf", provider.account.address, at=task))

    async def events(self, since: int) -> list[str]:
        """Name the Nexus's events of all blocks after that one."""
        names = {
            get_event(name)[0]: name
            for name in (
                "Attempted",
                "ResponseStatusChanged",
                "ResponseSubmitted",
                "TaskPublished",
                "TaskStatusChanged",
            )
        }
        head = await rpc.fetch_head(self.ogpu.chain.web3)
        logs = await rpc.fetch_logs(
            self.ogpu.chain.web3, self.ogpu.contracts.nexus, [], first=since + 1, last=head.number
        )
        return [names[log.topics[0]] for log in logs]


@asynccontextmanager
async def open_place(evm: str) -> AsyncIterator[Place]:
    async with OgpuDevnet(make_test_chain(evm)) as ogpu:
        for provider in ogpu.providers:
            provider.manner = Manner.IGNORE
        yield Place(ogpu)
