"""A run's pieces of output, for protocols that stream nothing but them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.server.events import follow
from gateway.server.service import Service
from gateway.server.tapes import Place
from gateway.types import JSON

STILL_HERE_SECONDS = 15.0


async def read_pieces(service: Service, run_id: str) -> AsyncGenerator[list[JSON | bytes]]:
    """Yield every piece of a run's output to its end, together those that have come meanwhile.

    Now and then, while nothing comes, there are none of them. Ends early when the server shuts down.
    """
    batches = follow(service, run_id, Place(0), STILL_HERE_SECONDS)
    async with aclosing(batches):  # type: ignore[type-var]  # generators
        async for batch in batches:
            if batch is None:
                yield []
                continue
            pieces = [event for _, event in batch if event.kind == "piece"]
            if pieces:
                yield [event.piece if event.data is None else event.data for event in pieces]
