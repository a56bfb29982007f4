"""What OGPU has beside tasks that the gateway runs: sources, money, agents, single tasks, events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from gateway.chain.rpc import fetch_logs, request_many
from gateway.clock import Clock, SystemClock
from gateway_ogpu.acting import Acting
from gateway_ogpu.config import OgpuConfig
from gateway_ogpu.connection import Connection
from gateway_ogpu.contracts import EVENTS, NexusEvent, get_topic, parse_event
from gateway_ogpu.money import MoneyActs
from gateway_ogpu.sources import SourceActs
from gateway_ogpu.tasks import TaskActs

if TYPE_CHECKING:
    from gateway.chain.nonces import NonceBook
    from gateway_ogpu.adapter import OgpuAdapter

_WATCH_EVERY = timedelta(seconds=1)


class OgpuClient(SourceActs, MoneyActs, TaskActs):
    """One network of OGPU and one account on it; `async with OgpuClient(config) as client`.

    Every act is checked by running it on the node first, then signed once; on any doubt the same bytes are
    sent again. An act returns when its receipt is there.

    Everything raises InvalidInput for an address or an amount that is none, before anybody is asked. Acts
    raise the errors of `gateway_ogpu.errors` before anything was sent; RevertedInBlock if the state changed
    under them; InDoubt, with the hash in `detail`, if no block took the transaction in time; Unavailable,
    Throttled or Misbehaved of the RPC. Reads raise the last three.
    """

    def __init__(
        self,
        config: OgpuConfig | Mapping[str, Any],
        *,
        clock: Clock | None = None,
        signer: Any = None,
        book: NonceBook | None = None,
        client: Any = None,
        timeout: timedelta = timedelta(minutes=2),
    ) -> None:
        """Make it without I/O.

        Args:
            config: an OgpuConfig, or its words: `OgpuClient({"network": "testnet", "private_key": ...})`.
            clock: for waiting.
            signer: an account of eth_account, or an object with `address` and `sign_transaction`.
            book: where nonces are written down.
            client: an httpx or httpx2 AsyncClient for the pin service and the gateways.
            timeout: how long an act waits for its receipt.
        """
        settings = config if isinstance(config, OgpuConfig) else OgpuConfig.model_validate(dict(config))
        connection = Connection(
            "ogpu", settings, clock or SystemClock(), signer=signer, book=book, client=client
        )
        Acting.__init__(self, connection, timeout)

    @classmethod
    def of(cls, adapter: OgpuAdapter) -> OgpuClient:
        """Make one that shares an adapter's account and connections; closing it closes them."""
        made = cls.__new__(cls)
        Acting.__init__(made, adapter.connection, timedelta(minutes=2))
        return made

    async def watch(
        self,
        names: Collection[str] = (),
        *,
        since: int | None = None,
        every: timedelta = _WATCH_EVERY,
    ) -> AsyncIterator[NexusEvent]:
        """Yield the Nexus's events as they come, in the chain's order; ends only when it is left.

        Args:
            names: which, of `gateway_ogpu.contracts.EVENTS`; empty for all.
            since: the first block; default: the one after the newest.
            every: between two looks.

        Only blocks that lie `confirmations` deep are looked at. Raises KeyError for an unheard-of name.
        """
        topics = [get_topic(name) for name in names or EVENTS]
        connection = self.connection
        following = since
        while True:
            head = await connection.heads.fetch()
            last = head.number - connection.config.confirmations + 1
            if following is None:
                following = last + 1
            if following <= last:
                nexus, asked = connection.contracts.nexus, ("eth_getBlockByNumber", [hex(last), False])
                logs, [newest] = await asyncio.gather(  # in one request
                    fetch_logs(connection.rpc, nexus, [topics], first=following, last=last),
                    request_many(connection.rpc, [asked]),
                )
                is_whole = newest is not None  # a replica that is behind leaves out what it has not
                following = last + 1 if is_whole else following
                for log in logs if is_whole else ():
                    event = parse_event(log)
                    if event is not None:
                        yield event
            await connection.clock.sleep(every.total_seconds())

    async def aclose(self) -> None:
        """Close the connections."""
        await self.connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
