"""A process is killed, and another one takes its runs over. Words: store, runs, 1 if it was elsewhere.

With these it measures. Each of the two processes is this script again, with a role and the backend's URL
behind the same words.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiohttp import web

from benchmarks.durability.drives.instant import Endless
from benchmarks.durability.drives.measure import tell
from benchmarks.durability.drives.waiting import make_task, wait_for_all
from gateway import AsyncGateway
from gateway.engine import owner
from gateway.task import Handle, Snapshot

_READY = "ready"
_LIMIT_SECONDS = 120.0


class Looks:
    """The backend: it knows when each job was first looked at, since it was told to forget."""

    def __init__(self, total: int) -> None:
        self.url = ""
        self.seen: dict[str, float] = {}
        self.saw_all = asyncio.Event()
        self._total = total
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/looks", self._note)
        self._runner = web.AppRunner(app)

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])

    async def stop(self) -> None:
        """Stop."""
        await self._runner.cleanup()

    async def _note(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        self.seen = dict.fromkeys(await request.json(), now) | self.seen
        if len(self.seen) >= self._total:
            self.saw_all.set()
        return web.Response()


class Seen(Endless):
    """Tells the backend of each look."""

    def __init__(self, url: str) -> None:
        super().__init__("mock")
        self._url = url

    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        """Look at jobs."""
        await asyncio.to_thread(self._tell, [handle.job_id for handle in handles])
        return await super().poll(handles)

    def _tell(self, ids: list[str]) -> None:
        body = json.dumps(ids).encode()
        with urllib.request.urlopen(f"{self._url}/looks", body, timeout=30):  # noqa: S310  ours, on loopback
            pass


async def measure(store: str, total: int, *, elsewhere: bool) -> None:
    """Kill the process that has the runs; how long until the other has looked at the last of them."""
    looks = Looks(total)
    await looks.start()
    victim = await _start("give", store, total, looks.url, elsewhere=elsewhere)
    heir = await _start("watch", store, total, looks.url, elsewhere=False)
    try:
        victim.kill()
        killed = time.monotonic()
        await victim.wait()
        looks.seen.clear()
        looks.saw_all.clear()
        async with asyncio.timeout(_LIMIT_SECONDS):
            await looks.saw_all.wait()
        times = sorted(at - killed for at in looks.seen.values())
        tell({"first_seconds": times[0], "last_seconds": times[-1]})
    finally:
        heir.kill()
        await heir.wait()
        await looks.stop()


async def work(role: str, store: str, total: int, *, elsewhere: bool, url: str) -> None:
    """Be the process that is killed, or the other."""
    if elsewhere:  # nobody here can see whether it lives
        owner._get_place = lambda: "another-machine"  # type: ignore[assignment]  # noqa: SLF001  that is the aim
    async with AsyncGateway([Seen(url)], store=store) as gateway:
        if role == "give":
            for start in range(0, total, 500):
                numbers = range(start, min(start + 500, total))
                await asyncio.gather(*(gateway.submit(make_task(number), "mock") for number in numbers))
            await wait_for_all(gateway, total)
        print(_READY, flush=True)
        await asyncio.Event().wait()


async def _start(
    role: str, store: str, total: int, url: str, *, elsewhere: bool
) -> asyncio.subprocess.Process:
    words = (store, total, int(elsewhere), role, url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__)), *map(str, words)), stdout=subprocess.PIPE
    )
    if process.stdout is None or _READY not in (await process.stdout.readline()).decode():
        raise RuntimeError(f"{role} did not start")
    return process


if __name__ == "__main__":
    words = sys.argv[1:]
    given, count, is_elsewhere = words[0], int(words[1]), words[2] == "1"
    if len(words) > 3:
        asyncio.run(work(words[3], given, count, elsewhere=is_elsewhere, url=words[4]))
    else:
        asyncio.run(measure(given, count, elsewhere=is_elsewhere))
