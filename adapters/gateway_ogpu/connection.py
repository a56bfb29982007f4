"""One network of OGPU: its chain, our account on it, and where content is. Made without I/O, used late."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from gateway.clock import Clock
from gateway.errors import BackendError, ConfigError, Rejected
from gateway_ogpu.config import OgpuConfig
from gateway_ogpu.contracts import EVENTS, get_topic, parse_event
from gateway_ogpu.errors import NoKey

if TYPE_CHECKING:
    from gateway.adapter import Notebook
    from gateway.chain.heads import Heads
    from gateway.chain.nonces import MemoryNonceBook, NonceBook
    from gateway.chain.pool import RpcPool
    from gateway.chain.prepared import Prepared
    from gateway.chain.receipts import Receipts
    from gateway.chain.rpc import Log
    from gateway.chain.scan import LogScan
    from gateway.chain.signer import Signer
    from gateway.chain.transactions import Transactions
    from gateway.content import ContentStore

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_FRESH_FOR = timedelta(milliseconds=150)  # of the newest block, where one comes each second
_books: WeakValueDictionary[object, MemoryNonceBook] = WeakValueDictionary()


class Connection:
    """What the adapter and the client share of a network.

    Args:
        name: of the backend, for errors.
        config: see OgpuConfig.
        signer: an account of eth_account or an external signer, instead of the configured key.
        book: where nonces are written down; default: one per account, network and process.
        client: an httpx or httpx2 AsyncClient for the pin service and the gateways, instead of own ones.
    """

    def __init__(
        self,
        name: str,
        config: OgpuConfig,
        clock: Clock,
        *,
        signer: Any = None,
        book: NonceBook | None = None,
        client: Any = None,
    ) -> None:
        self.name = name
        self.config = config
        self.clock = clock
        self.network = config.make_network()
        self.contracts = self.network.contracts
        self._account = signer
        self._book = book
        self._client = client
        self._signer: Signer | None = None
        self._unlocking = asyncio.Lock()
        self._rpc: RpcPool | None = None
        self._heads: Heads | None = None
        self._receipts: Receipts | None = None
        self._scan: LogScan | None = None
        self._transactions: Transactions | None = None
        self._content: ContentStore | None = None

    def lend(self, notebook: Notebook) -> None:
        """Keep nonces there, unless a book was given, or one is in use already."""
        from gateway.chain.shared_nonces import SharedNonceBook

        if self._book is None:
            urls = [url.get_secret_value() for url in self.config.rpc_url]
            hosts = {urlsplit(url).hostname for url in urls}
            # A chain on this machine is another one when it comes up again, at another port.
            is_local = urls and hosts <= _LOOPBACK
            local = hashlib.sha256(urls[0].encode()).hexdigest()[:16] if is_local else ""
            self._book = SharedNonceBook(notebook, f"{self.contracts.nexus.lower()} {local}", self.clock)

    @property
    def rpc(self) -> RpcPool:
        """Its RPCs; each is checked to be on its chain."""
        if self._rpc is None:
            from gateway.chain.pool import RpcPool

            urls = [url.get_secret_value() for url in self.config.rpc_url] or [self.network.rpc_url]
            self._rpc = RpcPool(
                urls,
                chain_id=self.network.chain_id,
                clock=self.clock,
                timeout_seconds=self.config.rpc_timeout_seconds,
            )
        return self._rpc

    @property
    def heads(self) -> Heads:
        """The newest block."""
        if self._heads is None:
            from gateway.chain.heads import Heads

            self._heads = Heads(self.rpc, clock=self.clock, fresh_for=_FRESH_FOR)
        return self._heads

    @property
    def receipts(self) -> Receipts:
        """Receipts of what was sent."""
        if self._receipts is None:
            from gateway.chain.receipts import Receipts

            self._receipts = Receipts(
                self.rpc, self.heads, confirmations=self.config.confirmations, clock=self.clock
            )
        return self._receipts

    @property
    def scan(self) -> LogScan:
        """The events of all tasks that are followed, by the address of the task."""
        if self._scan is None:
            from gateway.chain.scan import LogFilter, LogScan

            topics = tuple(
                get_topic(name) for name in EVENTS if name.startswith(("Task", "Attempted", "ResponseSub"))
            )
            self._scan = LogScan(
                self.rpc,
                self.heads,
                LogFilter((self.contracts.nexus,), topics),
                keys_of=_get_task,
                confirmations=self.config.confirmations,
                clock=self.clock,
            )
        return self._scan

    @property
    def signer(self) -> Signer:
        """Our account. Raises NoKey, or ConfigError for a key that is none."""
        if self._signer is None:
            from gateway.chain import signer

            config = self.config
            if self._account is not None:
                self._signer = signer.make_account_signer(self._account)
            elif config.private_key is not None:
                self._signer = signer.make_key_signer(config.private_key)
            elif config.keystore is not None and config.keystore_password is not None:
                self._signer = signer.make_keystore_signer(
                    config.keystore.get_secret_value(), config.keystore_password
                )
            else:
                raise NoKey(f"{self.name} has no private_key, so it can only read", backend=self.name)
        return self._signer

    @property
    def own_address(self) -> str | None:
        """Our account's address; None if there is no key, or it was not needed yet."""
        return self._signer.address if self._signer is not None else None

    async def unlock(self) -> Signer:
        """Return our account; a keystore is decrypted beside the event loop, for that takes about a second.

        Raises as `signer`.
        """
        async with self._unlocking:
            if self._signer is None and self.config.keystore is not None:
                return await asyncio.to_thread(lambda: self.signer)
            return self.signer

    @property
    def transactions(self) -> Transactions:
        """Our account's transactions. Raises as `signer`."""
        if self._transactions is None:
            from gateway.chain.fees import FeePolicy
            from gateway.chain.nonces import LaneKey, NonceLane
            from gateway.chain.transactions import Transactions

            config, signer = self.config, self.signer
            self._book = self._book or self._share_book(signer.address)
            key = LaneKey(self.network.chain_id, signer.address)
            self._transactions = Transactions(
                self.rpc,
                signer,
                NonceLane(self.rpc, key, book=self._book, clock=self.clock),
                policy=FeePolicy(
                    gas_margin_percent=config.gas_margin_percent,
                    max_fee=config.max_fee.amount if config.max_fee else None,
                    max_cost=config.max_gas_cost.amount if config.max_gas_cost else None,
                ),
                confirmations=config.confirmations,
                clock=self.clock,
            )
        return self._transactions

    async def came_too_late(self, prepared: Prepared, moment: int) -> bool:
        """Say whether it is proven that no block up to a moment (in seconds) has a transaction."""
        from gateway.chain.spent import came_too_late

        return await came_too_late(self.rpc, prepared, moment, confirmations=self.config.confirmations)

    @property
    def content(self) -> ContentStore:
        """Where files are pinned, and read from the configured gateways alone."""
        if self._content is None:
            from gateway_ogpu.content import make_content

            self._content = make_content(self.config, self.network, clock=self.clock, client=self._client)
        return self._content

    @asynccontextmanager
    async def named(self) -> AsyncIterator[None]:
        """Put the backend's name on what is raised inside; a wrong configuration refuses, no more."""
        try:
            yield
        except ConfigError as error:
            raise Rejected(str(error), backend=self.name) from error
        except BackendError as error:
            error.backend = error.backend or self.name
            raise

    async def aclose(self) -> None:
        """Close the connections; used again, they are opened again."""
        rpc, self._rpc = self._rpc, None
        content, self._content = self._content, None
        self._heads = self._receipts = self._scan = self._transactions = None
        if rpc is not None:
            await rpc.aclose()
        if content is not None:
            await content.aclose()

    def _share_book(self, address: str) -> NonceBook:
        """Return the one book of this account and network: two backends of one key share its nonces."""
        from gateway.chain.nonces import MemoryNonceBook

        urls = tuple(url.get_secret_value() for url in self.config.rpc_url)
        key = (self.network.chain_id, self.contracts.nexus.lower(), urls, address)
        book = _books.get(key)
        if book is None:
            book = _books[key] = MemoryNonceBook()
        return book


def _get_task(log: Log) -> Iterable[str]:
    event = parse_event(log)
    return () if event is None else (event.arguments["task"],)
