"""An answer of HTTP/1.1 as it comes in, read by httptools."""

from __future__ import annotations

import httpx2
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_MOST_HEAD_BYTES = 1 << 18


class Incoming:
    """The answers of one connection, one after the other; httptools calls the methods that begin with `on_`.

    Attributes:
        status: of HTTP.
        headers: as they came.
        chunks: of the body, as far as they were not taken.
        unread_bytes: what came since they were.
        has_head: the status and all headers are there.
        is_whole: so is the body.
        keeps: another request may follow on this connection.
    """

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.on_body = self.chunks.append  # of a stream each event is a chunk
        self._parser = HttpResponseParser(self)
        self.begin()
        self.is_whole = True

    def begin(self) -> None:
        """Expect another answer."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks.clear()
        self.unread_bytes = self._head_bytes = 0
        self.has_head = self.is_whole = self.keeps = False

    def feed(self, data: bytes) -> None:
        """Read what has come. Raises RemoteProtocolError for what is no answer, or was not asked for."""
        if self.is_whole:
            raise httpx2.RemoteProtocolError("the server says what nobody has asked for")
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            raise httpx2.RemoteProtocolError(f"this is no answer: {error}") from None
        self.unread_bytes += len(data)
        if not self.has_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                raise httpx2.RemoteProtocolError("the head of the answer has no end")

    def end(self) -> None:
        """Take the connection's end as the answer's, if it has told no other."""
        told = {name.lower() for name, _ in self.headers}
        if self.has_head and not told & {b"content-length", b"transfer-encoding"}:
            self.is_whole = True
        self.keeps = False

    def take(self) -> bytes:
        """Return what has come of the body and was not taken."""
        chunks, self.unread_bytes = self.chunks, 0
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return body

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, not a trailer."""
        if not self.has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Know the status; one of the hundreds is no answer yet."""
        self.status = self._parser.get_status_code()
        self.has_head = self.status >= 200
        self.keeps = self._parser.should_keep_alive()

    def on_message_begin(self) -> None:
        """Keep no connection on which more is said than was asked for."""
        if self.is_whole:
            self.keeps = False

    def on_message_complete(self) -> None:
        """Know the end."""
        if self.has_head:
            self.is_whole = True
        else:
            self.headers = []
