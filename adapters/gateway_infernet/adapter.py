"""The seam, for one Infernet node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gateway.adapter import Adapter, Capabilities, Recovery
from gateway.clock import Clock
from gateway.errors import BackendError, InvalidInput
from gateway.targets import Targets
from gateway.task import Envelope, Event, Handle, Quote, Snapshot, Task
from gateway.types import JSON, AttemptId
from gateway_infernet import wire
from gateway_infernet.config import DELEGATED, InfernetConfig, InfernetTarget
from gateway_infernet.facts import Facts
from gateway_infernet.jobs import Jobs
from gateway_infernet.looking import Looker, Wanted
from gateway_infernet.node import Node

if TYPE_CHECKING:
    from gateway_infernet.delegations import Delegations


class InfernetAdapter(Adapter[InfernetConfig]):
    """One Infernet node. Every job gets its attempt's id, so a lost answer is looked up and not repeated."""

    config_type = InfernetConfig
    target_type = InfernetTarget

    def __init__(
        self, name: str, config: InfernetConfig, *, clock: Clock | None = None, client: Any = None
    ) -> None:
        """Make it without I/O; `client` is an httpx or httpx2 AsyncClient to use instead of an own one."""
        super().__init__(name, config, clock=clock)
        self._node = Node(name, config, self.clock, client)
        self._facts = Facts(self._node, config)
        self._looker = Looker(self._node)
        self._jobs = Jobs(self._node, config, self._facts, self._looker, self.clock)
        self._targets = Targets(InfernetTarget, name)

    async def capabilities(self) -> Capabilities:
        """Ask /health, /info and, from 1.4 on, /resources."""
        return await self._facts.fetch_capabilities()

    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        """Check all that a node would refuse without saying why.

        Raises InvalidInput, Rejected, or Unavailable where the node must be asked and can't be.
        """
        words = self._targets.read(target)
        if words.delegated is not None:
            payload = await self._delegations.make_payload(task, words, words.delegated, attempt_id)
        else:
            payload = await self._jobs.make_payload(task, words, attempt_id)
        return Envelope(
            attempt_id=attempt_id, backend=self.name, payload=payload, prepared_at=self.clock.now()
        )

    async def submit(self, envelope: Envelope) -> Handle:
        """Send it. Jobs that are submitted while a request is under way go together in the next."""
        return await self._get_part(envelope.payload).submit(envelope)

    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        """Look at all of them with one GET per 350 jobs.

        Raises Throttled without asking when the node's limit is nearly used up. A streamed job that still
        "runs" after its stream ended, or more than a minute after it began, has failed by "timeout": the node
        cuts streams after 60 s and says nothing more about their jobs.
        """
        parts: defaultdict[Jobs | Delegations, list[Handle]] = defaultdict(list)
        for handle in handles:
            parts[self._get_part(handle.detail)].append(handle)
        found: dict[Handle, Snapshot] = {}
        failed: BackendError | None = None
        for part, its_handles in parts.items():
            try:
                found |= await part.look(its_handles)
            except BackendError as error:  # the chain being away is no reason to hide the node's news
                failed = failed or error
        if failed is not None and not found:
            raise failed
        return found

    async def recover(self, envelope: Envelope) -> Recovery:
        """Look the attempt's own id up at the node, or a delegated subscription on its chain."""
        return await self._get_part(envelope.payload).recover(envelope)

    async def quote(self, task: Task, target: Mapping[str, JSON]) -> Quote:  # noqa: ARG002  the seam's words
        """Tell the configured price (without one jobs are free), or what a delegated subscription pays."""
        words = self._targets.read(target)
        if words.delegated is not None:
            from gateway_infernet.delegations import make_quote

            return make_quote(words.delegated, self.config.chain, self.clock.now())
        price = self.config.price
        return Quote(
            expected=price,
            upper=price,
            confidence="free" if price is None else "configured",
            quoted_at=self.clock.now(),
        )

    def events(self, handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:  # noqa: ARG002
        """Yield a streamed job's bytes as they come, then what GET says: the stream's end proves nothing.

        If the job still "runs" then, the last snapshot is a failure of kind "timeout". Who stops reading
        early ends the job. A job whose stream is not open in this process yields one snapshot.
        """
        return self._jobs.events(handle)

    async def aclose(self) -> None:
        """Close streams and connections; a submission that is under way is in doubt."""
        await self._jobs.aclose()
        if "_delegations" in vars(self):
            await self._delegations.aclose()
        await self._looker.aclose()
        await self._node.aclose()

    async def resources(self, model_id: str | None = None) -> Mapping[str, JSON]:
        """Return what each container says of its hardware, or of its support for a model (nodes from 1.4).

        Containers that do not answer are absent, and so are all that the node knows by URL. Raises Rejected
        on older nodes.
        """
        return await self._node.fetch_resources(model_id)

    async def fetch_job_ids(self, *, pending: bool | None = None) -> list[str]:
        """Return the ids of all jobs from our address, unordered; `pending`: only running, or ended ones."""
        return await self._node.fetch_job_ids(pending=pending)

    async def fetch_results(self, ids: Iterable[str], *, intermediate: bool = True) -> dict[str, JSON]:
        """Return the node's own words (`id`, `status`, `result`, ...) for each id that it knows."""
        wanted = [Wanted(job_id, intermediate) for job_id in dict.fromkeys(ids)]
        looks = await self._looker.look_at_many(wanted)
        return {job_id: dict(look.entry) for job_id, look in looks.items() if look.entry is not None}

    async def put_status(self, job_id: str, status: str, containers: Sequence[str]) -> None:
        """Record a job's status, as a container does for a job of its own; a node takes it from its machine.

        It carries no result, and is kept under the caller's address.

        Raises:
            InvalidInput: `status` is not running, success or failed.
            Rejected: the node does not take it from our address.
        """
        if status not in wire.STATUS:
            raise InvalidInput(f"{status!r} is not one of {', '.join(wire.STATUS)}")
        await self._node.put_status({"id": job_id, "status": status, "containers": list(containers)})

    @cached_property
    def _delegations(self) -> Delegations:
        """Most nodes get jobs only, and need not wait until all that has to do with the chain is loaded."""
        from gateway_infernet.delegations import Delegations

        return Delegations(self._node, self.config, self._facts, self.clock)

    def _get_part(self, words: Mapping[str, JSON]) -> Jobs | Delegations:
        return self._delegations if words.get("kind") == DELEGATED else self._jobs
