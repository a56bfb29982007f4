"""What the workers of one server ask each other: metrics, events of runs, and what is being taken in.

Each listens at a Unix socket in a folder that the parent process has made for them alone. A frame is four
bytes of length, and so many bytes. A question is one frame of words; an answer is any number of them, none if
the worker has none. An empty frame says that it still lives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.observe.registry import merge
from gateway.server.events import read_batches_here, with_pauses, works_here
from gateway.server.tapes import Place
from gateway.store.rows import decode_value
from gateway.task import Event

if TYPE_CHECKING:
    from gateway.server.service import Service
    from gateway.server.tapes import Placed

_log = logging.getLogger("gateway.server")
_ANSWER_SECONDS = 5.0
_STILL_HERE_SECONDS = 15.0
_LENGTH_BYTES = 4


class Siblings:
    """The other workers of this server, as one of them sees them."""

    def __init__(self, service: Service, door: Path) -> None:
        """Make it; `door` is this worker's own socket, beside those of the others."""
        self._service, self._door = service, door
        self._listening: asyncio.Server | None = None
        self._answering: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Begin to answer. A worker can do without, so what hinders it is only logged."""
        with suppress(FileNotFoundError):
            self._door.unlink()  # of a worker that was killed, in whose place this one is
        try:
            self._listening = await asyncio.start_unix_server(self._hear, self._door)
        except OSError as error:
            _log.warning("the other workers can't ask this one for metrics and streams: %s", error)

    async def aclose(self) -> None:
        """Answer no more."""
        if self._listening is not None:
            self._listening.close()
        for answering in self._answering:
            answering.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        with suppress(OSError):
            self._door.unlink()

    async def add_metrics(self, own: str) -> str:
        """Return the metrics of all workers, each line with whose it is, given those of this one."""
        asked = await self._ask("metrics")
        told = {door.stem: answer.first.decode() for door, answer in asked.items()}
        for answer in asked.values():
            answer.writer.close()
        return merge(dict(sorted({**told, self._door.stem: own}.items())), "worker")

    async def read_batches(self, run_id: str, after: Place) -> AsyncIterator[Sequence[Placed]]:
        """Yield a run's events after a place as the worker that works on it tells them; none if none does."""
        asked = await self._ask(f"events {run_id} {after}")
        try:
            for answer in list(asked.values())[:1]:
                async for frame in _read_frames(answer.reader):
                    if frame:
                        yield [_decode(line) for line in frame.split(b"\n")]
        finally:
            for answer in asked.values():
                answer.writer.close()

    async def wait_for_sending(self, name: str) -> None:
        """Wait while another worker takes in a task of this name; see gateway.server.taking."""
        asked = await self._ask(f"taking {name}")
        try:
            for answer in asked.values():
                async for _ in _read_frames(answer.reader):
                    continue
        finally:
            for answer in asked.values():
                answer.writer.close()

    async def _ask(self, question: str) -> dict[Path, _Answer]:
        """Ask all others; return those that have an answer, by their sockets."""
        doors = [door for door in self._door.parent.glob("*.sock") if door != self._door]
        answers = await asyncio.gather(*(_ask(door, question) for door in doors))
        return {door: answer for door, answer in zip(doors, answers, strict=True) if answer is not None}

    def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering = asyncio.create_task(self._serve(reader, writer))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                question = await _read_frame(reader)
            async with aclosing(self._answer(question.decode())) as frames:
                async for frame in frames:
                    await _write_frame(writer, frame)
        except (OSError, EOFError, TimeoutError):
            _log.debug("another worker has gone away")
        finally:
            writer.close()

    async def _answer(self, question: str) -> AsyncGenerator[bytes]:
        """Yield the frames of an answer."""
        service, (word, *more) = self._service, question.split()
        if word == "metrics" and service.observing is not None:
            yield (await service.observing.write(service)).encode()
        elif word == "taking" and (taken := service.taking.find(more[0])) is not None:
            yield b""
            await taken.wait()
        elif word == "events" and works_here(service, more[0]):
            yield b""
            batches = read_batches_here(service, more[0], Place.parse(more[1]))
            async with (
                aclosing(batches) as events,  # type: ignore[type-var]  # generators
                aclosing(with_pauses(events, service.stopping, _STILL_HERE_SECONDS)) as told,
            ):
                async for batch in told:
                    yield b"\n".join(_encode(*placed) for placed in batch or ())


@dataclass(frozen=True, slots=True)
class _Answer:
    """What another worker answers: its first frame, and where the others come from."""

    first: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def _ask(door: Path, question: str) -> _Answer | None:
    """Ask one worker; returns None if it has no answer, or is not there."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(door)
            await _write_frame(writer, question.encode())
            return _Answer(await _read_frame(reader), reader, writer)
    except (OSError, EOFError, asyncio.CancelledError) as error:
        if writer is not None:
            writer.close()
        if isinstance(error, asyncio.CancelledError):
            raise
        return None


async def _read_frames(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield frames until the other worker has no more of them, or is gone."""
    with suppress(OSError, EOFError):
        while True:
            yield await _read_frame(reader)


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    return await reader.readexactly(length)


async def _write_frame(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame)
    await writer.drain()


def _encode(place: Place, event: Event) -> bytes:
    return b"%s %b" % (str(place).encode("ascii"), event.model_dump_json())


def _decode(line: bytes) -> Placed:
    place, _, event = line.partition(b" ")
    return Place.parse(place.decode("ascii")), decode_value(Event, event)
