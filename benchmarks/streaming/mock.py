"""A mock that streams: OpenAI's chat completions, alone and in a node's container, and inference.sh's tasks.

`python -m benchmarks.streaming.mock` prints its port. A request's last message says how many events it wants,
and how many are written at once: "400" or "400 by 16". Each is a chunk of its own in any case.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from itertools import count, cycle, islice
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from benchmarks.mock import CHAT, INFO

WORDS = tuple(
    f"word {number} " for number in range(1000)
)  # LiteLLM takes the same one again and again for a loop
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST = b"0\r\n\r\n"


class Wish(NamedTuple):
    """A stream that is asked for: how many events, and how many of them are written at once."""

    events: int
    at_once: int = 1

    @classmethod
    def parse(cls, text: str) -> Wish:
        """Read a message; one that wants nothing particular gets one event."""
        found = re.fullmatch(r"(\d+)(?: by (\d+))?", text)
        return cls(int(found[1]), int(found[2] or 1)) if found else cls(1)

    def __str__(self) -> str:
        return f"{self.events} by {self.at_once}"


def make_chunk(data: bytes) -> bytes:
    """Frame a piece of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def make_sse(choices: list[dict[str, Any]]) -> bytes:
    """Return an event of OpenAI's."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "speaker"}
    return b"data: %b\n\n" % json.dumps({**head, "choices": choices}).encode()


def make_delta(number: int) -> bytes:
    """Return a line of inference.sh's."""
    data = {"delta": {"response": WORDS[number % len(WORDS)]}, "seq": number, "resource_id": "1"}
    return json.dumps({"event": "delta", "data": data}).encode() + b"\n"


_WORDS = tuple(
    make_sse([{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}])
    for word in WORDS
)
_END = make_sse([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + b"data: [DONE]\n\n"
_WORD_EVENTS = tuple(map(make_chunk, _WORDS))
_END_EVENT = make_chunk(_END)


class Api:
    """The tasks, and how all is answered."""

    def __init__(self) -> None:
        """Make it without tasks."""
        self.wishes: dict[str, Wish] = {}
        self._numbers = count(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(length.group(1))) if length else b""
                path, _, query = head.split(b" ", 2)[1].decode().partition("?")
                said = json.loads(body) if body else {"ids": parse_qs(query).get("id", [])}
                await self._answer(path, said, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, path: str, said: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        parts = path.strip("/").split("/")
        if parts[0] == "tasks" and parts[-1] == "stream":
            await self._send_lines(parts[1], writer)
        elif parts == ["api", "jobs", "stream"]:
            self.wishes[said["id"]] = Wish.parse(said["data"]["messages"][-1]["content"])
            head = _HEAD % b"text/html; charset=utf-8" + make_chunk(said["id"].encode() + b"\n")
            await _send_events(head, said["data"], writer)
        elif parts[-1] == "completions" and said.get("stream"):
            await _send_events(_HEAD % b"text/event-stream", said, writer)
        else:
            _send_json(self._make_answer(parts, said), writer)
        await writer.drain()

    def _make_answer(self, parts: list[str], said: dict[str, Any]) -> Any:
        if parts == ["apps", "run"]:
            job_id = f"task{next(self._numbers)}"
            self.wishes[job_id] = Wish.parse(said["input"]["text"])
            return {"id": job_id, "status": 7}
        if parts[0] == "tasks":
            output = {"response": "".join(islice(cycle(WORDS), self.wishes[parts[1]].events))}
            return {"id": parts[1], "status": 10, "output": output}
        if parts == ["api", "jobs"]:
            if "ids" in said:
                return [self._tell_job(job_id) for job_id in said["ids"] if job_id in self.wishes]
            self.wishes[said["id"]] = Wish(1)
            return {"id": said["id"]}
        if parts == ["info"]:
            return INFO
        return CHAT if parts[-1] == "completions" else {"status": "healthy", "balance": 1_000_000_000}

    def _tell_job(self, job_id: str) -> dict[str, Any]:
        """Return a node's job that has ended: it keeps all that it has streamed."""
        said = b"".join(islice(cycle(_WORDS), self.wishes[job_id].events)) + _END
        result = {"container": "speaker", "output": {"output": said.decode()}}
        return {"id": job_id, "status": "success", "result": result}

    async def _send_lines(self, job_id: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD % b"application/x-ndjson")
        wish = self.wishes[job_id]
        lines = (make_chunk(make_delta(number)) for number in range(wish.events))
        await _send_many(lines, wish.at_once, writer)
        ended = {"data": {"id": job_id, "status": 10}, "fields": ["status"]}
        writer.write(make_chunk(json.dumps(ended).encode() + b"\n") + _LAST)


async def _send_events(head: bytes, said: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(head)
    wish = Wish.parse(said["messages"][-1]["content"])
    await _send_many(islice(cycle(_WORD_EVENTS), wish.events), wish.at_once, writer)
    writer.write(_END_EVENT + _LAST)


async def _send_many(chunks: Iterable[bytes], at_once: int, writer: asyncio.StreamWriter) -> None:
    """Send the first alone, then so many at once."""
    chunks = iter(chunks)
    size = 1
    while group := b"".join(islice(chunks, size)):
        writer.write(group)
        await writer.drain()
        await asyncio.sleep(0)
        size = at_once


def _send_json(value: Any, writer: asyncio.StreamWriter) -> None:
    body = json.dumps(value).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body) + body)


async def serve() -> None:
    """Serve until killed."""
    server = await asyncio.start_server(Api().serve, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())


if __name__ == "__main__":
    main()
