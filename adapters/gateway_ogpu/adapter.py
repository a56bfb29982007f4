"""The seam, for one network of OGPU."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.adapter import Adapter, CancelOutcome, Capabilities, Feature, Notebook, Recovery
from gateway.chain.loading import begin_to_load, load
from gateway.chain.nonces import NonceBook
from gateway.chain.pool import Lagging
from gateway.chain.rpc import request_many
from gateway.clock import Clock
from gateway.errors import BackendError, ConfigError
from gateway.targets import Targets
from gateway.task import Envelope, Event, Handle, Quote, Snapshot, Task
from gateway.types import JSON, AttemptId
from gateway_ogpu import confirming
from gateway_ogpu.answers import Answers
from gateway_ogpu.config import OgpuConfig, OgpuTarget
from gateway_ogpu.confirming import Acts
from gateway_ogpu.connection import Connection
from gateway_ogpu.following import Following
from gateway_ogpu.news import follow
from gateway_ogpu.publishing import Publishing
from gateway_ogpu.sending import Sending

if TYPE_CHECKING:
    from gateway_ogpu.client import OgpuClient

_POLL_MANY = 1000
_LOADING_SECONDS = 3.0  # then the first task waits for the import
_FEATURES = frozenset({Feature.EVENTS, Feature.QUOTE, Feature.CANCEL, Feature.ACCEPT, Feature.RECALL})


class OgpuAdapter(Adapter[OgpuConfig]):
    """One network of OGPU, and one account on it.

    A publication's hash is known before it is sent, so what became of it can always be found out; on any
    doubt the same bytes are sent again, of which only one can land.
    """

    config_type = OgpuConfig
    target_type = OgpuTarget

    def __init__(
        self,
        name: str,
        config: OgpuConfig,
        *,
        clock: Clock | None = None,
        client: Any = None,
        signer: Any = None,
        book: NonceBook | None = None,
    ) -> None:
        """Make it without I/O.

        Args:
            name: of the backend.
            config: see OgpuConfig.
            clock: for waiting.
            client: an httpx or httpx2 AsyncClient for the pin service and the gateways.
            signer: an account of eth_account, or an object with `address` and `sign_transaction`, instead of
                the configured key.
            book: where nonces are written down.
        """
        super().__init__(name, config, clock=clock)
        self._targets = Targets(OgpuTarget, name)
        self.connection = Connection(name, config, self.clock, signer=signer, book=book, client=client)
        sending = Sending(self.connection)
        self._publishing = Publishing(self.connection, sending)
        self._answers = Answers(self.connection)
        self._following = Following(self.connection, sending, self._answers)
        self._acts = Acts(self.connection, sending, self._following)

    def lend(self, notebook: Notebook) -> None:
        """Keep nonces in the store, where all its processes find them; begin to load what a chain needs."""
        self.connection.lend(notebook)
        begin_to_load()

    @property
    def address(self) -> str:
        """The chain and its Nexus: the same network under another RPC is the same place."""
        network = self.connection.network
        return f"eip155:{network.chain_id}/{network.contracts.nexus.lower()}"

    async def capabilities(self) -> Capabilities:
        """Ask the chain whether it is the right one, and whether the contracts are there."""
        connection = self.connection
        try:
            async with asyncio.timeout(_LOADING_SECONDS):
                await load()
        except TimeoutError:  # on a machine that is busy; it says nothing about the chain
            return Capabilities(
                healthy=True, features=_FEATURES, poll_many=_POLL_MANY, reason="web3 is still being imported"
            )
        try:
            async with connection.named():
                account = (await connection.unlock()).address
                addresses = connection.contracts.model_dump().items()
                _, codes = await asyncio.gather(  # in one request
                    connection.heads.fetch(),
                    request_many(
                        connection.rpc, [("eth_getCode", [address, "latest"]) for _, address in addresses]
                    ),
                )
        except Lagging as error:  # the replicas are behind: in a moment they are not
            return Capabilities(healthy=True, features=_FEATURES, poll_many=_POLL_MANY, reason=str(error))
        except (BackendError, ConfigError) as error:
            return Capabilities(healthy=False, features=_FEATURES, poll_many=_POLL_MANY, reason=str(error))
        missing = [name for (name, _), code in zip(addresses, codes, strict=True) if code in (None, "0x")]
        return Capabilities(
            healthy=not missing,
            features=_FEATURES,
            poll_many=_POLL_MANY,
            reason=f"there is no contract at the address of {', '.join(missing)}" if missing else None,
            detail={"chain_id": connection.network.chain_id, "account": account},
        )

    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        """Check what the contracts would refuse, upload the config, and sign. Nothing is sent.

        Raises the errors of `gateway_ogpu.errors`, InsufficientFunds, FeeTooHigh, WrongChain, InvalidInput,
        content errors of the upload, or Unavailable.
        """
        words = self._targets.read(target)
        await load()
        async with self.connection.named():
            return await self._publishing.prepare(task, words, attempt_id)

    async def submit(self, envelope: Envelope) -> Handle:
        """Broadcast the stored bytes; a confirmation is waited for until it is in a block."""
        async with self.connection.named():
            return await self._get_part(envelope).submit(envelope)

    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        """Look at all of them: one scan of events per block, and batches of views for those with news.

        A publication that the chain has lost (a reorg, a pool that was emptied) is sent again, the same
        bytes: that starts no other job.
        """
        async with self.connection.named():
            return await self._following.look(handles)

    async def events(self, handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:  # noqa: ARG002  every snapshot is whole
        """Yield a job's snapshots as blocks bring them, to its end."""
        async with self.connection.named():
            async for snapshot in follow(self.connection, self._following, handle):
                yield Event(kind="snapshot", snapshot=snapshot)

    async def recover(self, envelope: Envelope) -> Recovery:
        """Look the transaction up by its hash, and its nonce."""
        async with self.connection.named():
            return await self._get_part(envelope).recover(envelope)

    async def quote(self, task: Task, target: Mapping[str, JSON]) -> Quote:
        """Tell the payment plus gas at the fees of the moment."""
        words = self._targets.read(target)
        async with self.connection.named():
            return await self._publishing.quote(task, words)

    async def cancel(self, handle: Handle) -> CancelOutcome:
        """Take a task back while nobody has attempted it; afterwards it is TOO_LATE."""
        async with self.connection.named():
            return await self._acts.cancel(handle)

    async def accept(self, handle: Handle, snapshot: Snapshot) -> Envelope:
        """Sign the confirmation of the one answer that `snapshot.answers` holds."""
        async with self.connection.named():
            return await self._acts.accept(handle, snapshot)

    def make_client(self) -> OgpuClient:
        """Make the client of everything beside the seam; it shares our account and connections."""
        from gateway_ogpu.client import OgpuClient

        return OgpuClient.of(self)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._answers.aclose()
        await self.connection.aclose()

    def _get_part(self, envelope: Envelope) -> Publishing | Acts:
        return self._acts if envelope.payload.get("kind") == confirming.KIND else self._publishing
