"""OGPU's providers, as bots: they take tasks on, really run the demo model, pin the answer and submit it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.chain.rpc import Reverted, fetch_head
from gateway.content.cid import find_cid
from gateway.content.errors import BadCid
from gateway.devnet.chain.accounts import Account
from gateway.devnet.chain.chain_faults import ArmedFaults
from gateway.devnet.chain.wallet import RevertedInBlock, Wallet
from gateway.devnet.ogpu.content import ContentHost
from gateway.devnet.ogpu.contracts import Addresses, Contracts
from gateway.devnet.ogpu.functions import run_function
from gateway.errors import BackendError
from gateway.types import JSON

_TASK = "task"
_LOOK_SECONDS = 0.1
_CPU = 1
_log = logging.getLogger(__name__)


class Manner(StrEnum):
    """How a provider behaves."""

    HONEST = "honest"
    IGNORE = "ignore"  # takes no task on
    SILENT = "silent"  # takes tasks on and never answers
    GARBAGE = "garbage"  # answers with something that is not JSON
    WRONG_CID = "wrong_cid"  # answers with a link under which other bytes are served
    MISSING = "missing"  # answers with a link to what nobody has
    FOREIGN_URL = "foreign_url"  # answers with a URL that is no content of IPFS
    UNPINNED_HOST = "unpinned_host"  # right content, but the link names a host where nobody listens


@dataclass
class Provider:
    """One provider. `share_percent` of a task's payment is what it asks for in a bid.

    `attempted` and `answered` are the tasks that it took on and answered, `refused` those where the chain
    refused something, for example because another one was quicker.
    """

    account: Account
    share_percent: int = 100
    manner: Manner = Manner.HONEST
    wait_seconds: float = 0.0
    attempted: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.awake.set()

    def pause(self) -> None:
        """Let it do nothing until it is resumed; it then works off what has come meanwhile."""
        self.awake.clear()

    def resume(self) -> None:
        """Let it go on."""
        self.awake.set()


class Providers:
    """All providers of a devnet: one scan of the chain for all, and a job per task and provider.

    `faults` are manners: while one is armed, all of them treat the next task so, whatever their own manner.
    `seen` holds when each task was first seen, in seconds since the epoch.
    """

    def __init__(
        self, contracts: Contracts, addresses: Addresses, content: ContentHost, providers: Sequence[Provider]
    ) -> None:
        self.providers = list(providers)
        self.faults = ArmedFaults(Manner, {}, (_TASK,))
        self.seen: dict[str, float] = {}
        self._contracts = contracts
        self._addresses = addresses
        self._content = content
        self._wallets = {each.account.address: Wallet(contracts.web3, each.account) for each in providers}
        self._next_block = 0
        self._jobs: set[asyncio.Task[None]] = set()
        self._scan: asyncio.Task[None] | None = None
        self._registrations: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Register for all sources that there are, then watch for more of them and for tasks."""
        await self._look()
        if self._jobs:
            await asyncio.wait(set(self._jobs))
        self._scan = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Let all work fall."""
        tasks = {*self._jobs, *([self._scan] if self._scan else [])}
        self._scan = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def attempt(self, provider: Provider, task: str, suggested_payment: int = 0) -> None:
        """Take a task on by hand; of a task that has expired this makes an EXPIRED one. Raises Reverted."""
        await self._send(provider, "attempt", task, provider.account.address, suggested_payment)

    async def submit(self, provider: Provider, task: str, link: str, payment: int) -> None:
        """Answer a task by hand. Raises Reverted."""
        await self._send(provider, "submitResponse", (task, provider.account.address, link, payment))

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if not any(each.awake.is_set() for each in self.providers):
                continue  # nobody would do anything; they catch up afterwards
            try:
                await self._look()
            except BackendError as error:
                _log.warning("the providers can't look at the chain: %s", error)

    async def _look(self) -> None:
        head = await fetch_head(self._contracts.web3)
        first, self._next_block = self._next_block, head.number + 1
        if first > head.number:
            return
        window = {"first": first, "last": head.number}
        nexus = self._addresses.nexus
        sources = await self._contracts.fetch_events(nexus, "SourcePublished", **window)
        tasks = await self._contracts.fetch_events(nexus, "TaskPublished", **window)
        manners = {task: self.faults.take(_TASK, tuple(Manner)) for task, _source in tasks}
        self.seen = {**dict.fromkeys(manners, time.time()), **self.seen}
        for provider in self.providers:
            for (source,) in sources:
                key = (provider.account.address, source)
                self._registrations[key] = self._begin(self._register(provider, source))
            for task, source in tasks:
                self._begin(self._work(provider, task, source, manners[task]))

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        job = asyncio.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    async def _register(self, provider: Provider, source: str) -> None:
        await self._try(provider, source, "register", source, provider.account.address, _CPU)

    async def _work(self, provider: Provider, task: str, source: str, told: Manner | None) -> None:
        registration = self._registrations.get((provider.account.address, source))
        if registration is not None:
            await asyncio.wait([registration])
        await provider.awake.wait()
        manner = told or provider.manner
        if manner is Manner.IGNORE:
            return
        try:
            _source, config, _expiry, payment = await self._contracts.ask("Task", task, "taskParams")
        except BackendError as error:
            _log.debug("%s is gone, in a reorg: %s", task, error)
            return
        price = payment * provider.share_percent // 100
        if not await self._try(provider, task, "attempt", task, provider.account.address, price):
            return
        provider.attempted.append(task)
        link = await self._make_answer(provider, config, manner)
        await provider.awake.wait()
        if link is None:
            return
        answer = (task, provider.account.address, link, price)
        if await self._try(provider, task, "submitResponse", answer):
            provider.answered.append(task)

    async def _make_answer(self, provider: Provider, config_url: str, manner: Manner) -> str | None:
        """Run the function, pin its output; return the link to submit, or None for no answer."""
        try:
            config: JSON = json.loads(self._content.get(find_cid(config_url)))
        except (BadCid, KeyError, ValueError) as error:
            _log.warning("a task's config can't be read: %r", error)
            return None
        output = await run_function(config) if isinstance(config, dict) else None
        await asyncio.sleep(provider.wait_seconds)
        if output is None or manner is Manner.SILENT:
            return None
        return self._pin(manner, json.dumps(output).encode())

    def _pin(self, manner: Manner, output: bytes) -> str:
        if manner is Manner.FOREIGN_URL:
            return "http://127.0.0.1:1/answer.json"
        if manner is Manner.MISSING:
            return f"{self._content.gateway_url}/ipfs/Qm{'a' * 44}"
        cid = self._content.put(b"<html>no</html>" if manner is Manner.GARBAGE else output)
        if manner is Manner.WRONG_CID:
            self._content.spoil(cid)
        if manner is Manner.UNPINNED_HOST:
            return f"http://127.0.0.1:1/ipfs/{cid}"
        return self._content.make_link(cid)

    async def _try(self, provider: Provider, about: str, function: str, *arguments: JSON) -> bool:
        """Send something that the chain may rightly refuse; say whether it took it."""
        try:
            await self._send(provider, function, *arguments)
        except (Reverted, RevertedInBlock) as refusal:
            _log.debug("%s of %s is refused: %s", function, about, refusal)
            provider.refused.append(about)
            return False
        except BackendError as error:
            _log.warning("%s of %s fails: %s", function, about, error)
            return False
        return True

    async def _send(self, provider: Provider, function: str, *arguments: JSON) -> None:
        data = self._contracts.encode("Nexus", function, *arguments)
        wallet = self._wallets[provider.account.address]
        await wallet.send(self._addresses.nexus, data, mine=self._scan is None)  # at the start nobody waits
