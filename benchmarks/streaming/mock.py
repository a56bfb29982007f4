"""A mock that streams: OpenAI's chat completions, alone and in a node's container, and inference.sh's tasks.

`python -m benchmarks.streaming.mock` prints its port. A request's last message says how many events it wants;
each is a chunk of its own, and sixteen are written at once, as they come from a busy socket.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from itertools import count, cycle, islice
from typing import Any
from urllib.parse import parse_qs

from benchmarks.mock import CHAT, INFO

AT_ONCE = 16
WORDS = tuple(
    f"word {number} " for number in range(10)
)  # LiteLLM takes the same one again and again for a loop
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST = b"0\r\n\r\n"


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
        self.counts: dict[str, int] = {}
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
            self.counts[said["id"]] = read_count(said["data"]["messages"][-1]["content"])
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
            self.counts[job_id] = read_count(said["input"]["text"])
            return {"id": job_id, "status": 7}
        if parts[0] == "tasks":
            output = {"response": "".join(islice(cycle(WORDS), self.counts[parts[1]]))}
            return {"id": parts[1], "status": 10, "output": output}
        if parts == ["api", "jobs"]:
            if "ids" in said:
                return [self._tell_job(job_id) for job_id in said["ids"] if job_id in self.counts]
            self.counts[said["id"]] = 1
            return {"id": said["id"]}
        if parts == ["info"]:
            return INFO
        return CHAT if parts[-1] == "completions" else {"status": "healthy", "balance": 1_000_000_000}

    def _tell_job(self, job_id: str) -> dict[str, Any]:
        """Return a node's job that has ended: it keeps all that it has streamed."""
        said = b"".join(islice(cycle(_WORDS), self.counts[job_id])) + _END
        result = {"container": "speaker", "output": {"output": said.decode()}}
        return {"id": job_id, "status": "success", "result": result}

    async def _send_lines(self, job_id: str, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD % b"application/x-ndjson")
        lines = (make_chunk(make_delta(number)) for number in range(self.counts[job_id]))
        await _send_many(lines, writer)
        ended = {"data": {"id": job_id, "status": 10}, "fields": ["status"]}
        writer.write(make_chunk(json.dumps(ended).encode() + b"\n") + _LAST)


async def _send_events(head: bytes, said: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(head)
    wanted = read_count(said["messages"][-1]["content"])
    await _send_many(islice(cycle(_WORD_EVENTS), wanted), writer)
    writer.write(_END_EVENT + _LAST)


async def _send_many(chunks: Iterable[bytes], writer: asyncio.StreamWriter) -> None:
    """Send the first alone, then several at once."""
    chunks = iter(chunks)
    size = 1
    while group := b"".join(islice(chunks, size)):
        writer.write(group)
        await writer.drain()
        await asyncio.sleep(0)
        size = AT_ONCE


def _send_json(value: Any, writer: asyncio.StreamWriter) -> None:
    body = json.dumps(value).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body) + body)


def read_count(text: str) -> int:
    """Return how many events a message asks for."""
    return int(text) if text.isdigit() else 1


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
