"""A run's events over HTTP: server-sent events that go on where they stopped, or a list of what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from gateway.server.bodies import EventsQuery
from gateway.server.callers import KeyScope
from gateway.server.routes import Operation, Route
from gateway.server.service import Service
from gateway.server.stopping import Stopping
from gateway.server.tapes import Place, Placed, read_placed
from gateway.server.views import view_event
from gateway.server.wire import Answer, Request, Response, Stream, answer_json, encode

if TYPE_CHECKING:
    from gateway.server.siblings import Siblings

SSE_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
_STILL_HERE_SECONDS = 15.0
_RETRY = b"retry: 1000\n\n"


async def send_events(request: Request) -> Answer:
    """Send a run's events from its first, or from where the client stopped, to its end."""
    after = _read_place(request)
    run = await request.service.get_run(request.caller, request.params["id"])
    accepted = request.get_header(b"accept") or ""
    if "application/json" in accepted and "text/event-stream" not in accepted:
        events = await request.service.store.list_events(run.id, after=after.seq)
        return answer_json({"events": [view_event(event) for event in events]})
    if run.status.is_final and request.get_header(b"last-event-id") is not None:
        stored = await request.service.store.list_events(run.id, after=after.seq)
        if not stored:
            return Response(204)  # an EventSource comes again after the end, until it hears this
    return Stream(stream_events(request.service, run.id, after), headers=SSE_HEADERS)


def _read_place(request: Request) -> Place:
    """Return where the client stopped; an id that no event of ours has is no place, so all come anew."""
    after, last = request.read_query(EventsQuery).after, request.get_header(b"last-event-id")
    if last is None:
        return Place(after)
    with suppress(ValueError):
        return Place.parse(last)
    return Place(0)


async def read_events(service: Service, run_id: str, after: Place) -> AsyncIterator[Placed]:
    """Yield a run's events after a place, to its end."""
    async with aclosing(read_batches(service, run_id, after)) as batches:  # type: ignore[type-var]  # generators
        async for batch in batches:
            for placed in batch:
                yield placed


def read_batches(service: Service, run_id: str, after: Place) -> AsyncIterator[Sequence[Placed]]:
    """Yield the same, and together what has come meanwhile."""
    if service.siblings is None or works_here(service, run_id):
        return read_batches_here(service, run_id, after)
    return _read_beside(service, service.siblings, run_id, after)


def works_here(service: Service, run_id: str) -> bool:
    """Say whether this process works on a run, or has recorded it."""
    return service.tapes.get(run_id) is not None or service.find_gateway(run_id).hosting.works_on(run_id)


def read_batches_here(service: Service, run_id: str, after: Place) -> AsyncIterator[Sequence[Placed]]:
    """Yield what this process knows of them: from its tape if it streams here, else as they are stored."""
    tape = service.tapes.get(run_id)
    if tape is not None:
        return tape.read_batches(after)
    events = service.find_gateway(run_id).events(run_id, after=after.seq)
    return _take_each(read_placed(events, Place(after.seq)))


async def _take_each(events: AsyncIterator[Placed]) -> AsyncIterator[Sequence[Placed]]:
    async with aclosing(events) as each:  # type: ignore[type-var]  # generators
        async for placed in each:
            yield (placed,)


async def _read_beside(
    service: Service, siblings: Siblings, run_id: str, after: Place
) -> AsyncIterator[Sequence[Placed]]:
    """Yield them from the worker that works on the run; what it does not tell, as it is stored."""
    is_over = False
    async with aclosing(siblings.read_batches(run_id, after)) as batches:  # type: ignore[type-var]  # generators
        async for batch in batches:
            after, last = batch[-1]
            is_over = last.kind == "end"
            yield batch
    if is_over:
        return
    async with aclosing(read_batches_here(service, run_id, after)) as batches:  # type: ignore[type-var]  # same
        async for batch in batches:
            yield batch


async def stream_events(service: Service, run_id: str, after: Place) -> AsyncIterator[bytes]:
    """Yield server-sent events; a comment now and then shows that the connection lives."""
    yield _RETRY
    batches = follow(service, run_id, after, _STILL_HERE_SECONDS)
    async with aclosing(batches):  # type: ignore[type-var]  # generators
        async for batch in batches:
            if batch is None:
                yield b": still here\n\n"
            else:
                yield b"".join(encode_event(*placed) for placed in batch)


def follow(
    service: Service, run_id: str, after: Place, seconds: float
) -> AsyncIterator[Sequence[Placed] | None]:
    """Yield what `read_batches` does, and None whenever nothing came for so long.

    Ends when the server shuts down. A tape knows by itself how to wait so, with no task for each batch.
    """
    tape = service.tapes.get(run_id)
    if tape is not None:
        return tape.follow(after, service.stopping, seconds)
    return _follow(read_batches(service, run_id, after), service.stopping, seconds)


async def _follow(
    batches: AsyncIterator[Sequence[Placed]], stopping: Stopping, seconds: float
) -> AsyncIterator[Sequence[Placed] | None]:
    async with (
        aclosing(batches) as items,  # type: ignore[type-var]  # generators
        aclosing(with_pauses(items, stopping, seconds)) as told,
    ):
        async for batch in told:
            yield batch


async def with_pauses(items: AsyncIterator[Any], stopping: Stopping, seconds: float) -> AsyncGenerator[Any]:
    """Yield what comes, and None whenever nothing came for so long; ends when the server shuts down.

    It is to be closed before `items`, of which it may be in the middle.
    """
    stop = asyncio.ensure_future(stopping.wait())
    coming: asyncio.Future[Any] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(_take(items))
            await asyncio.wait({coming, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                item, coming = coming.result(), None
                if item is _END:
                    return
                yield item
            elif stop.done():
                return
            else:
                yield None
    finally:
        stop.cancel()
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


_END = object()


async def _take(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


def encode_event(place: Place, event: Any) -> bytes:
    """Return one event as its lines."""
    head = f"id: {place}\nevent: {event.kind}\ndata: ".encode("ascii")
    return b"%b%b\n\n" % (head, encode(view_event(event)))


_LAST = "the id of the last event that was read: nothing after it is missed"
ROUTES = (
    Route(
        "GET",
        "/v1/runs/{id}/events",
        send_events,
        KeyScope.READ,
        Operation(
            "Follow a run: server-sent events, or with Accept: application/json what is stored so far",
            query=EventsQuery,
            answer="Events",
            content_types=("text/event-stream", "application/json"),
            status=(200, 204),
            headers={"Last-Event-ID": (_LAST, {"type": "string"})},
            problems=(404,),
        ),
    ),
)
