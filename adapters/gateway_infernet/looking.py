"""One poller per node: whoever wants to know about a job asks here, and one GET asks for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import BackendError
from gateway_infernet import wire
from gateway_infernet.batching import Batcher
from gateway_infernet.node import Node


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job to be looked at; `intermediate`: with the results of the earlier containers of a chain."""

    job_id: str
    intermediate: bool = False


class Looker:
    """Looks at jobs, many per GET."""

    def __init__(self, node: Node) -> None:
        """Make it without I/O."""
        self._node = node
        self._batcher: Batcher[Wanted, wire.Look] = Batcher(node.name, self._send, _count_for_get)

    async def look(self, wanted: Wanted) -> wire.Look:
        """Look at one job, together with all that others want at the same time."""
        return await self._batcher.add(wanted)

    async def look_at_many(self, wanted: Sequence[Wanted]) -> Mapping[str, wire.Look]:
        """Look at many. Raises only if there is news of none of them."""
        results = await self._batcher.add_many(wanted)
        looks: dict[str, wire.Look] = {}
        failed: BackendError | None = None
        for one, result in zip(wanted, results, strict=True):
            if isinstance(result, BackendError):
                failed = failed or result
            else:
                looks[one.job_id] = result
        if failed is not None and not looks:
            raise failed
        return looks

    async def aclose(self) -> None:
        """Stop looking."""
        await self._batcher.aclose()

    async def _send(self, wanted: Sequence[Wanted]) -> list[wire.Look | BackendError]:
        ids = list(dict.fromkeys(one.job_id for one in wanted))
        looks = await self._node.fetch_looks(ids, intermediate=any(one.intermediate for one in wanted))
        return [looks[one.job_id] for one in wanted]


def _count_for_get(wanted: Sequence[Wanted]) -> int:
    return wire.count_for_get([one.job_id for one in wanted[: wire.MAX_IDS_PER_GET]])
