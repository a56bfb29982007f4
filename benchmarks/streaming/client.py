"""A client of streams: many at once, each read to its end, and when the first event came."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.server.contestants import make_body
from benchmarks.streaming.mock import Wish

_EVENT = re.compile(rb'"content": ?"word ')
_SEAM = re.compile(rb"\r\n[0-9a-fA-F]+\r\n")  # between two chunks; an event may lie across it


@dataclass(frozen=True, slots=True)
class Read:
    """One stream: its events, and the ms until the first of them was there."""

    events: int
    first_ms: float


async def read_stream(url: str, headers: Mapping[str, str], model: str, wish: Wish) -> Read:
    """Read one stream on a connection of its own. Raises RuntimeError if it is not as it was asked for."""
    parts, body = urlsplit(url), make_body(model, str(wish), stream=True)
    sent = {"host": parts.netloc, "content-type": "application/json", **headers, "connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    head = f"POST {parts.path} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        began = time.perf_counter()
        writer.write(head + body)
        got, first_ms = bytearray(), 0.0
        while not got.endswith(b"0\r\n\r\n"):
            chunk = await reader.read(262_144)
            if not chunk:
                break
            got += chunk
            if not first_ms and _EVENT.search(got):
                first_ms = (time.perf_counter() - began) * 1e3
    finally:
        writer.close()
    found = count_events(bytes(got))
    if found != wish.events or b"[DONE]" not in got[-200:]:
        raise RuntimeError(f"{found} events instead of {wish.events}: {bytes(got[:500])!r}")
    return Read(found, first_ms)


def count_events(answer: bytes) -> int:
    """Return how many pieces of text an answer has."""
    return len(_EVENT.findall(_SEAM.sub(b"", answer)))


async def read_many(
    url: str, headers: Mapping[str, str], model: str, wishes: Sequence[Wish], at_once: int
) -> float:
    """Read streams, so many at once, and return the events a second."""
    left = iter(wishes)

    async def read_on() -> None:
        for wish in left:
            await read_stream(url, headers, model, wish)

    began = time.perf_counter()
    await asyncio.gather(*(read_on() for _ in range(at_once)))
    return sum(wish.events for wish in wishes) / (time.perf_counter() - began)


async def read_alone(url: str, headers: Mapping[str, str], model: str, times: int) -> list[float]:
    """Read short streams one after the other and return the ms until each first event."""
    return [(await read_stream(url, headers, model, Wish(2))).first_ms for _ in range(times)]
