"""The whole stand-in for OGPU: chain, contracts, content, providers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gateway.chain.rpc import fetch_head
from gateway.devnet.chain.accounts import ACCOUNTS
from gateway.devnet.chain.chain import Chain, make_chain
from gateway.devnet.chain.rpc_front import RpcFront
from gateway.devnet.chain.wallet import Wallet
from gateway.devnet.ogpu.content import ContentHost
from gateway.devnet.ogpu.contracts import Addresses, Contracts
from gateway.devnet.ogpu.providers import Provider, Providers
from gateway.devnet.ogpu.setup import (
    FIRST_RESPONSE,
    MANUAL_CONFIRMATION,
    deploy,
    deposit,
    pair_providers,
    publish_source,
)

MAINNET_ID = 1071
CLIENT, AGENT, DEPLOYER, STRANGER = ACCOUNTS[0], ACCOUNTS[1], ACCOUNTS[2], ACCOUNTS[3]
MASTER, PROVIDERS = ACCOUNTS[6], ACCOUNTS[7:10]
_SHARES_PERCENT = (100, 80, 60)
STATUSES = ("NEW", "ATTEMPTED", "RESPONDED", "CANCELED", "EXPIRED", "FINALIZED")


@dataclass(frozen=True, slots=True)
class TaskOnChain:
    """A task that was published: what the chain holds of it. `expires_at` is in seconds since the epoch."""

    address: str
    source: str
    config: str
    payment: int
    expires_at: int
    status: str
    winner: str | None


class OgpuDevnet:
    """OGPU in one process (and one more, if anvil is the EVM); `async with OgpuDevnet() as ogpu`.

    `client` has 1,000 OGPU in the vault and owns two sources, `first_response` and `manual`; `agent` may sign
    for it; `stranger` has money in the vault too, and no source; `master` has three providers that ask for
    100, 80 and 60 % of a task's payment. All keys are those of every development chain.

    Args:
        chain: a chain to put it on, that is started and stopped with it; None: one with mainnet's id and a
            block each second.
        client_confirms: leave it to the client to confirm the first response (OGPU's documents disagree).
        providers: how many of the three there are.
        rpc_port: where clients ask the chain; 0 picks a free port, as for the next.
        content_port: of the pin service and gateway.
    """

    client, agent, stranger, deployer, master = CLIENT, AGENT, STRANGER, DEPLOYER, MASTER

    def __init__(
        self,
        chain: Chain | None = None,
        *,
        client_confirms: bool = False,
        providers: int = 3,
        rpc_port: int = 0,
        content_port: int = 0,
    ) -> None:
        self.chain = chain or make_chain(chain_id=MAINNET_ID)
        self.chain_id = self.chain.chain_id
        self.content = ContentHost(content_port)
        self.front = RpcFront(rpc_port)
        self.faults = self.front.faults  # those of the content are in `content.faults`
        self.counters = self.front.counters  # of clients: the providers ask the chain directly
        self.providers: Sequence[Provider] = ()
        self.first_response = ""
        self.manual = ""
        self.contracts: Addresses
        self.abi: Contracts
        self.bots: Providers
        self._client_confirms = client_confirms
        self._provider_count = providers
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Start everything. Raises OSError (a port is taken), ConfigError or Unavailable (no EVM)."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.chain.stop)
            await self.chain.start()
            stack.push_async_callback(self.content.stop)
            await self.content.start()
            stack.push_async_callback(self.front.stop)
            await self.front.start(self.chain.url)
            await self._settle()
            stack.push_async_callback(self.bots.stop)
            await self.bots.start()
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """End everything; the chain is gone."""
        await self._stack.aclose()

    @property
    def rpc_url(self) -> str:
        """The chain's RPC, as clients see it: counted, and with the armed faults."""
        return self.front.url

    @property
    def pin_url(self) -> str:
        """Where files are pinned."""
        return self.content.pin_url

    @property
    def gateway_url(self) -> str:
        """Where content is read."""
        return self.content.gateway_url

    async def tasks_on_chain(self) -> list[TaskOnChain]:
        """Fetch all tasks that are on the chain now, oldest first."""
        return [await self._fetch_task(task) for task in await self.list_tasks()]

    async def list_tasks(self) -> list[str]:
        """Fetch the addresses of all tasks that are on the chain now, oldest first."""
        head = await fetch_head(self.chain.web3)
        published = await self.abi.fetch_events(
            self.contracts.nexus, "TaskPublished", first=0, last=head.number
        )
        return [task for task, _source in published]

    async def say(self, sender: Wallet, kind: str, address: str, function: str, *arguments: object) -> None:
        """Send a transaction around all faults, and make a block for it. Raises Reverted."""
        await sender.send(address, self.abi.encode(kind, function, *arguments), mine=True)

    async def _settle(self) -> None:
        contracts = self.abi = Contracts(self.chain.web3)
        owner = Wallet(self.chain.web3, DEPLOYER)
        self.contracts = addresses = await deploy(contracts, owner)
        if self._client_confirms:
            await self.say(owner, "Nexus", addresses.nexus, "setClientConfirms", True)
        accounts = PROVIDERS[: self._provider_count]
        await deposit(contracts, addresses, [CLIENT, STRANGER])
        await pair_providers(contracts, addresses, MASTER, accounts)
        await self.say(
            Wallet(self.chain.web3, CLIENT), "Terminal", addresses.terminal, "setAgent", AGENT.address, True
        )
        self.first_response, self.manual = [
            await publish_source(contracts, addresses, CLIENT, self.content, delivery=delivery)
            for delivery in (FIRST_RESPONSE, MANUAL_CONFIRMATION)
        ]
        self.providers = [
            Provider(account, share) for account, share in zip(accounts, _SHARES_PERCENT, strict=False)
        ]
        self.bots = Providers(contracts, addresses, self.content, self.providers)

    async def _fetch_task(self, address: str) -> TaskOnChain:
        source, config, expires_at, payment = await self.abi.ask("Task", address, "taskParams")
        status = await self.abi.ask("Task", address, "getStatus")
        winner = str(await self.abi.ask("Task", address, "winningProvider"))
        return TaskOnChain(
            address=address,
            source=str(source),
            config=config,
            payment=payment,
            expires_at=expires_at,
            status=STATUSES[status],
            winner=winner if int(winner, 16) else None,
        )

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
