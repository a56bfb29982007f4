"""HTTP on the socket: a head that does not come, or has no end, is not waited for; an answer is one write."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.server.wire import AT_ONCE, Response

HEAD_SECONDS = 15.0
REST_SECONDS = 30.0
"""For what is left of a body that was answered without it, and for the next head."""
MOST_HEAD_BYTES = 64 * 1024


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools, that limits the head's time and size, and what nobody reads."""

    _waiting: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base
        """Give the first head its time."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before the head's end."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head:
            return
        if self._head_bytes > MOST_HEAD_BYTES:
            self._give_up()
        elif self._waiting is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """Count the head of a further request as well; one that has not come whole is given its time."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Stop waiting: the body has limits of its own."""
        self._in_head, self._head_bytes = False, 0
        self._stop_waiting()
        super().on_headers_complete()
        scope: Any = self.scope
        scope[AT_ONCE] = _AtOnce(self.cycle)

    def on_response_complete(self) -> None:
        """Give what is left of the body its time: nobody reads it, and nobody else ends the connection."""
        super().on_response_complete()
        if self._waiting is None and self.cycle.response_complete and self.cycle.more_body:
            self._wait(REST_SECONDS)

    def _wait_for_head(self) -> None:
        self._wait(HEAD_SECONDS)

    def _wait(self, seconds: float) -> None:
        self._waiting = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._stop_waiting()
        transport: Any = self.transport
        if not transport.is_closing():
            transport.close()


@dataclass(slots=True)
class _AtOnce:
    """See gateway.server.wire.AtOnce; what is rare is left to uvicorn and its messages."""

    cycle: RequestResponseCycle

    def take_body(self) -> bytes | None:
        """Return the whole body if it is there."""
        cycle = self.cycle
        if cycle.more_body or cycle.disconnected or cycle.response_complete or cycle.waiting_for_100_continue:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        cycle.flow.resume_reading()
        cycle.message_event.clear()
        return body

    def write(self, answer: Response) -> bool:
        """Write in one piece what two messages would in two."""
        cycle = self.cycle
        if cycle.response_started or cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive:
            return False
        headers = (*cycle.default_headers, *answer.headers)
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        fits = lines.count(b"\n") == lines.count(b"\r") == len(headers) and b"\0" not in lines
        if not fits or cycle.scope["method"] == "HEAD":
            return False
        head = b"%b%bcontent-length: %d\r\n\r\n" % (STATUS_LINE[answer.status], lines, len(answer.body))
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(head + answer.body)
        cycle.message_event.set()
        cycle.on_response()
        return True
