"""A mock backend in a process of its own: an Infernet node without limits, and OpenAI's chat completions.

`python -m benchmarks.mock RTT_MS` prints its port. Jobs end `data.seconds` after they came; their output
tells when, by the machine's monotonic clock. GET /stats tells how many requests came so far.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from typing import Any, cast
from urllib.parse import parse_qs

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "echo",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"},
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
INFO = {
    "chain": {"address": "", "enabled": False},
    "containers": [
        {"description": "", "external": True, "id": name, "image": name} for name in ("echo", "speaker")
    ],
    "pending": {"offchain": 0, "onchain": []},
    "version": "1.4.0",
}


_FIXED = {
    "/v1/chat/completions": CHAT,
    "/health": {"status": "healthy"},
    "/info": INFO,
    "/resources": {},
}


class Backend:
    """The jobs, and what is answered."""

    def __init__(self) -> None:
        """Make it without jobs."""
        self.jobs: dict[str, float] = {}
        self.requests = 0

    def answer(self, method: str, target: str, body: bytes) -> Any:
        """Return the JSON that answers a request."""
        path, _, query = target.partition("?")
        if path == "/stats":
            return {"requests": self.requests}
        self.requests += 1
        if path in _FIXED:
            return _FIXED[path]
        if method == "GET":
            return self._look(parse_qs(query).get("id", []))
        said = json.loads(body)
        return [self._take(job) for job in said] if path.endswith("/batch") else self._take(said)

    def _take(self, job: dict[str, Any]) -> dict[str, str]:
        job_id = str(job.get("id") or uuid.uuid4())
        self.jobs[job_id] = time.monotonic() + float(job["data"].get("seconds", 0.0))
        return {"id": job_id}

    def _look(self, ids: list[str]) -> list[dict[str, Any]]:
        now = time.monotonic()
        return [self._tell(job_id, self.jobs[job_id], now) for job_id in ids if job_id in self.jobs]

    def _tell(self, job_id: str, ends: float, now: float) -> dict[str, Any]:
        if ends > now:
            return {"id": job_id, "result": None, "status": "running"}
        output = {"text": "hello", "ended": ends}
        return {"id": job_id, "result": {"container": "echo", "output": output}, "status": "success"}


class Wire(asyncio.Protocol):
    """As much HTTP/1.1 as the clients here need, and as little work."""

    def __init__(self, backend: Backend, rtt_seconds: float) -> None:
        """Make one connection's."""
        self._backend = backend
        self._rtt_seconds = rtt_seconds
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            size = int(length or 0)
            if len(rest) < size:
                return
            method, target, _ = head.partition(b"\r\n")[0].decode().split(" ", 2)
            self._buffer = rest[size:]
            answer = json.dumps(self._backend.answer(method, target, rest[:size])).encode()
            kind = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self._write_later(kind % len(answer) + answer)

    def _write_later(self, data: bytes) -> None:
        if self._rtt_seconds:
            asyncio.get_running_loop().call_later(self._rtt_seconds, self._write, data)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


async def _serve(rtt_seconds: float) -> None:
    backend = Backend()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Wire(backend, rtt_seconds), "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(float(sys.argv[1]) / 1e3))
    else:
        uvloop.run(_serve(float(sys.argv[1]) / 1e3))


if __name__ == "__main__":
    main()
