"""A run's pieces of output, for protocols that stream nothing but them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.server.events import read_events, with_pauses
from gateway.server.service import Service
from gateway.server.tapes import Place
from gateway.types import JSON

STILL_HERE_SECONDS = 15.0


async def read_pieces(service: Service, run_id: str) -> AsyncGenerator[JSON | bytes]:
    """Yield every piece of a run's output to its end, and None now and then while nothing comes.

    Ends early when the server shuts down.
    """
    async with aclosing(read_events(service, run_id, Place(0))) as events:  # type: ignore[type-var]  # generators
        async for placed in with_pauses(events, service.stopping, STILL_HERE_SECONDS):
            if placed is None:
                yield None
                continue
            _, event = placed
            if event.kind == "piece":
                yield event.data if event.data is not None else event.piece
