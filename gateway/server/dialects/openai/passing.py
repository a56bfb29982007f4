"""Streams that are this API's own already, as a backend's bytes: passed on as they come, unread."""

from __future__ import annotations

DONE = b"data: [DONE]\n\n"
_MOST_HELD_BYTES = 64 * 1024
_TAIL_BYTES = 32


class Passing:
    """A stream of bytes that may consist of server-sent chunks of this API: its first line tells.

    Attributes:
        is_ours: whether it does; None until that is known.
        held: what has come until then.
    """

    def __init__(self) -> None:
        self.is_ours: bool | None = None
        self.held = b""
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        """Take in what has come, and return what can go on: b"" until the first line is there."""
        if self.is_ours is None:
            data = self.held + data
            self.is_ours = _is_ours(data)
            self.held = data if self.is_ours is None else b""
            if self.is_ours is None:
                return b""
        self._tail = data[-_TAIL_BYTES:] if len(data) >= _TAIL_BYTES else (self._tail + data)[-_TAIL_BYTES:]
        return data

    def end(self) -> bytes:
        """Return what the stream lacks: the mark of its end, unless the backend has sent it."""
        if b"[DONE]" in self._tail:
            return b""
        return DONE if self._tail.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n" + DONE


def _is_ours(data: bytes) -> bool | None:
    """Say whether a stream begins with a chunk; None as long as its first line may still become one."""
    if not data.startswith(b"data:"[: len(data)]):
        return False
    line, newline, _ = data.partition(b"\n")
    if not newline and len(line) <= _MOST_HELD_BYTES:
        return None
    return b'"choices"' in line
