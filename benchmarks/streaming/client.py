"""A client of streams: many at once, each read to its end, and when the first event came."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self
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


class Client:
    """One connection, kept from stream to stream."""

    def __init__(self, url: str, headers: Mapping[str, str], model: str) -> None:
        """Make it without I/O."""
        self._parts, self._model = urlsplit(url), model
        sent = {"host": self._parts.netloc, "content-type": "application/json", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        self._head = f"POST {self._parts.path} HTTP/1.1\r\n{lines}content-length: "

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def read(self, wish: Wish) -> Read:
        """Read one stream. Raises RuntimeError if it is not as it was asked for."""
        body = make_body(self._model, str(wish), stream=True)
        began = time.perf_counter()
        self._writer.write(f"{self._head}{len(body)}\r\n\r\n".encode() + body)
        got, first_ms = bytearray(), 0.0
        while not got.endswith(b"0\r\n\r\n"):
            chunk = await self._reader.read(262_144)
            if not chunk:
                break
            got += chunk
            if not first_ms and _EVENT.search(got):
                first_ms = (time.perf_counter() - began) * 1e3
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
        async with Client(url, headers, model) as client:
            for wish in left:
                await client.read(wish)

    began = time.perf_counter()
    await asyncio.gather(*(read_on() for _ in range(at_once)))
    return sum(wish.events for wish in wishes) / (time.perf_counter() - began)


async def read_alone(url: str, headers: Mapping[str, str], model: str, times: int) -> list[float]:
    """Read short streams one after the other and return the ms until each first event."""
    async with Client(url, headers, model) as client:
        return [(await client.read(Wish(2))).first_ms for _ in range(times)]
