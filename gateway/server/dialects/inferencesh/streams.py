"""The stream of a task: NDJSON for who asks for it, server-sent events for everybody else.

Each line is a whole task: a client that does not merge parts loses nothing. Pieces of output that a backend
tells as parts of it are passed on as deltas.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from gateway.server.dialects.inferencesh.tasks import find_run, view_task
from gateway.server.events import SSE_HEADERS, read_events, with_pauses
from gateway.server.tapes import Place
from gateway.server.wire import Answer, Request, Stream, encode
from gateway.task import Event, Run
from gateway.types import JSON

HEARTBEAT_SECONDS = 10.0
WHOLE_EVERY_SECONDS = 0.05
"""How often, at most, all of the output so far is told: for clients that know no deltas."""
_Writer = Callable[[str, JSON], bytes]

_LINES = ("application/x-ndjson", "application/jsonl")
_LINE_HEADERS = ((b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-cache"))


async def stream_task(request: Request) -> Answer:
    """Follow a task to its end, from its state of now."""
    run = await find_run(request)
    accepted = request.get_header(b"accept") or ""
    if any(kind in accepted for kind in _LINES):
        return Stream(_write(request, run, _write_line), headers=_LINE_HEADERS)
    return Stream(_write(request, run, _write_event), headers=SSE_HEADERS)


async def _write(request: Request, run: Run, write: _Writer) -> AsyncIterator[bytes]:
    yield write("update", view_task(run)) if not run.status.is_final else _write_end(run, write)
    if run.status.is_final:
        return
    service, said = request.service, _Said()
    async with (
        aclosing(read_events(service, run.id, Place(0))) as events,  # type: ignore[type-var]  # generators
        aclosing(with_pauses(events, service.stopping, HEARTBEAT_SECONDS)) as told,
    ):
        async for placed in told:
            event: Event | None = None if placed is None else placed[1]
            if event is None:
                yield write("heartbeat", {"type": "heartbeat"})
            elif event.kind == "piece":
                if isinstance(event.piece, dict):
                    yield write("delta", {"delta": event.piece, "seq": said.count})
                if said.add(event, service.clock.monotonic()):
                    yield write("update", {**view_task(run), "output": said.output})
            elif event.kind in ("snapshot", "status"):
                now = await service.get_run(request.caller, run.id)
                if not now.status.is_final:  # else its pieces are still to be told, and by an open task
                    run = now
                    yield write("update", view_task(run))
    run = await service.get_run(request.caller, run.id)
    if run.status.is_final:  # else the server shuts down, and the client asks on
        yield _write_end(run, write)


class _Said:
    """The output so far: texts grow, everything else is as it was said last."""

    def __init__(self) -> None:
        self.output: dict[str, JSON] = {}
        self.count = 0
        self._told_at = -math.inf
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, event: Event, now: float) -> bool:
        """Put a piece in; say whether it is time to tell all of it again."""
        self.count += 1
        for name, more in self._read(event).items():
            known = self.output.get(name)
            grows = isinstance(known, str) and isinstance(more, str)
            self.output[name] = f"{known}{more}" if grows else more
        if now - self._told_at < WHOLE_EVERY_SECONDS:
            return False
        self._told_at = now
        return True

    def _read(self, event: Event) -> dict[str, JSON]:
        if event.data is not None:
            return {"output": self._decoder.decode(event.data)}
        return event.piece if isinstance(event.piece, dict) else {"output": event.piece}


def _write_end(run: Run, write: _Writer) -> bytes:
    return write("done" if run.failure is None else "error", view_task(run))


def _write_line(kind: str, value: JSON) -> bytes:
    return encode({"event": "delta", "data": value} if kind == "delta" else value) + b"\n"


def _write_event(kind: str, value: JSON) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode("ascii"), encode(value))
