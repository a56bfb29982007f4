"""Load on one address: `wrk` where it is installed, else a loader of our own that tells the same."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


@dataclass(frozen=True, slots=True)
class Load:
    """What a loader tells.

    Attributes:
        count: good answers.
        rate: the same, a second.
        p50_ms: the time to half of the answers.
        failed: other statuses, and connections that broke.
    """

    count: int
    rate: float
    p50_ms: float
    failed: int


def get_loader() -> str:
    """Return the name of the loader that is used, with its version."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return "a loader of its own (wrk is not installed)"
    told = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False)  # noqa: S603  our own words
    found = re.search(r"wrk\s+(?:debian/)?(\S+)", told.stdout + told.stderr)
    return f"wrk {found.group(1) if found else ''}".strip()


def load(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    connections: int,
    seconds: float,
    pause_ms: int = 0,
) -> Load:
    """Post the same body again and again on so many connections, each with a pause. Raises RuntimeError."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return asyncio.run(_crowd(url, headers, body, connections, seconds, pause_ms))
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(make_script(headers, body, pause_ms))
        words = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "--timeout", "30s"]
        told = subprocess.run(  # noqa: S603  our own words
            [wrk, *words, "-s", str(script), url], capture_output=True, text=True, check=False
        )
    if told.returncode:
        raise RuntimeError(f"wrk broke: {told.stderr[-500:]}")
    return parse_wrk(told.stdout)


def make_script(headers: Mapping[str, str], body: bytes, pause_ms: int = 0) -> str:
    """Return the Lua that makes wrk post a body, on each connection with a pause between two."""
    sent = {"content-type": "application/json", **headers}
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in sent.items()]
    pause = [f"function delay() return {pause_ms} end"] if pause_ms else []
    return "\n".join(['wrk.method = "POST"', f"wrk.body = [==[{body.decode()}]==]", *lines, *pause])


def parse_wrk(told: str) -> Load:
    """Read what wrk prints. Raises ValueError."""
    whole = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", told)
    half = re.search(r"^\s*50%\s+([\d.]+)(us|ms|s|m)\s*$", told, re.MULTILINE)
    if whole is None or half is None:
        raise ValueError(f"this is not what wrk prints: {told[:300]!r}")
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", told)
    wrong = int(errors.group(1)) if errors else 0
    count = int(whole.group(1)) - wrong
    seconds = float(whole.group(2)) * _MILLISECONDS[whole.group(3)] / 1e3
    failed = wrong + (sum(map(int, broken.groups())) if broken else 0)
    return Load(count, count / seconds, float(half.group(1)) * _MILLISECONDS[half.group(2)], failed)


async def _crowd(
    url: str, headers: Mapping[str, str], body: bytes, connections: int, seconds: float, pause_ms: int
) -> Load:
    parts = urlsplit(url)
    sent = {"host": parts.netloc, "content-type": "application/json", **headers, "content-length": len(body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    request = f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
    times: list[float] = []
    failed = 0
    until = time.perf_counter() + seconds

    async def worker() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (began := time.perf_counter()) < until:
            writer.write(request)
            if await read_answer(reader) == 200:
                times.append(time.perf_counter() - began)
            else:
                failed += 1
            if pause_ms:
                await asyncio.sleep(pause_ms / 1e3)
        writer.close()

    await asyncio.gather(*(worker() for _ in range(connections)))
    return Load(len(times), len(times) / seconds, median(times or [0.0]) * 1e3, failed)


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Read one answer to its end and return its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    else:
        found = re.search(rb"content-length: *(\d+)", head)
        await reader.readexactly(int(found.group(1)) if found else 0)
    return int(head.split(b" ", 2)[1])
